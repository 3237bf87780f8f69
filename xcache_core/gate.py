"""Is the input near enough to the one that the stored residual was computed from? Pure functions on tensors.

A gate judges every tile on its own and returns tensors; nothing here reads a value back to the host.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .constants import index_on
from .fingerprint import ENTRIES, Fingerprint, relative_l1, similarity
from .reason import Reason


class Verdict(NamedTuple):
    """A gate's opinion of every tile, [B, R] each."""

    reason: Tensor  # int64: COSINE, DEVIATION, INVALID (not finite) or 0: the stored residual will do
    cosine: Tensor  # float32, the smallest cosine seen; NaN where none was taken
    deviation: Tensor  # float32, the largest deviation seen; NaN where none was taken
    drift: Tensor  # float32 >= 0: what the error budget adds up


class Comparison(NamedTuple):
    """What a gate is given."""

    now: Fingerprint
    old: Fingerprint
    members: Tensor  # float32 [Vt, G], which view is in which group
    action_cosine: Tensor | None  # float32 [B, R]


class Gate(Protocol):
    """The decision piece of a method. `judge` returns reasons for tiles [B, R]."""

    @property
    def measures(self) -> bool:
        """Whether it looks at fingerprints; `judge` gets None in their place otherwise."""

    @property
    def adaptive(self) -> bool:
        """Whether it holds tiles to the cosine threshold and the largest deviation of their tier."""

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """`tau` float32 [B, R] is the cosine threshold, `max_deviation` float32 [B, 1]; `key` is (step, block)."""


@dataclass(frozen=True)
class DualMetric:
    """X-Cache's gate: smallest cosine at least tau *and* largest deviation below the limit.

    `use_cosine` and `use_deviation` leave one of them out, for the single-metric ablations; `entries` are those of the
    fingerprint (`ENTRIES`) that the cosine is taken over.
    """

    use_cosine: bool = True
    use_deviation: bool = True
    entries: tuple[str, ...] = ENTRIES
    measures: bool = True
    adaptive: bool = True

    def __post_init__(self) -> None:
        unknown = [entry for entry in self.entries if entry not in ENTRIES]
        if unknown:
            raise ValueError(f"expected entries of {', '.join(ENTRIES)}, got {unknown[0]!r}")

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """COSINE before DEVIATION; INVALID where a metric is not finite."""
        assert seen is not None
        cosine, deviation = similarity(*seen, self.entries)
        refused = (
            torch.where(deviation < max_deviation, 0, int(Reason.DEVIATION)) if self.use_deviation else 0
        )
        reason = torch.where(cosine >= tau, refused, int(Reason.COSINE) if self.use_cosine else refused)
        reason = torch.where(torch.isfinite(cosine + deviation), reason, int(Reason.INVALID))
        return Verdict(reason, cosine, deviation, 1.0 - cosine)


DUAL_METRIC = DualMetric()


@dataclass(frozen=True)
class RelativeL1:
    """Skip while mean|x - x_old| / mean|x_old| of the sampled tokens is below a threshold (first-block cache, DBPrune).

    With `threshold=inf` only the error budget stops it: the accumulated distance of TeaCache.
    """

    threshold: float
    measures: bool = True
    adaptive: bool = False

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """DEVIATION at or above the threshold; INVALID where the distance is not finite."""
        assert seen is not None
        distance = relative_l1(seen.now, seen.old)
        reason = torch.where(distance < self.threshold, 0, int(Reason.DEVIATION))
        reason = torch.where(torch.isfinite(distance), reason, int(Reason.INVALID))
        return Verdict(reason, torch.full_like(distance, torch.nan), distance, distance)


@dataclass(frozen=True)
class Always:
    """No gate: the schedule alone decides. The control that shows whether a gate matters."""

    measures: bool = False
    adaptive: bool = False

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Nothing is refused."""
        return unmeasured(tau)


@dataclass(frozen=True)
class Table:
    """Calibrated beforehand (MagCache): each skip of (step, block) costs `drift[step][block]` of the error budget."""

    drift: tuple[tuple[float, ...], ...]
    measures: bool = False
    adaptive: bool = False

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Nothing is refused here; the budget is."""
        step, block = key
        return unmeasured(tau, drift=self.drift[step][block])


def adaptive_threshold(ema: Tensor, floor: Tensor, margin: Tensor) -> Tensor:
    """tau_cos = max(floor, ema - margin); the floor alone while nothing has been seen (ema is NaN)."""
    return torch.fmax(floor, ema - margin)


def update_ema(ema: Tensor, seen: Tensor, rate: Tensor) -> Tensor:
    """ema <- rate * seen + (1 - rate) * ema; the first finite observation is taken as it is, others are ignored."""
    blended = torch.where(torch.isnan(ema), seen, rate * seen + (1.0 - rate) * ema)
    return torch.where(torch.isfinite(seen), blended, ema)


def pad_to_bucket(reason: Tensor, closeness: Tensor, buckets: tuple[int, ...]) -> Tensor:
    """Raise the number of computed tiles in each row to a bucket size, with the tiles nearest to a refusal.

    `reason` int64 [B, R] (0 is a skip), `closeness` [B, R] is larger where a refusal is nearer, `buckets` ascending,
    the last one R. Rows that compute nothing stay so. Each row is padded by itself, whatever else is in the batch.
    """
    compute = reason > 0
    count = compute.sum(1, keepdim=True)
    sizes = index_on((0, *buckets), reason.device)
    wanted = sizes[torch.searchsorted(sizes, count)]
    urgency = torch.where(compute, torch.inf, torch.nan_to_num(closeness.double(), nan=-1e300))
    rank = urgency.argsort(stable=True, dim=1, descending=True).argsort(dim=1)
    return torch.where(~compute & (rank < wanted), int(Reason.PADDING), reason)


def unmeasured(like: Tensor, *, drift: float = 0.0) -> Verdict:
    """No objection and nothing measured, for tiles [B, R]."""
    nan = torch.full_like(like, torch.nan)
    return Verdict(torch.zeros_like(like, dtype=torch.int64), nan, nan, torch.full_like(like, drift))
