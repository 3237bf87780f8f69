"""Free-running: every method drives its own session with the same actions. They take turns chunk by chunk."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..benchmarking import HELD_OUT_SEED
from ..diffusion import DiffusionEngine
from ..engine import ChunkResult, OpenRequest, SessionId, SessionOptions
from ..model.world_model import WorldModel
from .methods import Method
from .scenes import Drive


@dataclass
class Run:
    """What one method made of one drive."""

    frames: list[torch.Tensor]  # uint8 [V, F, H, W, 3], the opening frame first
    denoise_ms: list[float] = field(default_factory=list)  # of every chunk: the denoising passes
    dit_ms: list[float] = field(default_factory=list)  # the same and the KV-update pass
    chunk_ms: list[float] = field(default_factory=list)  # everything between action and frames
    caches: list[Mapping[str, Any] | None] = field(default_factory=list)

    @property
    def skip(self) -> float:
        """Share of blocks skipped in the denoising passes."""
        shares = [0.0 if cache is None else cache["skip"] for cache in self.caches]
        return sum(shares) / len(shares)


def race(
    model: WorldModel, methods: Sequence[Method], drive: Drive, device: str, rig: str, steps: int | None
) -> dict[str, Run]:
    """Let all methods repeat a drive; times are comparable because the methods take turns."""
    engines = {method.name: DiffusionEngine(model, device, cache=method.cache) for method in methods}
    sessions, runs = {}, {}
    for method in methods:
        options = SessionOptions(cameras=drive.rig.names, steps=steps, tier=method.tier)
        opened = engines[method.name].open(OpenRequest(drive.scenario, rig, HELD_OUT_SEED, options))
        sessions[method.name] = opened.session
        runs[method.name] = Run([torch.from_numpy(opened.frames)])
        _warm_up(engines[method.name], opened.session, drive)
    for chunk, action in enumerate(drive.actions):
        turn = chunk % len(methods)  # nobody is always the first
        for method in (*methods[turn:], *methods[:turn]):
            start = time.perf_counter()
            result = engines[method.name].step({sessions[method.name]: action})[sessions[method.name]]
            if not isinstance(result, ChunkResult):
                raise result
            _note(runs[method.name], result, (time.perf_counter() - start) * 1e3)
    return runs


def _warm_up(engine: DiffusionEngine, session: SessionId, drive: Drive) -> None:
    """One chunk of a copy that is thrown away: whatever is only built once is built before the clock runs."""
    (copy,) = engine.fork(session)
    engine.step({copy: drive.actions[0]})
    engine.close(copy)


def _note(run: Run, result: ChunkResult, chunk_ms: float) -> None:
    times = result.timings_ms
    run.frames.append(torch.from_numpy(result.frames))
    run.denoise_ms.append(times["denoise"])
    run.dit_ms.append(times["denoise"] + times["kv_update"])
    run.chunk_ms.append(chunk_ms)
    run.caches.append(result.cache)
