"""What a pass adds that skips every block: the sum of its residuals, added up once and kept until one of them changes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .rows import Rows


class Sums:
    """Sums over all blocks of a plane of residuals [keys, L, slots, R, Vt, Nt, C], made when first asked for.

    They follow from the residuals, bit for bit, whenever they are made: no snapshot and no undo log holds them, and
    whoever writes residuals says so with `drop`. Float32 only: half precision rounds a sum of its own too coarsely to
    stand for one addition after another.
    """

    def __init__(self, residuals: Tensor) -> None:
        self._residuals = residuals
        self._sums = torch.zeros_like(residuals[:, 0])
        self._known: set[tuple[int, int]] = set()  # (key, slot)

    def of(self, key: int, rows: Rows) -> Tensor:
        """[B, R, Vt, Nt, C]; possibly a view: use it before the next write."""
        for slot in rows.slots:
            if (key, slot) not in self._known:
                self._add_up(key, slot)
        page = self._sums[key]
        return page.index_select(0, rows.index) if rows.span is None else page[rows.span]

    def drop(self, key: int, slots: Iterable[int]) -> None:
        """Residuals of these slots are about to change."""
        self._known.difference_update((key, slot) for slot in slots)

    def forget(self, slot: int) -> None:
        """Everything about a slot has changed."""
        self._known = {known for known in self._known if known[1] != slot}

    def bytes(self) -> int:
        """Memory held."""
        return self._sums.numel() * self._sums.element_size()

    def _add_up(self, key: int, slot: int) -> None:
        """In the order of the blocks, for the same bits whoever else is in the batch."""
        first, *others = self._residuals[key, :, slot]
        total = self._sums[key, slot].copy_(first)
        for residual in others:
            total += residual
        self._known.add((key, slot))
