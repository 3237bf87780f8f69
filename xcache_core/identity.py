"""Who is asking: slots, chunk, steps and role of every row, and what follows from them alone."""

from collections.abc import Sequence
from math import inf, isinf
from typing import TypeVar

import torch
from torch import Tensor

from .ledger import Numbers
from .method import Setup
from .reason import Reason, is_forced
from .rows import Rows
from .schedule import Policy, Role, forced_codes
from .store import Slot, State

T = TypeVar("T")


class Identity:
    """The identity of a chunk's passes, with the schedule's word on every block and the thresholds of every row.

    Attributes:
        steps: consecutive steps, one pass each; none for a pass that is never cached.
        rows: the slots, in batch order.
        action: float32 [B, A].
        codes: reason codes [T][L][B] of the T steps, on the host.
        forced: the same as int64 [T, L, B, 1].
        numbers: thresholds and position in time.
        plain: whether nothing is ever cached here: no step, or every tier is off.
        looks: whether inputs must be looked at for some row; `blind`, bool [B, 1], are those for which not, or None where
            all are alike.
        limits_deviation: whether the deviation is limited for some row.
        has_budget: whether some row has an error budget.
        checks_skips: whether some row has skips checked.
    """

    def __init__(
        self,
        setup: Setup,
        state: State,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        steps: range,
        role: Role | Sequence[Role],
        action: Tensor | None,
    ) -> None:
        self._setup, self._state, self.steps = setup, state, steps
        slots = [int(slot) for slot in slots]
        _check(setup, state, slots, steps)
        chunks, roles = _per_row(chunk, len(slots), "chunk"), _per_row(role, len(slots), "role")
        self.action = self._checked(action, len(slots))
        self.rows = Rows(slots, setup.plan.layout.tiles, state.device)
        self.codes, self.forced, self.numbers = self._settle(chunks, roles)

    def update(self, chunk: int | Sequence[int], role: Role | Sequence[Role], action: Tensor | None) -> None:
        """Another chunk for the same slots and steps; tensors keep their addresses."""
        count = len(self.rows.slots)
        chunks, roles = _per_row(chunk, count, "chunk"), _per_row(role, count, "role")
        self.action.copy_(self._checked(action, count))
        self.codes, forced, numbers = self._settle(chunks, roles)
        self.forced.copy_(forced)
        for mine, new in zip(self.numbers, numbers, strict=True):
            mine.copy_(new)

    @property
    def keys(self) -> slice:
        """Where these steps are on the axis of what is stored."""
        return self.pages if self._setup.method.axis == "chunk" else slice(0, 1)

    @property
    def pages(self) -> slice:
        """Where these steps are on the axis of what is counted."""
        return slice(self.steps.start, self.steps.stop)

    def is_forced(self, t: int, b: int) -> bool:
        """Whether the host knows that every row must be computed; a captured graph must not bake that in."""
        return self._setup.executor != "graph" and all(map(is_forced, self.codes[t][b]))

    def is_free(self, t: int, b: int) -> bool:
        """Whether the schedule has nothing to say about any row: a skip is for the gate to decide, and not checked."""
        return not any(self.codes[t][b])

    def is_reusable(self, t: int, b: int) -> bool:
        """Whether anything computed here may be reused later: not at an anchor."""
        return any(code not in (Reason.OFF, Reason.ANCHOR) for code in self.codes[t][b])

    def checks(self, t: int, b: int) -> bool:
        """Whether a skip of this block may be checked against the truth."""
        return self.checks_skips and (self._setup.executor == "graph" or Reason.SHADOW in self.codes[t][b])

    def _settle(self, chunks: list[int], roles: list[Role]) -> tuple[list[list[list[int]]], Tensor, Numbers]:
        hosts = [self._state.slots[slot] for slot in self.rows.slots]
        for slot, chunk in zip(hosts, chunks, strict=True):
            slot.first_chunk = chunk if slot.first_chunk is None else slot.first_chunk
        self.plain = not self.steps or not any(slot.policy.enabled for slot in hosts)
        self.looks, self.blind = self._looking([slot.policy for slot in hosts])
        self.limits_deviation = self._setup.method.gate.adaptive and (
            self._setup.executor == "graph" or any(not isinf(slot.policy.max_deviation) for slot in hosts)
        )
        self.has_budget = any(not isinf(slot.policy.budget) for slot in hosts)
        self.checks_skips = any(slot.policy.shadow_every for slot in hosts)
        asked = list(zip(hosts, chunks, roles, strict=True))
        steps = self.steps or range(1)  # numbers that nobody reads, where there is no step
        by_row = [[self._row_codes(step, *row) for row in asked] for step in steps]
        codes = [[list(of_block) for of_block in zip(*rows, strict=True)] for rows in by_row]
        numbers = [[self._row_numbers(step, slot, chunk) for slot, chunk, _ in asked] for step in steps]
        device = self._state.device
        columns = torch.tensor(numbers, dtype=torch.float64, device=device).movedim(-1, 0).contiguous()
        return (
            codes,
            torch.tensor(codes, dtype=torch.int64, device=device).unsqueeze(-1),
            Numbers(*columns[:, :, None, :, None]),
        )

    def _looking(self, policies: list[Policy]) -> tuple[bool, Tensor | None]:
        gate = self._setup.method.gate
        if self._setup.executor == "graph":  # a captured graph must serve every tier
            return gate.measures, None
        looking = [gate.measures and (policy.looks or not gate.adaptive) for policy in policies]
        if all(looking) or not any(looking):
            return any(looking), None
        return True, ~torch.tensor(looking, device=self._state.device).unsqueeze(1)

    def _row_codes(self, step: int, slot: Slot, chunk: int, role: Role) -> list[int]:
        """The schedule's word on every block of a row."""
        method, plan = self._setup.method, self._setup.plan
        codes = forced_codes(
            slot.policy,
            axis=method.axis,
            steps=plan.steps,
            blocks=plan.blocks,
            step=step,
            chunk=chunk,
            first_chunk=chunk if slot.first_chunk is None else slot.first_chunk,
            role=role,
            phase=slot.phase,
        )
        first = max(codes[0], Reason.ANCHOR) if method.probe == "residual" else codes[0]
        return [int(first), *map(int, codes[1:])]

    def _row_numbers(self, step: int, slot: Slot, chunk: int) -> tuple[float, ...]:
        """The `Numbers` of a row."""
        policy = slot.policy
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


def _check(setup: Setup, state: State, slots: list[int], steps: range) -> None:
    if not slots:
        raise ValueError("expected at least one slot, got none")
    state.check_slots(slots)
    if state.plan != setup.plan:
        raise ValueError(f"expected a state of {setup.plan}, got one of {state.plan}")
    wrong = [step for step in steps if not 0 <= step < setup.plan.steps]
    if wrong:
        raise IndexError(f"expected step in 0..{setup.plan.steps - 1} or None, got {wrong[0]}")


def _per_row(value: T | Sequence[T], rows: int, name: str) -> list[T]:
    if not isinstance(value, Sequence):
        return [value] * rows
    if len(value) != rows:
        raise ValueError(f"expected one {name}, or one for each of {rows} rows, got {len(value)}")
    return list(value)
