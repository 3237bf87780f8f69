"""How much of a block's work was skipped, so that a speed-up can be held against what it could be."""

from collections.abc import Sequence

import numpy as np

from xcache_core import Reason

from ..diffusion.cache import block_places
from ..model.blocks import crosses
from ..model.config import DiTConfig, ModelConfig
from .race import Run


def skipped_work(run: Run, model: ModelConfig, views: int) -> float:
    """Share of the arithmetic of the denoising passes that was skipped."""
    shares = [0.0 if cache is None else _skipped(cache["reason"], model, views) for cache in run.caches]
    return sum(shares) / len(shares)


def _skipped(reason: np.ndarray, model: ModelConfig, views: int) -> float:
    """Of one chunk; `reason` [S, L] or [S, L, R]."""
    skipped = (reason == Reason.SKIPPED).reshape(*reason.shape[:2], -1).mean((0, 2))
    work = np.array(stage_work(model, views, apart=reason.shape[1] > model.dit.depth))
    return float(skipped @ work / (work.sum() + work_outside(model)))


def work_outside(model: ModelConfig) -> float:
    """Multiplications per camera of what no cache skips in a pass: into the blocks, out of them, and their modulation."""
    rows, columns = model.latent_size
    width, ends = model.dit.width, 2 * rows * columns * model.tokenizer.channels * model.dit.width
    return float(ends + (6 + 2) * width**2)


def stage_work(model: ModelConfig, views: int, apart: bool) -> list[float]:
    """Multiplications per camera of every row of the cache: a block, or one of its stages."""
    rows, columns = model.latent_size
    tokens = rows * columns
    work: list[float] = []
    for index, places in enumerate(block_places(model.dit, apart)):
        parts = _stages(model.dit, tokens, views, crosses(model.dit, index))
        work += parts if len(places) == 2 else [sum(parts)]
    return work


def _stages(dit: DiTConfig, tokens: int, views: int, crossing: bool) -> Sequence[float]:
    """Attention over time; attention across cameras (where there is one) and the MLP."""
    projections = 4 * tokens * dit.width**2
    over_time = projections + 2 * tokens * (dit.window + 2) * tokens * dit.width
    across = projections + 2 * tokens * views * tokens * dit.width if crossing else 0.0
    mlp = 2 * tokens * dit.width * int(dit.width * dit.mlp_ratio)
    return [float(over_time), float(across + mlp)]
