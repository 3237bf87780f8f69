"""Make clean history look like generated history: the network must repair what it is shown, not trust it.

What rollouts do to pictures: they blur, shift in colour, grain, and lose regions. Each clip of a batch draws its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def degrade(history: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Degrade the re-projected history of some rows.

    Args:
        history: float [B, V, T, F, 4, h, w]: colour in [0, 1] and validity.
        share: probability that a row is degraded at all.
        generator: source of randomness.

    Returns:
        The same shape.
    """
    batch = len(history)
    chosen = torch.rand(batch, generator=generator) < share
    colour, valid = history[..., :3, :, :], history[..., 3:, :, :]
    strength = torch.rand(batch, 4, generator=generator) ** 2 * chosen[:, None]  # mostly mild
    colour = _blur(colour, strength[:, 0])
    colour = _shift_colour(colour, strength[:, 1], generator)
    colour = colour + _rows(0.08 * strength[:, 2]) * torch.randn(colour.shape, generator=generator)
    valid = valid * _kept_regions(history, 0.25 * strength[:, 3], generator)
    return torch.cat([colour.clamp(0, 1) * valid, valid], dim=-3)


def _blur(colour: Tensor, amount: Tensor) -> Tensor:
    """Mix with a 3x3 mean, per row."""
    flat = colour.flatten(0, -4)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1).reshape(colour.shape)
    return torch.lerp(colour, soft, _rows(amount))


def _shift_colour(colour: Tensor, amount: Tensor, generator: torch.Generator) -> Tensor:
    """Gain and offset per row, view and channel."""
    shape = (*colour.shape[:2], 1, 1, 3, 1, 1)
    gain = 1 + 0.2 * _rows(amount) * torch.randn(shape, generator=generator)
    offset = 0.08 * _rows(amount) * torch.randn(shape, generator=generator)
    return colour * gain + offset


def _kept_regions(history: Tensor, rate: Tensor, generator: torch.Generator) -> Tensor:
    """Zero in random patches of 4 x 4 raster cells, the same in all frames of a latent frame."""
    rows, columns = history.shape[-2] // 4, history.shape[-1] // 4
    drawn = torch.rand(*history.shape[:3], 1, 1, rows, columns, generator=generator)
    kept = (drawn >= _rows(rate)).to(history.dtype)
    return kept.repeat_interleave(4, -1).repeat_interleave(4, -2)


def _rows(value: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1, 1, 1, 1]."""
    return value.reshape(-1, 1, 1, 1, 1, 1, 1)
