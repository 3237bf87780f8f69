"""What stands in for a block that is skipped: its last residual, held, extrapolated or moved with the scene."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from .plan import Grid

Order = Literal["hold", "fixed", "fitted", "taylor"]

# Carries a residual [B, V, N, C] of the given age in chunks [B, V, N] to now: (moved, valid bool [B, V, N]).
Transport = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Reuse:
    """The reuse piece of a method: r + a (r - r_previous), optionally transported.

    Args:
        order: `hold`: a = 0. `fixed`: a as given. `fitted`: a from how the last computation really differed from the
            one before, on the fingerprint's tokens, within 0..`limit`. `taylor`: a from the spacing in time.
        a: the fixed coefficient.
        rate: weight of a new fit.
        limit: largest coefficient.
        transport: move the residual with the pass's `Transport`.
        fill: what stands where the transported residual has no source: the residual at its old place, or nothing.
        max_invalid: compute a tile of which more than this share has no source.
    """

    order: Order = "hold"
    a: float = 0.0
    rate: float = 0.3
    limit: float = 1.0
    transport: bool = False
    fill: Literal["hold", "zero"] = "hold"
    max_invalid: float = 0.25

    def __post_init__(self) -> None:
        if self.order not in ("hold", "fixed", "fitted", "taylor"):
            raise ValueError(f"expected order 'hold', 'fixed', 'fitted' or 'taylor', got {self.order!r}")
        if self.fill not in ("hold", "zero"):
            raise ValueError(f"expected fill 'hold' or 'zero', got {self.fill!r}")

    @property
    def keeps_previous(self) -> bool:
        """Whether two residuals are stored."""
        return self.order != "hold"


HOLD = Reuse()


def extrapolate(residual: Tensor, previous: Tensor, a: Tensor) -> Tensor:
    """r + a (r - r_previous) for tiles [B, R, Vt, Nt, C] and a coefficient per tile [B, R].

    Where a is 0 the result is r bit for bit, whatever the previous residual holds.
    """
    a = a.to(residual.dtype)[:, :, None, None, None]
    return torch.where(a == 0, residual, residual + a * (residual - previous))


def coefficient(
    reuse: Reuse, fitted: Tensor, now: Tensor, last: Tensor, previous: Tensor, horizon: Tensor
) -> Tensor:
    """The extrapolation coefficient per tile, float64 [B, R]; 0 where there is no usable previous residual.

    `now`, `last`, `previous` are positions in time (NaN: none), `horizon` the largest age that still belongs together.
    """
    usable = (last > previous) & (now - previous <= horizon)
    if reuse.order == "taylor":
        a = ((now - last) / (last - previous)).clamp(0.0, reuse.limit)
    elif reuse.order == "fitted":
        a = torch.nan_to_num(fitted, nan=0.0)
    else:
        a = torch.full_like(fitted, reuse.a)
    return torch.where(usable, a, 0.0)


def fit(new: Tensor, last: Tensor, previous: Tensor, limit: float) -> Tensor:
    """The a that makes last + a (last - previous) nearest to new, in 0..limit; tokens [n, Vt, K, C] to float64 [n].

    NaN where there is nothing to fit.
    """
    change = (last.float() - previous.float()).flatten(1)
    target = (new.float() - last.float()).flatten(1)
    a = (target * change).sum(1).double() / (change * change).sum(1).double()
    return torch.where(torch.isfinite(a), a.clamp(0.0, limit), torch.nan)


def warp(field: Tensor, flow: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Move token features along a backward flow on the latent grid, bilinearly.

    Args:
        field: [B, V, N, C], N = frames * rows * columns.
        flow: [B, V, N, 2]: for every token, how many (columns, rows) away its content was.
        grid: (frames, rows, columns).

    Returns:
        The moved field, in its own dtype, and bool [B, V, N]: where the source lies inside the grid.
    """
    _, rows, columns = grid
    batch, views, tokens, channels = field.shape
    images = field.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2).float()
    column, row = torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy")
    target = torch.stack([column, row], dim=-1).to(flow)
    source = target + flow.reshape(-1, rows, columns, 2)
    size = source.new_tensor([columns, rows])
    moved = grid_sample(images, (2 * source + 1) / size - 1, padding_mode="border", align_corners=False)
    inside = ((source >= 0) & (source <= size - 1)).all(-1).reshape(batch, views, tokens)
    return moved.permute(0, 2, 3, 1).reshape(field.shape).to(field.dtype), inside


@dataclass(frozen=True)
class FlowBank:
    """A `Transport` made of one flow per age: `flow` [ages, B, V, N, 2], `valid` bool [ages, B, V, N], ages from 1.

    A residual older than the last age has no source; one of age 0 stays where it is.
    """

    flow: Tensor
    valid: Tensor
    grid: Grid

    def __call__(self, residual: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """Carry a residual [B, V, N, C] of age [B, V, N] to now."""
        slot = (age.long() - 1).clamp(0, self.flow.shape[0] - 1)
        known = self.valid.gather(0, slot.unsqueeze(0)).squeeze(0) & (age <= self.flow.shape[0])
        flow = self.flow.gather(0, slot[None, ..., None].expand(1, *slot.shape, 2)).squeeze(0)
        flow = torch.where((age >= 1).unsqueeze(-1), flow, 0.0)
        moved, inside = warp(residual, flow, self.grid)
        return moved, inside & (known | (age == 0))
