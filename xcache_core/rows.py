"""The slots that a pass works on, and how their rows of a plane are reached."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class Rows:
    """Which slots a pass works on, in batch order; neighbours in ascending order are reached without copying."""

    def __init__(self, slots: Sequence[int], tiles: int, device: torch.device) -> None:
        self.slots = list(slots)
        first, last = self.slots[0], self.slots[-1]
        self.span = slice(first, last + 1) if self.slots == list(range(first, last + 1)) else None
        self.index = torch.tensor(self.slots, dtype=torch.int64, device=device)
        self._tiles = tiles

    @cached_property
    def order(self) -> Tensor:
        """Of the batch, int64 [B]."""
        return torch.arange(len(self.slots), device=self.index.device)

    @cached_property
    def flat(self) -> Tensor:
        """Places of all tiles among those of all slots, int64 [B * R]."""
        tiles = torch.arange(self._tiles, device=self.index.device)
        return (self.index[:, None] * self._tiles + tiles).flatten()

    def of(self, plane: Tensor, step: int, block: int | slice) -> Tensor:
        """The pass's rows of a plane: [B, R, ...], or [n, B, R, ...] of some blocks; a view where slots are neighbours."""
        page = plane[step, block]
        axis = 0 if isinstance(block, int) else 1
        if self.span is None:
            return page.index_select(axis, self.index)
        return page.narrow(axis, self.span.start, len(self.slots))

    def of_pages(self, plane: Tensor, steps: slice) -> Tensor:
        """The rows of all blocks at some steps: [T, L, B, R, ...], copied."""
        pages = plane[steps]
        return pages[:, :, self.span].clone() if self.span is not None else pages.index_select(2, self.index)

    def pages(self, plane: Tensor, steps: slice) -> Tensor:
        """The same as a view, to be written to, where slots are neighbours."""
        assert self.span is not None
        return plane[steps][:, :, self.span]

    def put_pages(self, plane: Tensor, steps: slice, value: Tensor) -> None:
        """Overwrite the rows of all blocks at some steps with [T, L, B, R, ...]."""
        pages = plane[steps]
        if self.span is not None:
            pages[:, :, self.span].copy_(value)
        else:
            pages.index_copy_(2, self.index, value.to(pages.dtype))

    def put(self, plane: Tensor, step: int, block: int, value: Tensor) -> None:
        """Overwrite the pass's rows with [B, R, ...]."""
        page = plane[step, block]
        if self.span is not None:
            page[self.span].copy_(value)
        else:
            page.index_copy_(0, self.index, value.to(page.dtype))

    def put_some(self, plane: Tensor, step: int, block: int, chosen: Tensor, value: Tensor) -> None:
        """Overwrite chosen tiles, int64 [n] into the flattened B x R, with [n, ...]."""
        plane[step, block].flatten(0, 1).index_copy_(0, self.flat[chosen], value.to(plane.dtype))
