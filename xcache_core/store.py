"""The state: preallocated residuals, fingerprints and bookkeeping of every (step, block, slot, tile)."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from enum import IntEnum
from math import isnan, nan
from typing import Any

import torch
from torch import Tensor

from .plan import Plan
from .reason import Reason
from .schedule import Policy

STEP0_CODES = ("off", "on", "strict")
NO_LIMIT = -1


class Meta(IntEnum):
    """Columns of the bookkeeping plane, float64 [S, L, slots, R, len(Meta)]."""

    VALID = 0  # 1 when the residual may be used
    SKIPS = 1  # skips in a row
    STAMP = 2  # position in time of the last computation
    PREVIOUS = 3  # position of the one before
    EMA = 4  # of the observed cosine
    DRIFT = 5  # added up since the last computation
    COSINE = 6  # last seen
    DEVIATION = 7  # last seen
    REASON = 8  # last decision
    FIT = 9  # extrapolation coefficient
    ERROR = 10  # last relative error of a checked skip
    ERROR_SUM = 11
    ERROR_COUNT = 12
    AGE = 13  # of the residual at the last decision: 0 when computed


_FRESH = {
    Meta.STAMP: nan,
    Meta.PREVIOUS: nan,
    Meta.EMA: nan,
    Meta.COSINE: nan,
    Meta.DEVIATION: nan,
    Meta.FIT: nan,
}
_FRESH_ROW = tuple(_FRESH.get(column, nan if column is Meta.ERROR else 0.0) for column in Meta)


@dataclass
class Slot:
    """What the host knows of a slot."""

    policy: Policy
    first_chunk: int | None = None  # the first chunk since the reset
    phase: int = 0  # shifts staggered refreshes and shadow checks


class State:
    """Storage for `slots` sessions. Nothing is allocated after construction; every slot is independent.

    Args:
        plan: shapes.
        slots: how many sessions.
        keys: rows on the step axis: `plan.steps`, or 1 when the reuse runs from step to step.
        prints: blocks that store a fingerprint: `plan.blocks`, or 1 when one decision serves all.
        previous: whether the residual before the last one is kept too.
        policy: of every slot until `set_policy`.
        dtype, device: of the block's input; residuals are stored alike.
    """

    def __init__(
        self,
        plan: Plan,
        slots: int,
        *,
        keys: int,
        prints: int,
        previous: bool,
        policy: Policy,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if slots < 1:
            raise ValueError(f"expected slots >= 1, got {slots}")
        self.plan = plan
        self.dtype = dtype
        self.device = torch.device(device)
        self.slots = [Slot(policy) for _ in range(slots)]
        self.gate_ns = 0  # host time spent on deciding
        self.gate_calls = 0
        self._log: Transaction | None = None
        with torch.inference_mode(False):
            self.planes = _allocate(plan, slots, keys, prints, previous, dtype, self.device)
        for slot in range(slots):
            self.reset(slot)

    def __len__(self) -> int:
        return len(self.slots)

    def bytes(self) -> int:
        """Memory held, in bytes, all slots together."""
        return sum(plane.numel() * plane.element_size() for plane in self.planes.values())

    def reset(self, slot: int, *, policy: Policy | None = None, phase: int | None = None) -> None:
        """Forget everything about a slot; its tier and phase stay unless given."""
        self._check_idle(slot)
        old = self.slots[slot]
        self.slots[slot] = Slot(policy or old.policy, None, old.phase if phase is None else phase)
        fresh = torch.tensor(_FRESH_ROW, dtype=torch.float64, device=self.device)
        self.planes["meta"][:, :, slot] = fresh
        self.planes["counts"][:, :, slot] = 0
        self.planes["probe"][:, :, slot] = int(Reason.INVALID)

    def set_policy(self, slot: int, policy: Policy) -> None:
        """Change the tier at a chunk boundary. Stored residuals are dropped; counts and warm-up go on."""
        self._check_idle(slot)
        if policy != self.slots[slot].policy:
            self.slots[slot].policy = policy
            self.planes["meta"][:, :, slot, :, Meta.VALID] = 0.0
            self.planes["meta"][:, :, slot, :, Meta.EMA] = nan
            self.planes["probe"][:, :, slot] = int(Reason.INVALID)

    def fork(self, src: int, dst: int) -> None:
        """Make `dst` an independent copy of `src`."""
        self.check_slots([src, dst])
        if src != dst:
            self.load_slot_state(dst, self.slot_state(src, copy=False))

    def slot_state(self, slot: int, *, copy: bool = True) -> dict[str, Tensor]:
        """Everything about one slot as plain tensors, for a snapshot of its session."""
        self.check_slots([slot])
        state = {name: plane[:, :, slot] for name, plane in self.planes.items()}
        state["host"] = _pack(self.slots[slot])
        return {name: tensor.clone() for name, tensor in state.items()} if copy else state

    def load_slot_state(self, slot: int, state: Mapping[str, Tensor]) -> None:
        """Put what `slot_state` gave into a slot of this or a like state; nothing changes when it does not fit.

        Raises:
            ValueError: a missing or unknown entry, or another shape or dtype.
        """
        self._check_idle(slot)
        expected = {name: plane[:, :, slot] for name, plane in self.planes.items()}
        _check_like({**expected, "host": _pack(self.slots[slot])}, state)
        host = _unpack(state["host"])
        for name, target in expected.items():
            target.copy_(state[name])
        self.slots[slot] = host

    def state_dict(self) -> dict[str, Tensor]:
        """All slots as plain tensors, copied."""
        state = {name: plane.clone() for name, plane in self.planes.items()}
        state["host"] = torch.stack([_pack(slot) for slot in self.slots])
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave; nothing changes when it does not fit.

        Raises:
            ValueError: a missing or unknown entry, or another shape or dtype.
        """
        self._check_idle(0)
        _check_like({**self.planes, "host": torch.stack([_pack(slot) for slot in self.slots])}, state)
        slots = [_unpack(row) for row in state["host"]]
        for name, plane in self.planes.items():
            plane.copy_(state[name])
        self.slots = slots

    def check_slots(self, slots: Sequence[int]) -> None:
        """Raise IndexError for a slot that does not exist, ValueError for one that is named twice."""
        wrong = [slot for slot in slots if not 0 <= slot < len(self.slots)]
        if wrong:
            raise IndexError(f"expected slots in 0..{len(self.slots) - 1}, got {wrong[0]}")
        if len(set(slots)) != len(slots):
            raise ValueError(f"expected each slot once, got {list(slots)}")

    def _check_idle(self, slot: int) -> None:
        self.check_slots([slot])
        if self._log is not None:
            raise RuntimeError("expected no open transaction: slots change between chunks, not inside one")

    def transaction(self, slots: Sequence[int]) -> "Transaction":
        """Keep an undo log of what is written to these slots until `commit`.

        Raises:
            RuntimeError: when one is open already.
        """
        self.check_slots(slots)
        if self._log is not None:
            raise RuntimeError(
                "expected no open transaction, got one that is neither committed nor rolled back"
            )
        self._log = Transaction(self, slots)
        return self._log

    def touch(self, name: str, step: int, block: int) -> None:
        """Called before rows of a plane are overwritten."""
        if self._log is not None:
            self._log.save(name, step, block)


class Transaction:
    """An undo log: `commit()` keeps what was written, `rollback(slots)` restores some or all of its slots.

    Only what is about to be overwritten is copied, so a skipped block costs nothing but its bookkeeping. As a context
    manager it rolls back on an exception and commits otherwise. The log lives on the host: CUDA graphs that write to
    the state are replayed outside it.
    """

    def __init__(self, state: State, slots: Sequence[int]) -> None:
        self._state = state
        self._slots = list(slots)
        self._index = torch.tensor(self._slots, dtype=torch.int64, device=state.device)
        self._hosts = [Slot(**vars(state.slots[slot])) for slot in self._slots]
        self._saved: dict[tuple[str, int, int], Tensor] = {}

    def save(self, name: str, step: int, block: int) -> None:
        """Remember the rows of a plane at (step, block), once."""
        if (name, step, block) not in self._saved:
            page = self._state.planes[name][step, block]
            self._saved[name, step, block] = page.index_select(0, self._index)

    def commit(self) -> None:
        """Keep everything."""
        self._saved.clear()
        if self._state._log is self:
            self._state._log = None

    def rollback(self, slots: Sequence[int] | None = None) -> None:
        """Restore the given slots, or all and close."""
        wanted = self._slots if slots is None else list(slots)
        unknown = [slot for slot in wanted if slot not in self._slots]
        if unknown:
            raise ValueError(f"expected slots of this transaction {self._slots}, got {unknown[0]}")
        for row, slot in enumerate(self._slots):
            if slot in wanted:
                self._restore(row, slot)
        if slots is None:
            self.commit()

    def _restore(self, row: int, slot: int) -> None:
        for (name, step, block), rows in self._saved.items():
            self._state.planes[name][step, block, slot] = rows[row]
        self._state.slots[slot] = Slot(**vars(self._hosts[row]))

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()


class Rows:
    """Which slots a pass works on, in batch order; neighbours in ascending order are reached without copying."""

    def __init__(self, slots: Sequence[int], tiles: int, device: torch.device) -> None:
        self.slots = list(slots)
        first, last = self.slots[0], self.slots[-1]
        self.span = slice(first, last + 1) if self.slots == list(range(first, last + 1)) else None
        self.index = torch.tensor(self.slots, dtype=torch.int64, device=device)
        self.flat = (self.index[:, None] * tiles + torch.arange(tiles, device=device)).flatten()  # [B * R]

    def of(self, plane: Tensor, step: int, block: int) -> Tensor:
        """The pass's rows of a plane: [B, R, ...]; a view where the slots are neighbours."""
        page = plane[step, block]
        return page[self.span] if self.span is not None else page.index_select(0, self.index)

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


def _allocate(
    plan: Plan, slots: int, keys: int, prints: int, previous: bool, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    layout = plan.layout
    views = (keys, prints, slots, layout.tiles, layout.tile_views)
    tiles = (keys, plan.blocks, slots, layout.tiles)
    tile = (layout.tile_views, layout.tile_tokens, layout.channels)
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "residual": ((*tiles, *tile), dtype),
        "spatial": ((*views, len(layout.sampled), layout.channels), dtype),
        "mean": ((*views, layout.channels), torch.float32),
        "action": ((*views[:-1], layout.action_size), torch.float32),
        "moments": ((*views, 3), torch.float32),
        "meta": ((*tiles, len(Meta)), torch.float64),
        "counts": ((keys, plan.blocks, slots, len(Reason)), torch.int64),
        "probe": ((keys, 1, slots, layout.tiles), torch.int64),
    }
    if previous:
        shapes["previous"] = shapes["residual"]
    return {name: torch.zeros(shape, dtype=kind, device=device) for name, (shape, kind) in shapes.items()}


def _pack(slot: Slot) -> Tensor:
    """A slot's host side as float64 numbers, in the order of the policy's fields."""
    policy = dict(zip((f.name for f in fields(Policy)), astuple(slot.policy), strict=True))
    policy["max_skips"] = NO_LIMIT if policy["max_skips"] is None else policy["max_skips"]
    policy["protect_step0"] = STEP0_CODES.index(policy["protect_step0"])
    first = nan if slot.first_chunk is None else slot.first_chunk
    return torch.tensor([first, slot.phase, *policy.values()], dtype=torch.float64)


def _unpack(host: Tensor) -> Slot:
    first, phase, *numbers = host.tolist()
    policy: dict[str, Any] = {f.name: _typed(f.name, x) for f, x in zip(fields(Policy), numbers, strict=True)}
    return Slot(Policy(**policy), None if isnan(first) else int(first), int(phase))


def _typed(name: str, number: float) -> object:
    """A number back to the type of the policy's field."""
    if name == "max_skips":
        return None if number == NO_LIMIT else int(number)
    if name == "protect_step0":
        return STEP0_CODES[int(number)]
    return type(getattr(Policy(), name))(number)


def _check_like(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    if set(expected) != set(got):
        raise ValueError(f"expected entries {sorted(expected)}, got {sorted(got)}")
    for name, tensor in expected.items():
        if tensor.shape != got[name].shape or tensor.dtype != got[name].dtype:
            raise ValueError(f"expected {name} {_describe(tensor)}, got {_describe(got[name])}")


def _describe(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
