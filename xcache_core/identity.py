"""Who is asking: slots, chunk, step and role of every row of a pass, and what follows from them alone."""

from collections.abc import Sequence
from math import inf, isinf
from typing import TypeVar

import torch
from torch import Tensor

from .ledger import Numbers
from .method import Setup
from .reason import Reason, is_forced
from .rows import Rows
from .schedule import Role, forced_reason
from .store import Slot, State

T = TypeVar("T")


class Identity:
    """The identity of a pass, with the schedule's word on every block and the thresholds of every row.

    Attributes:
        rows: the slots, in batch order.
        step: 0..S-1, or None in a pass that is never cached.
        action: float32 [B, A].
        codes: reason codes [L][B], on the host.
        forced: the same as int64 [L, B, 1].
        numbers: thresholds and position in time.
    """

    def __init__(
        self,
        setup: Setup,
        state: State,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        step: int | None,
        role: Role | Sequence[Role],
        action: Tensor | None,
    ) -> None:
        self._setup, self._state, self.step = setup, state, step
        slots = [int(slot) for slot in slots]
        _check(setup, state, slots, step)
        chunks, roles = _per_row(chunk, len(slots), "chunk"), _per_row(role, len(slots), "role")
        self.action = self._checked(action, len(slots))
        self.rows = Rows(slots, setup.plan.layout.tiles, state.device)
        self.codes, self.forced, self.numbers = self._settle(chunks, roles)

    def update(self, chunk: int | Sequence[int], role: Role | Sequence[Role], action: Tensor | None) -> None:
        """Another chunk for the same slots and step; tensors keep their addresses."""
        count = len(self.rows.slots)
        chunks, roles = _per_row(chunk, count, "chunk"), _per_row(role, count, "role")
        self.action.copy_(self._checked(action, count))
        self.codes, forced, numbers = self._settle(chunks, roles)
        self.forced.copy_(forced)
        for mine, new in zip(self.numbers, numbers, strict=True):
            mine.copy_(new)

    @property
    def plain(self) -> bool:
        """Whether nothing in this pass is ever cached: no step, or every tier is off."""
        return self.step is None or not any(slot.policy.enabled for slot in self._hosts)

    @property
    def has_budget(self) -> bool:
        """Whether some row has an error budget."""
        return any(not isinf(slot.policy.budget) for slot in self._hosts)

    def is_forced(self, b: int) -> bool:
        """Whether the host knows that every row must be computed; a captured graph must not bake that in."""
        return self._setup.executor != "graph" and all(is_forced(code) for code in self.codes[b])

    def is_reusable(self, b: int) -> bool:
        """Whether anything computed here may be reused later: not at an anchor."""
        return any(code not in (Reason.OFF, Reason.ANCHOR) for code in self.codes[b])

    def checks_skips(self, b: int) -> bool:
        """Whether a skip of this block may be checked against the truth."""
        if self._setup.executor == "graph":
            return any(slot.policy.shadow_every for slot in self._hosts)
        return Reason.SHADOW in self.codes[b]

    @property
    def _hosts(self) -> list[Slot]:
        return [self._state.slots[slot] for slot in self.rows.slots]

    def _settle(self, chunks: list[int], roles: list[Role]) -> tuple[list[list[int]], Tensor, Numbers]:
        for slot, chunk in zip(self._hosts, chunks, strict=True):
            slot.first_chunk = chunk if slot.first_chunk is None else slot.first_chunk
        asked = list(zip(self._hosts, chunks, roles, strict=True))
        codes = [[self._code(b, *row) for row in asked] for b in range(self._setup.plan.blocks)]
        numbers = [self._row_numbers(slot, chunk) for slot, chunk, _ in asked]
        columns = (
            torch.tensor(numbers, dtype=torch.float64, device=self._state.device).T[:, :, None].contiguous()
        )
        return codes, torch.tensor(codes, device=self._state.device)[:, :, None], Numbers(*columns)

    def _code(self, b: int, slot: Slot, chunk: int, role: Role) -> int:
        method = self._setup.method
        code = forced_reason(
            slot.policy,
            axis=method.axis,
            blocks=self._setup.plan.blocks,
            block=b,
            step=self.step,
            chunk=chunk,
            first_chunk=chunk if slot.first_chunk is None else slot.first_chunk,
            role=role,
            phase=slot.phase,
        )
        return int(max(code, Reason.ANCHOR) if b == 0 and method.probe == "residual" else code)

    def _row_numbers(self, slot: Slot, chunk: int) -> tuple[float, ...]:
        """The `Numbers` of a row."""
        policy, step = slot.policy, self.step or 0
        on_chunks = self._setup.method.axis == "chunk"
        position = chunk if on_chunks else chunk * self._setup.plan.steps + step
        horizon = inf if on_chunks else step
        skips = inf if policy.max_skips is None else policy.max_skips
        thresholds = (policy.floor_at(step), policy.margin, policy.rate, policy.max_deviation)
        return (position, horizon, *thresholds, skips, policy.budget)

    def _checked(self, action: Tensor | None, rows: int) -> Tensor:
        """The action as float32 [B, A]."""
        size = self._setup.plan.layout.action_size
        action = torch.zeros(rows, 0) if action is None else action
        if action.shape[0] != rows or action[0].numel() != size:
            raise ValueError(f"expected an action of [{rows}, {size}] numbers, got {list(action.shape)}")
        return action.detach().reshape(rows, size).to(self._state.device, torch.float32, copy=True)


def _check(setup: Setup, state: State, slots: list[int], step: int | None) -> None:
    if not slots:
        raise ValueError("expected at least one slot, got none")
    state.check_slots(slots)
    if state.plan != setup.plan:
        raise ValueError(f"expected a state of {setup.plan}, got one of {state.plan}")
    if step is not None and not 0 <= step < setup.plan.steps:
        raise IndexError(f"expected step in 0..{setup.plan.steps - 1} or None, got {step}")


def _per_row(value: T | Sequence[T], rows: int, name: str) -> list[T]:
    if not isinstance(value, Sequence):
        return [value] * rows
    if len(value) != rows:
        raise ValueError(f"expected one {name}, or one for each of {rows} rows, got {len(value)}")
    return list(value)
