"""One pass over the blocks: who is asking, and the three verbs decide, execute, remember."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from math import inf, isinf
from time import perf_counter_ns
from typing import TypeVar

import torch
from torch import Tensor

from .executors import EXECUTORS, Block, Job, compute_all, whole
from .fingerprint import Fingerprint, fingerprint, group_members, vector_cosine
from .gate import Verdict, pad_to_bucket, unmeasured
from .ledger import Numbers, Record, Standing, standing
from .memory import Memory, nothing_kept
from .method import Setup
from .reason import Reason, is_forced
from .reuse import Transport, extrapolate
from .rows import Rows
from .schedule import Role, forced_reason
from .store import Slot, State

T = TypeVar("T")


@dataclass
class Choice:
    """What was decided about one block; tensors are [B, R] unless said otherwise."""

    reason: Tensor  # int64, 0 is a skip
    verdict: Verdict
    outcome: Tensor  # float64 [B, R, 3], of what was kept: finite, relative error, fit
    now: Fingerprint | None = None  # of the input, where it is stored
    moved: Tensor | None = None  # the transported residual, [B, R, Vt, Nt, C]
    checked: Tensor | None = None  # what a skip would have used, where skips are checked
    decided: Tensor | None = None  # for the blocks after it, where one block decides for all


class Pass:
    """Rows of a batch going through the blocks once, with their identity. Made by `XCache.enter`.

    Bookkeeping is read before the first block and written after the last one, or when the state is next used.
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
        transport: Transport | None,
    ) -> None:
        self.setup, self.state, self.step = setup, state, step
        slots = [int(slot) for slot in slots]
        self._check(slots, transport)
        chunks, roles = _per_row(chunk, len(slots), "chunk"), _per_row(role, len(slots), "role")
        self._action = self._checked_action(action, len(slots))
        self._transport = transport if setup.method.reuse.transport else None
        self._layout = setup.plan.layout
        self._rows = Rows(slots, self._layout.tiles, state.device)
        self._memory = Memory(state, self._rows, step or 0, setup.method)
        self._samples = torch.tensor(self._layout.sampled, device=state.device)
        self._members = group_members(self._layout, state.device)
        self._codes, self._forced, self._numbers = self._identity(chunks, roles)
        self._standing: Standing | None = None
        self._choices: dict[int, Choice] = {}

    @property
    def plain(self) -> bool:
        """Whether nothing in this pass is ever cached: no step, or every tier is off."""
        return self.step is None or not any(slot.policy.enabled for slot in self._hosts)

    @property
    def _hosts(self) -> list[Slot]:
        return [self.state.slots[slot] for slot in self._rows.slots]

    def run_block(self, b: int, block: Block, x: Tensor) -> Tensor:
        """Block `b` on x [B, V, N, C]: computed or reused, tile by tile.

        Raises:
            IndexError: a block that does not exist.
            ValueError, TypeError: another shape, dtype or device than the state's, of the input or of what the block
                returns; a block that this pass has been through. Nothing is remembered of the block then.
        """
        self._check_input(b, x)
        if self.plain:
            return self._run_plain(b, block, x)
        tiles, forced = self._layout.split(x), self._is_forced(b)
        with torch.no_grad():
            choice = self._choose_forced(b, tiles) if forced else self._choose(b, tiles)
        keep = (
            partial(self._memory.keep, b, choice.outcome, choice.now, choice.checked)
            if self._reusable(b)
            else _drop
        )
        predict = partial(self._predict, b, choice)
        job = Job(block, x, tiles, choice.reason == 0, self._rows.index, self._layout, predict, keep)
        y = whole(job) if forced else EXECUTORS[self.setup.executor](job)
        if b == 0 and self.setup.method.probe is not None:
            with torch.no_grad():
                self._decide_for_all(choice, self._layout.split(y) - tiles)
        self._choices[b] = choice
        if b == self.setup.plan.blocks - 1:
            self.settle()
        return y

    def settle(self) -> None:
        """Write the bookkeeping of the blocks run so far; done by itself after the last block."""
        if not self._choices or self._standing is None:
            return
        started = perf_counter_ns()
        self.state.pending = None
        blocks = sorted(self._choices)
        with torch.no_grad():
            self._memory.settle(blocks, self._standing, self._record(blocks), self._numbers, self._action)
        self._choices, self._standing = {}, None
        self.state.gate_ns += perf_counter_ns() - started

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
        self.settle()
        count = len(self._rows.slots)
        chunks, roles = _per_row(chunk, count, "chunk"), _per_row(role, count, "role")
        self._action.copy_(self._checked_action(action, count))
        self._codes, forced, numbers = self._identity(chunks, roles)
        self._forced.copy_(forced)
        for mine, new in zip(self._numbers, numbers, strict=True):
            mine.copy_(new)

    def _run_plain(self, b: int, block: Block, x: Tensor) -> Tensor:
        y = compute_all(block, x, self._rows.index)
        if self.step is not None:
            shape = (x.shape[0], self._layout.tiles)
            self._memory.count(b, torch.full(shape, int(Reason.OFF), device=x.device))
        return y

    def _begin(self) -> Standing:
        """Read the bookkeeping of all blocks, at the first one."""
        if self._standing is None:
            self.state.settle()
            self.state.pending = self
            self._standing = standing(self._memory.read_all("meta"), self._numbers, self.setup.method.reuse)
            self._max_deviation = self._numbers.max_deviation.float()
            self._outcomes = nothing_kept(self._standing.age)
            self._blank = unmeasured(self._standing.tau[0])
            self._action_cosine = None
            if self._layout.action_size and self.setup.method.gate.adaptive:
                self._action_cosine = vector_cosine(
                    self._memory.read_all("action"), self._action.unsqueeze(1)
                )
        return self._standing

    def _choose_forced(self, b: int, tiles: Tensor) -> Choice:
        """The schedule leaves nothing to the gate."""
        age = self._begin().age[b]
        choice = Choice(self._forced[b].expand_as(age), self._blank, self._outcomes[b])
        if self._reusable(b) and self._memory.has_prints(b):
            choice.now = fingerprint(tiles, self._samples, self._members)
        return choice

    def _choose(self, b: int, tiles: Tensor) -> Choice:
        started = perf_counter_ns()
        books = self._begin()
        moved, occluded = self._move(b, books.age[b])
        now, verdict = self._judge(b, tiles)
        codes = [self._forced[b], books.held[b], verdict.reason]
        if self._has_budget:
            codes.append((verdict.drift > books.room[b]) * int(Reason.STALE))
        if occluded is not None:
            codes.append(occluded * int(Reason.OCCLUDED))
        reason = reduce(torch.maximum, codes)
        if self.setup.buckets is not None:
            reason = pad_to_bucket(reason, _closeness(verdict), self.setup.buckets)
        choice = Choice(reason, verdict, self._outcomes[b], now, moved)
        if self._checks_skips(b):
            choice.checked = self._predict(b, choice).clone()
        self.state.gate_ns += perf_counter_ns() - started
        self.state.gate_calls += 1
        return choice

    def _judge(self, b: int, signal: Tensor) -> tuple[Fingerprint | None, Verdict]:
        """The gate's verdict on tiles [B, R, Vt, Nt, C]; after a probe, what the probe came to."""
        gate, books = self.setup.method.gate, self._begin()
        if b > 0 and self.setup.method.probe is not None:
            return None, self._blank._replace(reason=self._memory.read("probe", 0).clone())
        if not gate.measures:
            return None, gate.judge(None, books.tau[b], self._max_deviation, (self.step or 0, b))
        cosine = None if self._action_cosine is None else self._action_cosine[b]
        now, verdict = self.setup.examine(
            gate,
            signal,
            self._samples,
            self._members,
            self._stored_print(b),
            cosine,
            books.tau[b],
            self._max_deviation,
        )
        if self.setup.method.follow:
            self._memory.keep_print(b, now)
        return now, verdict

    def _stored_print(self, b: int) -> Fingerprint:
        """The stored fingerprint; moved with the scene where it holds every token, so that like is compared."""
        old = self._memory.read_print(b)
        if self._transport is None or old.spatial.shape[3] != self._layout.tile_tokens:
            return old
        moved, _ = self._transport(self._layout.merge(old.spatial), self._layout.spread(self._begin().age[b]))
        return old._replace(spatial=self._layout.split(moved))

    def _decide_for_all(self, choice: Choice, residual: Tensor) -> None:
        """The first block's input, or its residual [B, R, Vt, Nt, C], decides for the blocks after it."""
        if self.setup.method.probe == "input":
            self._memory.note_probe(choice.reason)
            return
        books, stack = self._begin(), min(1, self.setup.plan.blocks - 1)
        now, verdict = self._judge(0, residual)
        assert now is not None
        codes = [
            self._forced[stack],
            books.held[0],
            verdict.reason,
            (verdict.drift > books.room[0]) * int(Reason.STALE),
        ]
        choice.decided = reduce(torch.maximum, codes)
        choice.verdict = verdict
        choice.outcome[..., 0] = torch.isfinite(now.mean.sum((2, 3)))
        self._memory.keep_print(0, now, choice.decided > 0)
        self._memory.note_probe(choice.decided)

    def _move(self, b: int, age: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The stored residual carried to now, and where too little of it has a source."""
        if self._transport is None:
            return None, None
        reuse, residual = self.setup.method.reuse, self._memory.read("residual", b)
        moved, valid = self._transport(self._layout.merge(residual), self._layout.spread(age))
        known = self._layout.split(valid.unsqueeze(-1))
        fill = residual if reuse.fill == "hold" else torch.zeros_like(residual)
        missing = 1.0 - known.double().mean((2, 3, 4))
        return torch.where(known, self._layout.split(moved), fill), missing > reuse.max_invalid

    def _predict(self, b: int, choice: Choice) -> Tensor:
        """The residuals that stand in for the block, [B, R, Vt, Nt, C]."""
        residual = self._memory.read("residual", b) if choice.moved is None else choice.moved
        if not self.setup.method.reuse.keeps_previous:
            return residual
        return extrapolate(residual, self._memory.read("previous", b), self._begin().a[b])

    def _record(self, blocks: list[int]) -> Record:
        """What happened at these blocks, stacked."""
        choices = [self._choices[b] for b in blocks]
        reason = torch.stack([choice.reason for choice in choices])
        outcome = torch.stack([choice.outcome for choice in choices])
        verdicts = [
            torch.stack(column) for column in zip(*(choice.verdict for choice in choices), strict=True)
        ]
        decided = torch.stack(
            [choice.reason if choice.decided is None else choice.decided for choice in choices]
        )
        gated = torch.stack([self._forced[b] for b in blocks]) < Reason.STEP0
        return Record(reason, decided, gated, *verdicts[1:], *outcome.unbind(-1))

    @property
    def _has_budget(self) -> bool:
        return any(not isinf(slot.policy.budget) for slot in self._hosts)

    def _is_forced(self, b: int) -> bool:
        """Whether the host knows that every row must be computed; a captured graph must not bake that in."""
        return self.setup.executor != "graph" and all(is_forced(code) for code in self._codes[b])

    def _reusable(self, b: int) -> bool:
        """Whether anything computed here may be reused later: not at an anchor."""
        return any(code not in (Reason.OFF, Reason.ANCHOR) for code in self._codes[b])

    def _checks_skips(self, b: int) -> bool:
        """Whether a skip of this block may be checked against the truth."""
        if self.setup.executor == "graph":
            return any(slot.policy.shadow_every for slot in self._hosts)
        return Reason.SHADOW in self._codes[b]

    def _identity(self, chunks: list[int], roles: list[Role]) -> tuple[list[list[int]], Tensor, Numbers]:
        """What the schedule alone knows: a code per block and row, as numbers and int64 [L, B, 1]; the row's numbers."""
        for slot, chunk in zip(self._hosts, chunks, strict=True):
            slot.first_chunk = chunk if slot.first_chunk is None else slot.first_chunk
        codes = [self._block_codes(b, chunks, roles) for b in range(self.setup.plan.blocks)]
        rows = [self._row_numbers(slot, chunk) for slot, chunk in zip(self._hosts, chunks, strict=True)]
        columns = torch.tensor(rows, dtype=torch.float64, device=self.state.device).T[:, :, None].contiguous()
        return codes, torch.tensor(codes, device=self.state.device)[:, :, None], Numbers(*columns)

    def _block_codes(self, b: int, chunks: list[int], roles: list[Role]) -> list[int]:
        method = self.setup.method
        codes = []
        for host, chunk, role in zip(self._hosts, chunks, roles, strict=True):
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

    def _row_numbers(self, slot: Slot, chunk: int) -> tuple[float, ...]:
        """The `Numbers` of a row."""
        policy, step = slot.policy, self.step or 0
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
        layout, plan = self._layout, self.setup.plan
        if not 0 <= b < plan.blocks:
            raise IndexError(f"expected block in 0..{plan.blocks - 1}, got {b}")
        if b in self._choices:
            raise ValueError(f"expected each block once in a pass, got block {b} again")
        shape = (len(self._rows.slots), layout.views, layout.tokens, layout.channels)
        if tuple(x.shape) != shape or x.dtype != self.state.dtype or x.device != self._rows.index.device:
            raise ValueError(
                f"expected block input {list(shape)} {self.state.dtype} on {self._rows.index.device}, "
                f"got {list(x.shape)} {x.dtype} on {x.device}"
            )


def _closeness(verdict: Verdict) -> Tensor:
    """Larger where a refusal is nearer."""
    return torch.where(torch.isnan(verdict.cosine), verdict.deviation, -verdict.cosine)


def _drop(y: Tensor, x: Tensor, chosen: Tensor | None, mask: Tensor | None) -> None:
    """Keep nothing."""


def _per_row(value: T | Sequence[T], rows: int, name: str) -> list[T]:
    if not isinstance(value, Sequence):
        return [value] * rows
    if len(value) != rows:
        raise ValueError(f"expected one {name}, or one for each of {rows} rows, got {len(value)}")
    return list(value)
