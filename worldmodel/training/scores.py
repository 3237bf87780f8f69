"""How good rollouts are. No PSNR without motion beside it: a frozen picture scores well on PSNR."""

from collections.abc import Sequence

import numpy as np
import torch

from ..model.config import FRAMES
from ..model.precision import fast_autocast
from ..model.tokenizer import Tokenizer
from .losses import psnr
from .rollout import Rollout

HORIZONS = (1, 2, 4, 8, 16, 24)


def rollout_scores(rollouts: Sequence[Rollout], tokenizer: Tokenizer) -> dict[str, float]:
    """Mean scores of some rollouts against the true frames.

    Returns:
        `psnr_K` after K chunks, `copy_psnr_K` for the opening image kept, `tokenizer_psnr`, `motion_energy_ratio`
        over all frames, `border_motion_ratio`: the same at chunk borders only, over the truth there.
    """
    single = [_scores(rollout, tokenizer) for rollout in rollouts]
    return {name: float(np.mean([scores[name] for scores in single])) for name in single[0]}


def _scores(rollout: Rollout, tokenizer: Tokenizer) -> dict[str, float]:
    frames = rollout.clip.arrays.frames
    assert frames is not None, "expected a clip with frames"
    chunks = len(rollout.latents)
    first = FRAMES * rollout.start
    true = _images(frames[first : first + FRAMES * chunks + 1, rollout.views])
    made = torch.cat([true[:1], _images(rollout.frames)])
    scores: dict[str, float] = {}
    for horizon in (h for h in HORIZONS if h <= chunks):
        span = slice(FRAMES * (horizon - 1) + 1, FRAMES * horizon + 1)
        scores[f"psnr_{horizon}"] = float(psnr(made[span], true[span]))
        scores[f"copy_psnr_{horizon}"] = float(psnr(true[:1].expand_as(true[span]), true[span]))
    scores["tokenizer_psnr"] = _ceiling(rollout, tokenizer, true)
    moved, moves = _energy(made), _energy(true)
    scores["motion_energy_ratio"] = float(moved.mean() / moves.mean())
    border = slice(FRAMES, None, FRAMES)  # from the last image of a chunk to the first of the next
    scores["border_motion_ratio"] = float(moved[border].mean() / moves[border].mean().clamp_min(1e-9))
    return scores


@torch.no_grad()
def _ceiling(rollout: Rollout, tokenizer: Tokenizer, true: torch.Tensor) -> float:
    """What the tokeniser alone reaches on the same frames."""
    latents = rollout.clip.arrays.latents
    assert latents is not None
    span = slice(rollout.start, rollout.start + len(rollout.latents))
    with fast_autocast("cpu"):
        chosen = torch.from_numpy(latents[span][:, rollout.views]).float()
        decoded = tokenizer.decode(chosen, guide_of(rollout)).float()  # T V F 3 H W
    return float(psnr(decoded.transpose(1, 2).flatten(0, 1).clamp(0, 1), true[1:]))


def guide_of(rollout: Rollout) -> torch.Tensor:
    """The layout of a rollout's frames, int8 [T, V, 4, C, h, w]."""
    first, count = FRAMES * rollout.start + 1, FRAMES * len(rollout.latents)
    layout = np.array(rollout.clip.arrays.layout[first : first + count][:, rollout.views])
    return torch.from_numpy(layout).unflatten(0, (-1, FRAMES)).transpose(1, 2)


def _energy(images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring images, [N - 1]."""
    return (images[1:] - images[:-1]).abs().mean(dim=(1, 2, 3, 4))


def _images(frames: np.ndarray) -> torch.Tensor:
    """uint8 [N, V, H, W, 3] -> float [N, V, 3, H, W]."""
    return torch.from_numpy(np.array(frames)).movedim(-1, 2).float() / 255
