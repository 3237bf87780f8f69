"""Chunks of sessions that step together, timed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..benchmarking import HELD_OUT_SEED
from ..diffusion import DiffusionEngine
from ..engine import CHUNK_DT_S, ActionChunk, ChunkResult, OpenRequest, SessionOptions
from ..scene.clock import FRAMES_PER_CHUNK

STAGES = ("scene", "condition", "denoise", "decode", "kv_update")


@dataclass(frozen=True)
class Times:
    """Every chunk of a batch of sessions [ms]; stages are of the whole batch."""

    sessions: int
    first_ms: float  # opening all of them
    chunk_ms: list[float]
    stage_ms: dict[str, list[float]]

    @property
    def realtime_factor(self) -> float:
        """Driving time over the mean time of a chunk. The mean, because only some chunks of a cycle write the KV."""
        return CHUNK_DT_S * 1e3 / float(np.mean(self.chunk_ms))


def time_sessions(
    engine: DiffusionEngine,
    scenarios: Sequence[str],
    rig: str,
    cameras: tuple[str, ...] | None,
    steps: int,
    warm_up: int,
    chunks: int,
) -> Times:
    """Open one session per scenario and let them drive straight on, as one batch, after some chunks that do not count."""
    start = time.perf_counter()
    options = SessionOptions(cameras=cameras, steps=steps)
    opened = [engine.open(OpenRequest(name, rig, HELD_OUT_SEED, options)) for name in scenarios]
    times = Times(len(opened), _ms_since(start), [], {stage: [] for stage in STAGES})
    action = ActionChunk("controls", np.zeros((FRAMES_PER_CHUNK, 2), np.float32))
    for chunk in range(warm_up + chunks):
        start = time.perf_counter()
        results = list(engine.step({one.session: action for one in opened}).values())
        elapsed = _ms_since(start)
        if chunk >= warm_up:
            _note(times, results, elapsed)
    for one in opened:
        engine.close(one.session)
    return times


def encode_ms(engine: DiffusionEngine, views: int, repeats: int = 3) -> float:
    """Encoding the first frames of one session: once when it opens, never in a chunk. The best of some repeats."""
    config, weight = engine.config, next(engine.model.tokenizer.parameters())
    frames = torch.zeros(views, FRAMES_PER_CHUNK, 3, config.height, config.width).to(weight)
    taken = []
    with torch.no_grad():
        for _ in range(repeats):
            start = time.perf_counter()
            engine.model.tokenizer.encode(frames).cpu()
            taken.append(_ms_since(start))
    return min(taken)


def _note(times: Times, results: Sequence[ChunkResult | Exception], elapsed_ms: float) -> None:
    times.chunk_ms.append(elapsed_ms)
    for result in results:
        if not isinstance(result, ChunkResult):
            raise result
    for stage in STAGES:
        # A session's own share is in its result: the stages of a batch are the sum.
        times.stage_ms[stage].append(sum(r.timings_ms[stage] for r in results if isinstance(r, ChunkResult)))


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
