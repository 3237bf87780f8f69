"""When computation is forced, whatever the gate would say: plain functions of who asks and where in the loop."""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from math import inf, isinf
from typing import Literal

from .reason import Reason

Axis = Literal["chunk", "step"]
STRICT_STEP0_COSINE = 0.999


class Role(Enum):
    """What a pass over the blocks is for.

    `KV_UPDATE` marks every pass of a chunk whose result is written into recurrent state: it is computed in full, or its
    last steps are (`Policy.kv_steps`), and refreshes the store. `DENOISE` passes may skip.
    """

    DENOISE = "denoise"
    KV_UPDATE = "kv_update"


@dataclass(frozen=True)
class Policy:
    """The numbers of one quality tier; each slot has its own. Defaults are the paper's (arXiv 2604.20289).

    With a floor of -1, a margin of 2 and no limit to deviation or drift the schedule alone decides: inputs are not
    looked at.

    Args:
        enabled: False computes everything and stores nothing.
        warm_up: chunks computed in full after a reset.
        front, back: anchor blocks at the two ends, always computed.
        floor, margin, rate: cosine threshold max(floor, ema - margin); `rate` is the weight of a new observation.
        max_deviation: largest token change, relative to the mean magnitude.
        max_skips: skips in a row of one (step, block, tile); None is no limit.
        kv_steps: so many last steps of a chunk that updates the KV are computed in full; None is all, as published. The
            last step looks at what the ones before it made and says the clean latent anew, so it alone mends much.
        protect_step0: compute step 0; `"strict"` raises its floor to 0.999 instead.
        budget: drift that may add up between two computations; inf is no limit.
        refresh_every: compute each (step, block) once in this many chunks; 0 is never.
        stagger: spread these refreshes over blocks, steps and slots, so that every chunk costs about the same.
        shadow_every: compute one in this many blocks that would have been skipped, to measure the error; 0 is none.
    """

    enabled: bool = True
    warm_up: int = 1
    front: int = 1
    back: int = 0
    floor: float = 0.97
    margin: float = 0.02
    rate: float = 0.30
    max_deviation: float = 2.00
    max_skips: int | None = None
    kv_steps: int | None = None
    protect_step0: Literal["off", "on", "strict"] = "off"
    budget: float = inf
    refresh_every: int = 0
    stagger: bool = True
    shadow_every: int = 0

    def __post_init__(self) -> None:
        for name in ("warm_up", "front", "back", "refresh_every", "shadow_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"expected 0 < rate <= 1, got {self.rate}")
        for name in ("max_skips", "kv_steps"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise ValueError(f"expected {name} >= 0 or None, got {limit}")
        if self.protect_step0 not in ("off", "on", "strict"):
            raise ValueError(f"expected protect_step0 'off', 'on' or 'strict', got {self.protect_step0!r}")

    @property
    def looks(self) -> bool:
        """Whether a cosine or a deviation could ever refuse anything; otherwise inputs need not be looked at."""
        bounded = self.floor > -1.0 or self.margin < 2.0 or not isinf(self.max_deviation)
        return bounded or not isinf(self.budget) or self.protect_step0 == "strict"

    def exact_kv_steps(self, steps: int) -> int:
        """How many of the last steps, of so many, are computed in full where the KV is updated."""
        return steps if self.kv_steps is None else min(self.kv_steps, steps)

    def floor_at(self, step: int) -> float:
        """The cosine floor of a step."""
        return (
            max(self.floor, STRICT_STEP0_COSINE)
            if self.protect_step0 == "strict" and step == 0
            else self.floor
        )


@dataclass(frozen=True)
class KVCycle:
    """Chunks in cycles of `period`: one is exact and committed, the others only read and share its noise."""

    period: int = 4

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"expected period >= 1, got {self.period}")

    def role(self, chunk: int) -> Role:
        """The first chunk of a cycle updates the KV."""
        return Role.KV_UPDATE if chunk % self.period == 0 else Role.DENOISE

    def noise_epoch(self, chunk: int) -> int:
        """Chunks with the same number start from the same noise."""
        return chunk // self.period


def forced_reason(
    policy: Policy,
    *,
    axis: Axis,
    steps: int,
    blocks: int,
    block: int,
    step: int | None,
    chunk: int,
    first_chunk: int,
    role: Role,
    phase: int = 0,
) -> Reason:
    """Why this block must be computed, or `SHADOW` when a skip here would be checked, or `SKIPPED`: the gate decides.

    `first_chunk` is the first one since the slot was reset, `phase` shifts staggered refreshes and shadow checks of
    one session against another's. `step` is None in a pass that is never cached.
    """
    if not policy.enabled:
        return Reason.OFF
    if step is None or (role is Role.KV_UPDATE and step >= steps - policy.exact_kv_steps(steps)):
        return Reason.KV_UPDATE
    if chunk < first_chunk + policy.warm_up:
        return Reason.WARM_UP
    if block < policy.front or block >= blocks - policy.back:
        return Reason.ANCHOR
    if step == 0 and (axis == "step" or policy.protect_step0 == "on"):
        return Reason.STEP0
    if refresh_due(policy, block=block, step=step, chunk=chunk, phase=phase):
        return Reason.STALE
    if shadow_due(policy.shadow_every, block=block, step=step, chunk=chunk, phase=phase):
        return Reason.SHADOW
    return Reason.SKIPPED


def forced_codes(
    policy: Policy,
    *,
    axis: Axis,
    steps: int,
    blocks: int,
    step: int,
    chunk: int,
    first_chunk: int,
    role: Role,
    phase: int = 0,
) -> tuple[Reason, ...]:
    """`forced_reason` of every block. Most chunks are alike to the schedule, and then it was said before."""
    # Without these nothing but the warm-up is a matter of time.
    if not policy.refresh_every and not policy.shadow_every:
        chunk, first_chunk, phase = min(chunk - first_chunk, policy.warm_up), 0, 0
    return _forced_codes(policy, axis, steps, blocks, step, chunk, first_chunk, role, phase)


@lru_cache(maxsize=1024)
def _forced_codes(
    policy: Policy,
    axis: Axis,
    steps: int,
    blocks: int,
    step: int,
    chunk: int,
    first_chunk: int,
    role: Role,
    phase: int,
) -> tuple[Reason, ...]:
    return tuple(
        forced_reason(
            policy,
            axis=axis,
            steps=steps,
            blocks=blocks,
            block=b,
            step=step,
            chunk=chunk,
            first_chunk=first_chunk,
            role=role,
            phase=phase,
        )
        for b in range(blocks)
    )


def refresh_due(policy: Policy, *, block: int, step: int, chunk: int, phase: int) -> bool:
    """Whether this (step, block) has its turn in a refresh window."""
    if policy.refresh_every == 0:
        return False
    offset = block + step + phase if policy.stagger else 0
    return (chunk + offset) % policy.refresh_every == 0


def shadow_due(every: int, *, block: int, step: int, chunk: int, phase: int) -> bool:
    """One in `every`, spread over blocks, steps and chunks by a fixed mixing of their numbers."""
    if every == 0:
        return False
    mixed = (chunk * 0x9E3779B1 + step * 0x85EBCA6B + block * 0xC2B2AE35 + phase * 0x27D4EB2F) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 12)) % every == 0


def why_never(policy: Policy, *, axis: Axis, steps: int, blocks: int, gated: bool) -> str | None:
    """The reason why a configuration can never skip a block, or None when it can.

    `gated` says whether the decision looks at cosine and deviation at all.
    """
    protected_first = axis == "step" or policy.protect_step0 == "on"
    rules = (
        (not policy.enabled, "the tier is off"),
        (policy.front + policy.back >= blocks, f"all {blocks} blocks are anchors"),
        (policy.max_skips == 0, "max_skips is 0"),
        (policy.refresh_every == 1, "refresh_every is 1"),
        (policy.shadow_every == 1, "shadow_every is 1"),
        (protected_first and steps == 1, "the only step is step 0, which is protected"),
        (policy.budget <= 0.0, "the error budget is 0"),
        (gated and policy.floor > 1.0, f"the cosine floor is {policy.floor}, above 1"),
        (gated and policy.max_deviation <= 0.0, f"max_deviation is {policy.max_deviation}"),
    )
    return next((why for applies, why in rules if applies), None)
