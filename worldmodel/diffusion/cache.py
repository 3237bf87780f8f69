"""X-Cache for sessions of one kind: slots that come and go, and one chunk's way through the blocks.

A chunk that commits refreshes what is stored; the chunks between two commits may reuse it and leave nothing behind that a
later chunk reads. A chunk that commits is exact in `safe`; in the faster tiers its last step is, which says the clean
latent from what cheaper steps before it made, and with one step is all there is. With a KV cycle of one chunk there is
no such place: each chunk may reuse, and what it approximated is committed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xcache_core import PRESETS, Layout, Method, Plan, Policy, Reason, Request, Role, State, XCache, last_seen
from xcache_core.gate import DualMetric
from xcache_core.plan import Cut
from xcache_core.reuse import Transport
from xcache_core.transaction import Transaction

from ..engine import EngineError
from ..model.blocks import Part, Residual, crosses
from ..model.config import FRAMES, DiTConfig, ModelConfig
from ..model.cycle import CyclePlace
from ..rig import Rig

ACTION_DIMS = FRAMES * 3  # of the motion vector: the pose deltas, without what tells the place in the cycle
OFF = "exact"
REASONS = [known.label for known in Reason]
SAMPLES = 16  # of 60 tokens of a camera of `S`; the paper's 32 are 4 in 100 of its

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CacheChoice:
    """Which cache an engine uses: X-Cache in its tiers, or something to compare it with. Tier `exact` is always there.

    Args:
        tiers: the numbers by name.
        make: the cache of a plan.
        cut: what is decided about apart: whole frames, single views, or rows x columns of regions in every view.
        apart: cache attention over time apart from what follows it, in the blocks that attend across cameras. Always so
            unless whole frames are decided about: only then is what single views are computed from their own input.
        samples: tokens of each camera that are compared.
    """

    tiers: Mapping[str, Policy]
    make: Callable[[Plan], XCache] = XCache
    cut: Cut = "frame"
    apart: bool = False
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        object.__setattr__(self, "apart", self.apart or self.cut != "frame")

    def policy(self, tier: str) -> Policy:
        """The numbers of a tier. Raises EngineError with the names of those that there are."""
        if tier not in self.tiers:
            raise EngineError(f"expected a tier of {', '.join(self.tiers)}, got {tier!r}")
        return self.tiers[tier]


# For this project's models, which add what the conditions tell outside of the blocks: their inputs turn and single
# features jump more than the paper's thresholds (`xcache_core.PRESETS`) allow, while a reused residual costs little.
# The cosine alone decides, in `fast` the schedule: nothing is looked at. A low floor, because the steps that commits may
# skip compare inputs of other noise. Measured on `S`, see docs/x-cache.md; to be set anew for other weights with
# `roadloop bench xcache --tune`.
TIERS = {
    "exact": PRESETS["exact"],
    "safe": Policy(front=0, floor=0.8, margin=4.0, max_deviation=inf),
    "balanced": Policy(front=0, floor=0.2, margin=4.0, max_deviation=inf, kv_steps=1, max_skips=31),
    "fast": Policy(front=0, floor=-1.0, margin=4.0, max_deviation=inf, kv_steps=1, max_skips=31),
}
# Without the action entry: what an action does shows in the inputs, and swerving would refuse everything by itself.
XCACHE = Method(DualMetric(entries=("spatial", "mean")))
XCACHE_TIERS = CacheChoice(TIERS, partial(XCache, method=XCACHE))


class SessionCache:
    """The block cache of sessions that share a batch: one `XCache`, and a `State` that grows with the sessions."""

    def __init__(
        self,
        config: ModelConfig,
        steps: int,
        views: int,
        groups: Groups,
        choice: CacheChoice,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.choice, self.xcache = choice, choice.make(cache_plan(config, steps, views, groups, choice))
        self._dtype, self._device = dtype, device
        self.state = self._new_state(1)
        self._free = [0]

    @property
    def moves(self) -> bool:
        """Whether residuals are moved with the scene."""
        return self.xcache.method.reuse.transport

    def take(self, tier: str) -> int:
        """An empty slot of a tier."""
        policy = self.xcache.check_policy(self.choice.policy(tier))
        if not self._free:
            self._grow()
        slot = self._free.pop(0)
        for plane in self.state.planes.values():
            plane[:, :, slot] = 0  # a snapshot holds the whole slot: none of another session's
        self.state.reset(slot, policy=policy)
        return slot

    def give_back(self, slot: int) -> None:
        """Make a slot available again."""
        self._free.append(slot)
        self._free.sort()

    def set_tier(self, slot: int, tier: str) -> None:
        """Another tier from the next chunk on; what is stored is dropped."""
        self.xcache.set_policy(self.state, slot, self.choice.policy(tier))

    def load(self, slot: int, saved: Mapping[str, Tensor]) -> None:
        """Put back what `state.slot_state` gave, perhaps in another number format."""
        like = self.state.slot_state(slot, copy=False)
        self.state.load_slot_state(
            slot,
            {name: tensor.to(like[name].dtype) if name in like else tensor for name, tensor in saved.items()},
        )

    def transaction(self, slots: Sequence[int]) -> Transaction:
        """Undo log of a chunk."""
        return self.state.transaction(slots)

    def _grow(self) -> None:
        before = self.state
        self.state = self._new_state(2 * len(before))
        self.state.gate_ns, self.state.gate_calls = before.gate_ns, before.gate_calls
        for slot in range(len(before)):
            self.state.load_slot_state(slot, before.slot_state(slot, copy=False))
        self._free = list(range(len(before), len(self.state)))

    def _new_state(self, slots: int) -> State:
        return self.xcache.new_state(slots, dtype=self._dtype, device=self._device)


class CachedChunk:
    """One chunk of some sessions: a `RunStack` that decides for every session whether a block is computed.

    Args:
        cache: of their kind.
        slots: in it, in the order of the batch.
        tiers: names, for telemetry.
        chunks: index of each session's chunk.
        places: of these chunks in their cycles.
        cycle: length of a cycle.
        action: [B, ACTION_DIMS].
        transport: moves residuals with the scene, where the cache asks for it.
    """

    def __init__(
        self,
        cache: SessionCache,
        slots: Sequence[int],
        tiers: Sequence[str],
        chunks: Sequence[int],
        places: Sequence[CyclePlace],
        cycle: int,
        action: Tensor,
        transport: Transport | None = None,
    ) -> None:
        self._cache, self._slots, self._tiers = cache, slots, tiers
        self._gate_ns = cache.state.gate_ns
        self._passes = cache.xcache.enter_chunk(
            cache.state,
            slots=slots,
            chunk=chunks,
            role=[role_of(place, cycle) for place in places],
            action=action,
            transport=transport,
        )

    def __call__(self, residuals: Sequence[Residual], x: Tensor, step: int) -> Tensor:
        """See `RunStack`: a block is asked for the sessions, views or regions that need it, and for no others."""
        stages = residuals
        if self._cache.choice.apart:
            stages = [stage for residual in residuals for stage in residual.stages]
        return self._passes[step].run_stack([_asked_for(stage) for stage in stages], x)

    def telemetry(self) -> list[dict[str, Any]]:
        """What happened in each session, once every step is done.

        `reasons` names the codes in `reason` (0 is a skip); `reason`, `cosine`, `deviation`, `age` (chunks) and `error`
        (of a checked skip) are [S, L], or [S, L, R] where single views or regions are decided about, NaN where there
        is none; L counts the stages of blocks that are cached apart. `skip` is the share of skips; `gate_us` the
        session's share of the time spent on deciding; `bytes` what its slot holds.
        """
        state = self._cache.state
        rows = [self._row(slot, tier) for slot, tier in zip(self._slots, self._tiers, strict=True)]
        gate_us = (
            (state.gate_ns - self._gate_ns) / 1e3 / len(rows)
        )  # after the first read has settled the books
        held = state.bytes() // len(state)
        return [row | {"gate_us": gate_us, "bytes": held} for row in rows]

    def _row(self, slot: int, tier: str) -> dict[str, Any]:
        seen = {name: values.numpy() for name, values in last_seen(self._cache.state, slot).items()}
        reason = np.nan_to_num(seen.pop("reason"), nan=Reason.OFF).astype(np.uint8)
        return {
            "tier": tier,
            "reasons": REASONS,
            "reason": reason,
            "skip": float((reason == Reason.SKIPPED).mean()),
            **seen,
        }


def role_of(place: CyclePlace, cycle: int) -> Role:
    """What the denoising passes of a chunk are for."""
    return Role.KV_UPDATE if place.commits and cycle > 1 else Role.DENOISE


def _asked_for(residual: Residual) -> Callable[[Tensor, Request], Tensor]:
    """A residual as `XCache` calls it."""

    def block(x: Tensor, request: Request) -> Tensor:
        if request.everything:
            return x + residual(x)
        return x + residual(x, Part(request.x, request.batch, request.view, request.tokens))

    return block


def cache_plan(config: ModelConfig, steps: int, views: int, groups: Groups, choice: CacheChoice) -> Plan:
    """Shapes of a model's blocks, and how many of them, or of their stages, are cached."""
    rows, columns = config.latent_size
    layout = Layout(
        views,
        rows * columns,
        config.dit.width,
        grid=(1, rows, columns),
        groups=groups,
        cut=choice.cut,
        samples=choice.samples,
        action_size=ACTION_DIMS,
    )
    return Plan(steps, block_places(config.dit, choice.apart)[-1][-1] + 1, layout)


def block_places(config: DiTConfig, apart: bool) -> list[range]:
    """For every block, which rows of the cache are its own: one, or one for each of its stages."""
    sizes = [2 if apart and crosses(config, index) else 1 for index in range(config.depth)]
    ends = list(accumulate(sizes))
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def view_groups(rig: Rig) -> Groups:
    """Which cameras are fingerprinted together: those that the rig names alike."""
    names = [camera.group for camera in rig.cameras]
    return tuple(
        tuple(view for view, name in enumerate(names) if name == group) for group in dict.fromkeys(names)
    )
