"""The state: preallocated residuals, fingerprints and bookkeeping of every (step, block, slot, tile)."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from enum import IntEnum
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .plan import Plan
from .reason import Reason
from .schedule import Policy
from .sums import Sums
from .transaction import Transaction

if TYPE_CHECKING:
    from .books import Books

STEP0_CODES = ("off", "on", "strict")
NO_LIMIT = -1  # how None is kept
LIMITS = ("max_skips", "kv_steps")  # None is no limit


class Meta(IntEnum):
    """Columns of the bookkeeping that decisions rest on, float64 [keys, L, slots, R, len(Meta)]."""

    VALID = 0  # 1 when the residual may be used
    SKIPS = 1  # skips in a row
    STAMP = 2  # position in time of the last computation
    PREVIOUS = 3  # position of the one before
    EMA = 4  # of the observed cosine
    DRIFT = 5  # added up since the last computation
    FIT = 6  # extrapolation coefficient


class Seen(IntEnum):
    """Columns of what was last seen, for reports only, float32 [S, L, slots, R, len(Seen)]."""

    REASON = 0
    COSINE = 1
    DEVIATION = 2
    AGE = 3  # of the residual that was used; 0 when computed
    ERROR = 4  # relative error that a skip would have had, where it was checked


_FRESH = torch.tensor([0.0, 0.0, nan, nan, nan, 0.0, nan], dtype=torch.float64)  # a row of Meta after a reset


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
        sums: whether sums over all blocks are kept, see `Sums`.
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
        sums: bool = False,
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
        self.log: Transaction | None = None
        self.spare: dict[tuple[str, int, int], Tensor] = {}  # what the last log held, for the next one
        self.pending: Books | None = None  # of passes that are under way
        with torch.inference_mode(False):
            self.planes = _allocate(plan, slots, keys, prints, previous, dtype, self.device)
            self.sums = Sums(self.planes["residual"]) if sums else None
        for slot in range(slots):
            self.reset(slot)

    def __len__(self) -> int:
        return len(self.slots)

    def bytes(self) -> int:
        """Memory held, in bytes, all slots together."""
        planes = sum(plane.numel() * plane.element_size() for plane in self.planes.values())
        return planes + (0 if self.sums is None else self.sums.bytes())

    def reset(self, slot: int, *, policy: Policy | None = None, phase: int | None = None) -> None:
        """Forget everything about a slot; its tier and phase stay unless given."""
        self._check_idle(slot)
        old = self.slots[slot]
        self.slots[slot] = Slot(policy or old.policy, None, old.phase if phase is None else phase)
        self.planes["meta"][:, :, slot] = _FRESH.to(self.device)
        self.planes["seen"][:, :, slot] = nan
        self.planes["counts"][:, :, slot] = 0
        self.planes["errors"][:, :, slot] = 0
        self.planes["probe"][:, :, slot] = int(Reason.INVALID)
        self.changed(slot)

    def changed(self, slot: int) -> None:
        """Called after everything about a slot was overwritten."""
        if self.sums is not None:
            self.sums.forget(slot)

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
        self.settle()
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
        self.changed(slot)

    def state_dict(self) -> dict[str, Tensor]:
        """All slots as plain tensors, copied."""
        self.settle()
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
        for slot in range(len(slots)):
            self.changed(slot)

    def check_slots(self, slots: Sequence[int]) -> None:
        """Raise IndexError for a slot that does not exist, ValueError for one that is named twice."""
        wrong = [slot for slot in slots if not 0 <= slot < len(self.slots)]
        if wrong:
            raise IndexError(f"expected slots in 0..{len(self.slots) - 1}, got {wrong[0]}")
        if len(set(slots)) != len(slots):
            raise ValueError(f"expected each slot once, got {list(slots)}")

    def _check_idle(self, slot: int) -> None:
        self.check_slots([slot])
        self.settle()
        if self.log is not None:
            raise RuntimeError("expected no open transaction: slots change between chunks, not inside one")

    def transaction(self, slots: Sequence[int]) -> Transaction:
        """Keep an undo log of what is written to these slots until `commit`.

        Raises:
            RuntimeError: when one is open already.
        """
        self.check_slots(slots)
        if self.log is not None:
            raise RuntimeError(
                "expected no open transaction, got one that is neither committed nor rolled back"
            )
        self.log = Transaction(self, slots)
        return self.log

    def settle(self) -> None:
        """Write the bookkeeping of passes that were left before their last block."""
        if self.pending is not None:
            self.pending.settle()

    def touch(self, name: str, step: int, block: int) -> None:
        """Called before rows of a plane are overwritten."""
        if self.log is not None:
            self.log.save(name, step, block)

    def touch_all(self, name: str) -> None:
        """Called before rows of a plane are overwritten at many places."""
        if self.log is not None:
            self.log.save_all(name)


def _allocate(
    plan: Plan, slots: int, keys: int, prints: int, previous: bool, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    layout = plan.layout
    views = (keys, prints, slots, layout.tiles, layout.tile_views)
    tiles = (keys, plan.blocks, slots, layout.tiles)
    tile = (layout.tile_views, layout.tile_tokens, layout.channels)
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "residual": ((*tiles, *tile), dtype),
        "print": ((*views, len(layout.sampled) + 1, layout.channels), torch.float32),
        "action": ((*views[:-1], layout.action_size), torch.float32),
        "sizes": ((*views[:-1], len(layout.tile_groups), 3), torch.float32),
        "meta": ((*tiles, len(Meta)), torch.float64),
        "seen": ((plan.steps, *tiles[1:], len(Seen)), torch.float32),
        "counts": ((plan.steps, plan.blocks, slots, len(Reason)), torch.int64),
        "errors": ((plan.steps, plan.blocks, slots, 2), torch.float64),  # sum and number of checked skips
        "probe": ((keys, 1, slots, layout.tiles), torch.int64),
    }
    if previous:
        shapes["previous"] = shapes["residual"]
    return {name: torch.zeros(shape, dtype=kind, device=device) for name, (shape, kind) in shapes.items()}


def _pack(slot: Slot) -> Tensor:
    """A slot's host side as float64 numbers, in the order of the policy's fields."""
    policy = dict(zip((f.name for f in fields(Policy)), astuple(slot.policy), strict=True))
    policy |= {name: NO_LIMIT for name in LIMITS if policy[name] is None}
    policy["protect_step0"] = STEP0_CODES.index(policy["protect_step0"])
    first = nan if slot.first_chunk is None else slot.first_chunk
    return torch.tensor([first, slot.phase, *policy.values()], dtype=torch.float64)


def _unpack(host: Tensor) -> Slot:
    first, phase, *numbers = host.tolist()
    policy: dict[str, Any] = {f.name: _typed(f.name, x) for f, x in zip(fields(Policy), numbers, strict=True)}
    return Slot(Policy(**policy), None if isnan(first) else int(first), int(phase))


def _typed(name: str, number: float) -> object:
    """A number back to the type of the policy's field."""
    if name in LIMITS:
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
