"""What each part of the design is worth: one model, the same held-out clips, one thing changed at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ..model.dit import DiT
from ..model.precision import fast_autocast
from ..model.world_model import WorldModel
from .batches import draw_views
from .clips import Clip
from .rollout import RolloutOptions, roll_out
from .scores import rollout_scores

VIEWS = 3


def variants(base: RolloutOptions, window: int) -> dict[str, tuple[RolloutOptions, int]]:
    """Options and window of the rolling KV, by name; the first is the model as it is shipped."""
    steps = {f"{n} steps": (replace(base, steps=n), window) for n in (1, 2, 4, 8) if n != base.steps}
    cycles = {f"cycle {n}": (replace(base, cycle=n), window) for n in (1, 2, 4) if n != base.cycle}
    windows = {f"window {n}": (base, n) for n in (1, 2, 4, 8) if n < window}
    return {
        f"{base.steps} steps, cycle {base.cycle}, window {window}": (base, window),
        **steps,
        **cycles,
        "fresh noise in every chunk": (replace(base, fresh_noise=True), window),
        **windows,
        "without layout": (replace(base, layout=False), window),
        "without carried pictures": (replace(base, history=False), window),
        "without either": (replace(base, layout=False, history=False), window),
        "without motion": (replace(base, motion=False), window),
    }


def judge(
    model: WorldModel,
    clips: Sequence[Clip],
    chunks: int,
    progress: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[str, dict[str, float]]]:
    """Roll every variant out over the first `chunks` chunks of all clips, three neighbouring cameras of each.

    Yields:
        Name and `rollout_scores` of each variant.
    """
    rng = np.random.default_rng(0)
    views = [draw_views(clip, VIEWS, rng) for clip in clips]
    config = model.config
    base = RolloutOptions(chunks, config.steps, config.cycle, config.commit_tau)
    for name, (options, window) in variants(base, config.dit.window).items():
        progress(name)
        with fast_autocast("cpu"), _window(model.dit, window):
            rollouts = roll_out(model.dit, model.tokenizer, clips, [0] * len(clips), views, options)
        yield name, rollout_scores(rollouts, model.tokenizer)


def row(name: str, scores: dict[str, float]) -> str:
    """A row of a Markdown table: PSNR after so many chunks, motion energy, motion at chunk borders."""
    horizons = [f"{value:.1f}" for key, value in scores.items() if key.startswith("psnr_")]
    ratios = [f"{scores[key]:.2f}" for key in ("motion_energy_ratio", "border_motion_ratio")]
    return "| " + " | ".join([name, *horizons, *ratios]) + " |"


@contextmanager
def _window(dit: DiT, window: int) -> Iterator[None]:
    """A network whose rolling KV is as long as told, for a while."""
    own = dit.config
    dit.config = replace(own, window=window)
    try:
        yield
    finally:
        dit.config = own
