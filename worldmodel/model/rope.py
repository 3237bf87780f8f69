"""Rotary position embedding in three flavours: grid (row, column), age (time), and ray direction (across cameras).

A head has 64 dimensions: the first `temporal_dims` are rotated by time, the rest by row and column. Time is applied apart
from space, because the rolling KV keeps keys without it. A rotated part pairs its first half with its second: neighbouring
pairs would be read with a stride of two, which no vector unit likes.
"""

import math

import torch
from torch import Tensor

from .config import HEAD_DIM

AGE_BASE = 100.0  # ages reach window * cycle = 32 latent frames
GRID_BASE = 100.0  # latent grids are some tens of cells wide


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of the last axis against each other; cos and sin broadcast with half as many columns."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def grid_table(
    rows: int, columns: int, dims: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Spatial angles of every latent cell: cos and sin [rows * columns, dims / 2], row pairs then column pairs."""
    frequency = _frequencies(dims // 4, GRID_BASE, device)
    row = torch.arange(rows, device=device, dtype=torch.float32)[:, None, None] * frequency
    column = torch.arange(columns, device=device, dtype=torch.float32)[None, :, None] * frequency
    angle = torch.cat([row.expand(rows, columns, -1), column.expand(rows, columns, -1)], dim=-1).flatten(0, 1)
    return angle.cos(), angle.sin()


def time_table(time: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Temporal angles of times (or negative ages) in latent frames [...]: cos and sin [..., dims / 2].

    In double precision: the times of a long session are large, and only their differences matter.
    """
    angle = time.double()[..., None] * _frequencies(dims // 2, AGE_BASE, time.device).double()
    return angle.cos().float(), angle.sin().float()


def direction_table(rays: Tensor) -> tuple[Tensor, Tensor]:
    """Angles of ray directions, for attention across cameras.

    All cameras of a car stand within a few metres, so what two of them both see lies at about the same azimuth and
    elevation in the ego frame. Whole-number frequencies keep the azimuth periodic.

    Args:
        rays: [..., 6, h, w] Pluecker rays, direction first.

    Returns:
        cos and sin [..., h * w, 32], azimuth pairs then elevation pairs.
    """
    x, y, z = rays[..., :3, :, :].float().flatten(-2).unbind(-2)
    azimuth, elevation = torch.atan2(y, x), torch.atan2(z, torch.hypot(x, y))
    count = HEAD_DIM // 4
    frequency = torch.arange(1, count + 1, device=rays.device, dtype=torch.float32)
    angle = torch.cat([azimuth[..., None] * frequency, elevation[..., None] * frequency], dim=-1)
    return angle.cos(), angle.sin()


def _frequencies(count: int, base: float, device: torch.device | None) -> Tensor:
    exponent = torch.arange(count, device=device, dtype=torch.float32) / count
    return torch.exp(-math.log(base) * exponent)
