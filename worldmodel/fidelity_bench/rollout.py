"""The model drives along: the same actions, the frames of the chunks that are looked at."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..benchmarking import HELD_OUT_SEED
from ..diffusion import DiffusionEngine
from ..engine import ActionChunk, ChunkResult, OpenRequest, SessionId, SessionOptions
from .drives import Truth

Made = dict[int, Tensor]  # by chunk: uint8 [V, 5, H, W, 3], the frame before it first


def play(engine: DiffusionEngine, truth: Truth, options: SessionOptions, chunks: Iterable[int]) -> Made:
    """Open on the true first frame, repeat the drive's actions to the last of some chunks.

    Raises:
        EngineError: a chunk failed.
    """
    wanted = [chunk for chunk in chunks if chunk in truth.windows]
    opened = open_on(engine, truth, options)
    made, before = Made(), torch.from_numpy(opened.frames)
    for chunk in range(max(wanted, default=-1) + 1):
        frames = torch.from_numpy(step(engine, opened.session, truth.actions[chunk]).frames)
        if chunk in wanted:
            made[chunk] = torch.cat([before, frames], dim=1)
        before = frames[:, -1:]
    engine.close(opened.session)
    return made


def open_on(engine: DiffusionEngine, truth: Truth, options: SessionOptions) -> ChunkResult:
    """A session at the drive's beginning."""
    return engine.open(OpenRequest(truth.scenario, engine.config.rig, HELD_OUT_SEED, options))


def step(engine: DiffusionEngine, session: SessionId, action: ActionChunk) -> ChunkResult:
    """One chunk; its error is raised."""
    result = engine.step({session: action})[session]
    if not isinstance(result, ChunkResult):
        raise result
    return result
