"""An undo log, so that a chunk that fails leaves the state as it was."""

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .store import State


class Transaction:
    """An undo log: `commit()` keeps what was written, `rollback(slots)` restores some or all of its slots.

    Only what is about to be overwritten is copied, so a skipped block costs nothing but its bookkeeping. As a context
    manager it rolls back on an exception and commits otherwise. The log lives on the host: CUDA graphs that write to
    the state are replayed outside it. Its memory is kept by the state for the next log: giving it back to the system
    and asking for it anew costs more than the copies.
    """

    def __init__(self, state: "State", slots: Sequence[int]) -> None:
        self._state = state
        self._slots = list(slots)
        self._index = torch.tensor(self._slots, dtype=torch.int64, device=state.device)
        self._hosts = [copy(state.slots[slot]) for slot in self._slots]
        self._cells: dict[tuple[str, int, int], Tensor] = {}  # of one (step, block): [n, ...]
        self._planes: dict[str, Tensor] = {}  # of all: [steps, L, n, ...]

    def save(self, name: str, step: int, block: int) -> None:
        """Remember the rows of a plane at (step, block), once."""
        if (name, step, block) not in self._cells and name not in self._planes:
            page = self._state.planes[name][step, block]
            spare = self._state.spare.pop((name, step, block), None)
            if spare is None or len(spare) != len(self._slots):
                spare = page.new_empty(len(self._slots), *page.shape[1:])
            self._cells[name, step, block] = torch.index_select(page, 0, self._index, out=spare)

    def save_all(self, name: str) -> None:
        """Remember the rows of a small plane everywhere, once: cheaper than place by place."""
        if name not in self._planes:
            self._planes[name] = self._state.planes[name].index_select(2, self._index)

    def commit(self) -> None:
        """Keep everything."""
        self._state.settle()
        self._state.spare |= self._cells
        self._cells = {}
        self._planes.clear()
        if self._state.log is self:
            self._state.log = None

    def rollback(self, slots: Sequence[int] | None = None) -> None:
        """Restore the given slots, or all and close."""
        wanted = self._slots if slots is None else list(slots)
        unknown = [slot for slot in wanted if slot not in self._slots]
        if unknown:
            raise ValueError(f"expected slots of this transaction {self._slots}, got {unknown[0]}")
        self._state.settle()
        for row, slot in enumerate(self._slots):
            if slot in wanted:
                self._restore(row, slot)
        if slots is None:
            self.commit()

    def _restore(self, row: int, slot: int) -> None:
        for name, pages in self._planes.items():
            self._state.planes[name][:, :, slot] = pages[:, :, row]
        for (name, step, block), rows in self._cells.items():
            self._state.planes[name][step, block, slot] = rows[row]
        self._state.slots[slot] = copy(self._hosts[row])
        self._state.changed(slot)

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()
