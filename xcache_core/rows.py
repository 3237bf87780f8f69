"""The slots that a pass works on, and how their rows of a plane are reached."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .constants import index_on


class Rows:
    """Which slots a pass works on, in batch order; neighbours in ascending order are reached without copying."""

    def __init__(self, slots: Sequence[int], tiles: int, device: torch.device) -> None:
        self.slots = list(slots)
        first, last = self.slots[0], self.slots[-1]
        self.span = slice(first, last + 1) if self.slots == list(range(first, last + 1)) else None
        self.index = torch.tensor(self.slots, dtype=torch.int64, device=device)
        self.target = self.index if self.span is None else self.span
        self.flat = (self.index[:, None] * tiles + torch.arange(tiles, device=device)).flatten()  # [B * R]

    def of(self, plane: Tensor, step: int, block: int) -> Tensor:
        """The pass's rows of a plane: [B, R, ...]; a view where the slots are neighbours."""
        page = plane[step, block]
        return page[self.span] if self.span is not None else page.index_select(0, self.index)

    def of_all(self, plane: Tensor, step: int) -> Tensor:
        """The pass's rows of all blocks: [L, B, R, ...], copied."""
        page = plane[step]
        return page[:, self.span].clone() if self.span is not None else page.index_select(1, self.index)

    def run(self, blocks: list[int]) -> slice | Tensor:
        """Ascending block numbers as an index, without copying where they are neighbours."""
        first, last = blocks[0], blocks[-1] + 1
        return (
            slice(first, last) if last - first == len(blocks) else index_on(tuple(blocks), self.index.device)
        )

    def place(self, blocks: list[int]) -> tuple[slice | Tensor, slice | Tensor]:
        """Where [n, B, ...] of these ascending blocks belongs in a page [L, slots, ...]."""
        run = self.run(blocks)
        return (run, self.target) if isinstance(run, slice) else (run[:, None], self.index)

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
