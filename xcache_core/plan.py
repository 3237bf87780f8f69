"""What is cached: the shape of a block's input, how it is cut into tiles, and how many (step, block) pairs there are.

Axis legend: B batch rows, V views, N tokens of a view, C channels, S steps, L blocks. Ours: R tiles of a batch row,
each decided about on its own, of Vt views and Nt tokens. One tile per row is the whole-frame decision of the paper.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import log, prod
from typing import Literal

import torch
from torch import Tensor

from .constants import index_on

Grid = tuple[int, int, int]
Cut = Literal["frame", "view"] | tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """A block's input is [B, views, tokens, channels].

    Args:
        views: cameras stacked on one axis; 1 for a model without them.
        tokens: tokens of one view.
        channels: width of the residual stream.
        grid: (frames, rows, columns) of the tokens of a view, row-major; None when they have no known order.
        groups: a partition of the views; each group has its own fingerprint entries. None is one group.
        cut: what is decided about apart: `"frame"` (everything), `"view"`, or `(rows, columns)`: that many equal
            parts of the grid in every view.
        samples: tokens that the spatial fingerprint takes from a tile of one view (the paper's K).
        action_size: length of the action vector; 0 for a model without one.
    """

    views: int
    tokens: int
    channels: int
    grid: Grid | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    cut: Cut = "frame"
    samples: int = 32
    action_size: int = 0

    def __post_init__(self) -> None:
        for name in ("views", "tokens", "channels", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.action_size < 0:
            raise ValueError(f"expected action_size >= 0, got {self.action_size}")
        if self.grid is not None and prod(self.grid) != self.tokens:
            raise ValueError(f"expected a grid of {self.tokens} tokens, got {self.grid}")
        if self.groups is not None and sorted(v for group in self.groups for v in group) != list(
            range(self.views)
        ):
            raise ValueError(f"expected groups that hold each of {self.views} views once, got {self.groups}")
        if isinstance(self.cut, tuple):
            self._check_cut(self.cut)
        elif self.cut not in ("frame", "view"):
            raise ValueError(f"expected cut 'frame', 'view' or (rows, columns), got {self.cut!r}")

    def _check_cut(self, cut: tuple[int, int]) -> None:
        if self.grid is None:
            raise ValueError(f"expected a grid for cut {cut}, got None")
        for size, parts, name in zip(self.grid[1:], cut, ("rows", "columns"), strict=True):
            if parts < 1 or size % parts:
                raise ValueError(f"expected a cut that divides {size} {name}, got {parts}")

    @property
    def parts(self) -> int:
        """Tiles that one view is cut into."""
        return prod(self.cut) if isinstance(self.cut, tuple) else 1

    @property
    def tiles(self) -> int:
        """Tiles of a batch row (R)."""
        return 1 if self.cut == "frame" else self.views * self.parts

    @property
    def tile_views(self) -> int:
        """Views of a tile (Vt)."""
        return self.views if self.cut == "frame" else 1

    @property
    def tile_tokens(self) -> int:
        """Tokens of one view of a tile (Nt)."""
        return self.tokens // self.parts

    @property
    def tile_grid(self) -> Grid | None:
        """The grid of the tokens of a tile."""
        if self.grid is None or not isinstance(self.cut, tuple):
            return self.grid
        return self.grid[0], self.grid[1] // self.cut[0], self.grid[2] // self.cut[1]

    @property
    def tile_groups(self) -> tuple[tuple[int, ...], ...]:
        """The view groups inside a tile, as indices of its views."""
        if self.tile_views == 1:
            return ((0,),)
        return self.groups or (tuple(range(self.views)),)

    @cached_property
    def sampled(self) -> tuple[int, ...]:
        """Tokens of a tile that its spatial fingerprint takes, ascending; all of them when there are few."""
        return sample_tokens(self.tile_tokens, self.tile_grid, self.samples)

    @cached_property
    def tile_token_index(self) -> tuple[tuple[int, ...], ...]:
        """For every part of a view, which of the view's tokens it holds: `parts` x Nt."""
        if not isinstance(self.cut, tuple) or self.grid is None:
            return (tuple(range(self.tokens)),)
        index = torch.arange(self.tokens).view(
            self.grid[0], self.cut[0], -1, self.cut[1], self.grid[2] // self.cut[1]
        )
        return tuple(tuple(part.tolist()) for part in index.permute(1, 3, 0, 2, 4).reshape(self.parts, -1))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The tokens of a view, part by part."""
        return tuple(n for part in self.tile_token_index for n in part)

    @cached_property
    def _in_order(self) -> bool:
        return self.order == tuple(range(self.tokens))

    def split(self, x: Tensor) -> Tensor:
        """[B, V, N, C] to tiles [B, R, Vt, Nt, C]; a view of x unless the tokens must be reordered."""
        if self.cut == "frame":
            return x.unsqueeze(1)
        if not self._in_order:
            x = x.index_select(2, index_on(self.order, x.device))
        return x.reshape(x.shape[0], self.tiles, 1, self.tile_tokens, x.shape[3])

    def merge(self, tiles: Tensor) -> Tensor:
        """The inverse of `split`."""
        x = tiles.reshape(tiles.shape[0], self.views, self.tokens, tiles.shape[-1])
        if self._in_order:
            return x
        return torch.empty_like(x).index_copy_(2, index_on(self.order, x.device), x)

    def spread(self, per_tile: Tensor) -> Tensor:
        """A number per tile [B, R] to a number per token [B, V, N]."""
        shape = (per_tile.shape[0], self.tiles, self.tile_views, self.tile_tokens, 1)
        return self.merge(per_tile[:, :, None, None, None].expand(shape)).squeeze(-1)


@dataclass(frozen=True)
class Plan:
    """`steps` denoising steps over `blocks` residual blocks whose input has this `layout`."""

    steps: int
    blocks: int
    layout: Layout

    def __post_init__(self) -> None:
        if self.steps < 1 or self.blocks < 1:
            raise ValueError(f"expected steps >= 1 and blocks >= 1, got {self.steps} and {self.blocks}")


def sample_tokens(tokens: int, grid: Grid | None, k: int) -> tuple[int, ...]:
    """About `k` of the token indices, spread evenly over the grid; all of them when there are at most `k`.

    The counts per axis are as the axes themselves (X-Cache, fingerprint); without a grid, evenly on the line.
    """
    if tokens <= k:
        return tuple(range(tokens))
    if grid is None:
        return evenly(tokens, k)
    frames, rows, columns = (
        evenly(size, count) for size, count in zip(grid, axis_counts(grid, k), strict=True)
    )
    return tuple((f * grid[1] + r) * grid[2] + c for f, r, c in product(frames, rows, columns))


def evenly(size: int, count: int) -> tuple[int, ...]:
    """`count` of `size` positions, at the middles of equal parts."""
    return tuple((2 * i + 1) * size // (2 * count) for i in range(count))


def axis_counts(grid: Grid, k: int) -> Grid:
    """Counts per axis, in the proportion of the grid, of which the product is as near to `k` as whole numbers allow."""
    ideal = _proportional(grid, k)
    choices = product(*({max(1, int(x)), min(n, int(x) + 1)} for x, n in zip(ideal, grid, strict=True)))

    def misfit(counts: tuple[int, ...]) -> tuple[float, float]:
        shape = sum(abs(log(c / x)) for c, x in zip(counts, ideal, strict=True))
        return abs(log(prod(counts) / k)), shape

    frames, rows, columns = min(choices, key=misfit)
    return frames, rows, columns


def _proportional(grid: Grid, k: int) -> list[float]:
    """Real-valued counts; an axis that would get less than one keeps one, and the others share what is left."""
    single: set[int] = set()
    while True:
        counts = list(_shares(grid, k, single))
        small = {axis for axis, count in enumerate(counts) if count < 1.0}
        if not small:
            return counts
        single |= small


def _shares(grid: Grid, k: int, single: set[int]) -> Iterator[float]:
    free = [n for axis, n in enumerate(grid) if axis not in single]
    scale = (k / prod(free)) ** (1 / len(free)) if free else 1.0
    for axis, n in enumerate(grid):
        yield 1.0 if axis in single else min(float(n), n * scale)
