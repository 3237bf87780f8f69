"""One pass over the blocks: who is asking, and the three verbs decide, execute, remember."""

from collections.abc import Sequence
from functools import partial
from math import inf
from time import perf_counter_ns
from typing import TypeVar

import torch
from torch import Tensor

from .decide import Decider
from .decision import Decision
from .executors import EXECUTORS, Block, Job, compute_all, whole
from .method import Setup
from .reason import Reason, is_forced
from .remember import Memory
from .reuse import Transport
from .schedule import Role, forced_reason
from .store import Rows, State

T = TypeVar("T")


class Pass:
    """Rows of a batch going through the blocks once, with their identity. Made by `XCache.enter`."""

    def __init__(
        self,
        setup: Setup,
        state: State,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        step: int | None,
        role: Role | Sequence[Role],
        action: Tensor | None,
        transport: Transport | None,
    ) -> None:
        self.setup, self.state, self.step = setup, state, step
        slots = [int(slot) for slot in slots]
        self._check(slots, transport)
        chunks, roles = _per_row(chunk, len(slots), "chunk"), _per_row(role, len(slots), "role")
        action = self._checked_action(action, len(slots))
        key = (step or 0) if setup.method.axis == "chunk" else 0
        self._rows = Rows(slots, setup.plan.layout.tiles, state.device)
        self._memory = Memory(state, self._rows, key, setup.method)
        self._codes, self._forced_codes, self._numbers = self._identity(chunks, roles)
        self._decider = Decider(setup, self._memory, step or 0, self._numbers, action, transport)

    @property
    def plain(self) -> bool:
        """Whether nothing in this pass is ever cached: no step, or every tier is off."""
        return self.step is None or not any(
            self.state.slots[slot].policy.enabled for slot in self._rows.slots
        )

    def run_block(self, b: int, block: Block, x: Tensor) -> Tensor:
        """Block `b` on x [B, V, N, C]: computed or reused, tile by tile.

        Raises:
            IndexError: a block that does not exist.
            ValueError, TypeError: another shape, dtype or device than the state's, of the input or of what the block
                returns. Nothing is remembered of the block then.
        """
        self._check_input(b, x)
        if self.plain:
            return self._run_plain(b, block, x)
        tiles = self.setup.plan.layout.split(x)
        forced = self.setup.executor != "graph" and all(is_forced(code) for code in self._codes[b])
        decision = self._forced(b, tiles) if forced else self._decide(b, tiles)
        keep = partial(self._memory.keep, b, decision) if self._reusable(b) else _drop
        predict = partial(self._decider.predict, b, decision)
        job = Job(
            block, x, tiles, decision.reason == 0, self._rows.index, self.setup.plan.layout, predict, keep
        )
        y = whole(job) if forced else EXECUTORS[self.setup.executor](job)
        with torch.no_grad():
            if b == 0 and self.setup.method.probe == "residual":
                self._judge_stack(decision, self.setup.plan.layout.split(y) - tiles)
            else:
                self._memory.remember(b, decision, self._numbers[0])
        return y

    def update(
        self,
        *,
        chunk: int | Sequence[int],
        role: Role | Sequence[Role] = Role.DENOISE,
        action: Tensor | None = None,
    ) -> None:
        """Move to another chunk in place, same slots and step: what a captured CUDA graph reads at its next replay."""
        if self.plain:
            raise ValueError(
                "expected a pass that may be cached, got one without a step or with every tier off"
            )
        count = len(self._rows.slots)
        chunks, roles = _per_row(chunk, count, "chunk"), _per_row(role, count, "role")
        self._decider.action.copy_(self._checked_action(action, count))
        self._codes, forced, numbers = self._identity(chunks, roles)
        self._forced_codes.copy_(forced)
        self._numbers.copy_(numbers)

    def _run_plain(self, b: int, block: Block, x: Tensor) -> Tensor:
        y = compute_all(block, x, self._rows.index)
        if self.step is not None:
            shape = (x.shape[0], self.setup.plan.layout.tiles)
            self._memory.count(b, torch.full(shape, int(Reason.OFF), device=x.device))
        return y

    def _decide(self, b: int, tiles: Tensor) -> Decision:
        started = perf_counter_ns()
        with torch.no_grad():
            decision = self._decider.decide(b, tiles, self._forced_codes[b])
            if self._checks_skips(b):
                decision.checked = self._decider.predict(b, decision).clone()
        self.state.gate_ns += perf_counter_ns() - started
        self.state.gate_calls += 1
        return decision

    def _forced(self, b: int, tiles: Tensor) -> Decision:
        with torch.no_grad():
            return self._decider.forced(b, tiles if self._reusable(b) else None, self._forced_codes[b])

    def _judge_stack(self, first: Decision, residual: Tensor) -> None:
        """The first block's residual decides for the blocks after it (first-block cache)."""
        self._memory.count(0, first.reason)
        decision = self._decider.decide_stack(
            residual, self._forced_codes[min(1, self.setup.plan.blocks - 1)]
        )
        self._memory.remember_stack(decision, self._numbers[0])

    def _reusable(self, b: int) -> bool:
        """Whether anything computed here may be reused later: not at an anchor."""
        return any(code not in (Reason.OFF, Reason.ANCHOR) for code in self._codes[b])

    def _checks_skips(self, b: int) -> bool:
        """Whether a skip of this block may be checked against the truth."""
        if self.setup.executor == "graph":
            return any(self.state.slots[slot].policy.shadow_every for slot in self._rows.slots)
        return Reason.SHADOW in self._codes[b]

    def _identity(self, chunks: list[int], roles: list[Role]) -> tuple[list[list[int]], Tensor, Tensor]:
        """What the schedule alone knows: a code per block and row, as numbers and int64 [L, B, 1]; the row's numbers."""
        slots = [self.state.slots[slot] for slot in self._rows.slots]
        for slot, chunk in zip(slots, chunks, strict=True):
            slot.first_chunk = chunk if slot.first_chunk is None else slot.first_chunk
        codes = [self._block_codes(b, chunks, roles) for b in range(self.setup.plan.blocks)]
        rows = [self._row_numbers(slot, chunk) for slot, chunk in zip(self._rows.slots, chunks, strict=True)]
        numbers = torch.tensor(rows, dtype=torch.float64, device=self.state.device)
        return (
            codes,
            torch.tensor(codes, device=self.state.device)[:, :, None],
            numbers.T[:, :, None].contiguous(),
        )

    def _block_codes(self, b: int, chunks: list[int], roles: list[Role]) -> list[int]:
        method = self.setup.method
        codes = []
        for slot, chunk, role in zip(self._rows.slots, chunks, roles, strict=True):
            host = self.state.slots[slot]
            code = forced_reason(
                host.policy,
                axis=method.axis,
                blocks=self.setup.plan.blocks,
                block=b,
                step=self.step,
                chunk=chunk,
                first_chunk=chunk if host.first_chunk is None else host.first_chunk,
                role=role,
                phase=host.phase,
            )
            probes = b == 0 and method.probe == "residual"
            codes.append(int(max(code, Reason.ANCHOR) if probes else code))
        return codes

    def _row_numbers(self, slot: int, chunk: int) -> tuple[float, ...]:
        """Position in time and thresholds of a row, as `Decider` unpacks them."""
        policy, step = self.state.slots[slot].policy, self.step or 0
        on_chunks = self.setup.method.axis == "chunk"
        position = chunk if on_chunks else chunk * self.setup.plan.steps + step
        horizon = inf if on_chunks else step
        skips = inf if policy.max_skips is None else policy.max_skips
        thresholds = (policy.floor_at(step), policy.margin, policy.rate, policy.max_deviation)
        return (position, horizon, *thresholds, skips, policy.budget)

    def _check(self, slots: Sequence[int], transport: Transport | None) -> None:
        if not slots:
            raise ValueError("expected at least one slot, got none")
        self.state.check_slots(slots)
        if self.state.plan != self.setup.plan:
            raise ValueError(f"expected a state of {self.setup.plan}, got one of {self.state.plan}")
        if self.step is not None and not 0 <= self.step < self.setup.plan.steps:
            raise IndexError(f"expected step in 0..{self.setup.plan.steps - 1} or None, got {self.step}")
        if self.setup.method.reuse.transport and transport is None:
            raise ValueError("expected a transport, because the method moves residuals, got None")

    def _checked_action(self, action: Tensor | None, rows: int) -> Tensor:
        """The action as float32 [B, A]."""
        size = self.setup.plan.layout.action_size
        if action is None:
            action = torch.zeros(rows, 0)
        if action.shape[0] != rows or action[0].numel() != size:
            raise ValueError(f"expected an action of [{rows}, {size}] numbers, got {list(action.shape)}")
        return action.detach().reshape(rows, size).to(self.state.device, torch.float32, copy=True)

    def _check_input(self, b: int, x: Tensor) -> None:
        layout, plan = self.setup.plan.layout, self.setup.plan
        if not 0 <= b < plan.blocks:
            raise IndexError(f"expected block in 0..{plan.blocks - 1}, got {b}")
        shape = (len(self._rows.slots), layout.views, layout.tokens, layout.channels)
        if tuple(x.shape) != shape or x.dtype != self.state.dtype or x.device != self._rows.index.device:
            raise ValueError(
                f"expected block input {list(shape)} {self.state.dtype} on {self._rows.index.device}, "
                f"got {list(x.shape)} {x.dtype} on {x.device}"
            )


def _drop(residual: Tensor, chosen: Tensor | None, mask: Tensor | None) -> None:
    """Keep nothing."""


def _per_row(value: T | Sequence[T], rows: int, name: str) -> list[T]:
    if not isinstance(value, Sequence):
        return [value] * rows
    if len(value) != rows:
        raise ValueError(f"expected one {name}, or one for each of {rows} rows, got {len(value)}")
    return list(value)
