"""The whole benchmark as plain data: one session stage by stage, growing batches, eager and compiled."""

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from ..benchmarking import percentiles
from ..chosen_model import rig_of
from ..diffusion import DiffusionEngine
from ..model.world_model import WorldModel
from .timing import STAGES, Times, encode_ms, time_sessions
from .work import count_flops, peak_flops


@dataclass(frozen=True)
class Settings:
    """What to run: `steps` denoising steps, batches of these sizes, `chunks` that count after `warm_up` ones."""

    scenarios: Sequence[str]
    steps: int
    device: str = "cpu"
    sizes: Sequence[int] = (1, 2, 4, 8)
    warm_up: int = 4
    chunks: int = 24
    compile: str = ""  # mode of `torch.compile` to compare with; empty for none


def measure(model: WorldModel, settings: Settings) -> dict[str, Any]:
    """Time an engine. The keys are those of docs/benchmarks.md."""
    engine = DiffusionEngine(model, settings.device)
    batches = [_time(engine, settings, size) for size in settings.sizes]
    peak_mb = peak_memory_mb(torch.device(settings.device))
    flops, peak = _flops(engine, settings), peak_flops(torch.device(settings.device), engine.dtype)
    one, rig = batches[0], rig_of(model.config)
    results = {
        "realtime_factor": one.realtime_factor,
        **percentiles(one.chunk_ms, "chunk"),
        "chunk_ms_mean": float(np.mean(one.chunk_ms)),
        **_stages(one),
        "cameras": len(rig),
        "height": rig.height,
        "width": rig.width,
        "sessions_realtime": max((b.sessions for b in batches if b.realtime_factor >= 1), default=0),
        "peak_memory_mb": peak_mb,
        "batch": [_row(batch) for batch in batches],
        "flop_per_chunk": flops,
        "measured_peak_flops": peak,
        "utilisation": flops / (float(np.mean(one.chunk_ms)) * 1e-3 * peak),
        "opening_ms": one.first_ms,
    }
    results["stage_ms"]["encode"] = encode_ms(engine, len(rig))
    results["compiled"] = _compiled(model, settings) if settings.compile else None
    return results


def peak_memory_mb(device: torch.device) -> float:
    """The most that was ever held: by this process, or on the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _time(engine: DiffusionEngine, settings: Settings, sessions: int) -> Times:
    scenarios = list(islice(cycle(settings.scenarios), sessions))
    cameras = engine.config.cameras or None
    return time_sessions(
        engine, scenarios, engine.config.rig, cameras, settings.steps, settings.warm_up, settings.chunks
    )


def _compiled(model: WorldModel, settings: Settings) -> dict[str, Any]:
    """One session with compiled networks. `start_s` is what the first chunks cost before it runs as measured."""
    engine = DiffusionEngine(model, settings.device, compile=settings.compile)
    start = time.perf_counter()
    _time(engine, settings, 1)
    warm_s = time.perf_counter() - start
    times = _time(engine, settings, 1)
    usual_s = (times.first_ms + sum(times.chunk_ms)) * 1e-3
    return {"mode": settings.compile, "start_s": max(0.0, warm_s - usual_s), **_row(times), **_stages(times)}


def _flops(engine: DiffusionEngine, settings: Settings) -> int:
    """Of one chunk of one session, the KV-update pass taken by its share of a cycle."""
    counted = []

    def run() -> None:
        counted.append(
            time_sessions(
                engine,
                settings.scenarios[:1],
                engine.config.rig,
                engine.config.cameras or None,
                settings.steps,
                0,
                engine.config.cycle,
            )
        )

    opening = count_flops(lambda: encode_ms(engine, len(rig_of(engine.config)), 1))
    return (count_flops(run) - opening) // engine.config.cycle


def _stages(times: Times) -> dict[str, Any]:
    p50, p99 = ({s: float(np.percentile(times.stage_ms[s], q)) for s in STAGES} for q in (50, 99))
    mean = {stage: float(np.mean(times.stage_ms[stage])) for stage in STAGES}
    return {"stage_ms": p50, "stage_ms_p99": p99, "stage_ms_mean": mean}


def _row(times: Times) -> dict[str, Any]:
    return {
        "size": times.sessions,
        **percentiles(times.chunk_ms, "chunk"),
        "chunk_ms_mean": float(np.mean(times.chunk_ms)),
        "realtime_factor": times.realtime_factor,
    }
