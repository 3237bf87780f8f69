"""Is the input near enough to the one that the stored residual was computed from? Pure functions on tensors.

A gate judges every tile on its own and returns tensors; nothing here reads a value back to the host.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .fingerprint import Fingerprint, relative_l1, similarity
from .plan import Layout
from .reason import Reason


class Limits(NamedTuple):
    """What a gate may hold a tile to."""

    cosine: Tensor  # float64 [B, R], the adaptive threshold tau_cos
    deviation: Tensor  # float64 [B, 1], tau_dev


class Verdict(NamedTuple):
    """A gate's opinion of every tile, [B, R] each."""

    reason: Tensor  # int64: COSINE, DEVIATION, INVALID (not finite) or 0: the stored residual will do
    cosine: Tensor  # float64, the smallest cosine seen; NaN where none was taken
    deviation: Tensor  # float64, the largest deviation seen; NaN where none was taken
    drift: Tensor  # float64 >= 0: what the error budget adds up


class Gate(Protocol):
    """The decision piece of a method."""

    @property
    def measures(self) -> bool:
        """Whether it looks at fingerprints."""

    @property
    def adaptive(self) -> bool:
        """Whether it holds tiles to the adaptive cosine threshold."""

    def judge(
        self,
        now: Fingerprint | None,
        old: Fingerprint | None,
        limits: Limits,
        layout: Layout,
        key: tuple[int, int],
    ) -> Verdict:
        """Judge every tile; `key` is (step, block)."""


@dataclass(frozen=True)
class DualMetric:
    """X-Cache's gate: smallest cosine at least tau_cos *and* largest deviation below tau_dev.

    `use_cosine` and `use_deviation` leave one of them out, for the single-metric ablations.
    """

    use_cosine: bool = True
    use_deviation: bool = True
    measures: bool = True
    adaptive: bool = True

    def judge(
        self,
        now: Fingerprint | None,
        old: Fingerprint | None,
        limits: Limits,
        layout: Layout,
        key: tuple[int, int],
    ) -> Verdict:
        """The larger code wins: INVALID over COSINE over DEVIATION."""
        assert now is not None
        assert old is not None
        cosine, deviation = (metric.double() for metric in similarity(now, old, layout))
        reason = torch.where(torch.isfinite(cosine + deviation), 0, int(Reason.INVALID))
        if self.use_cosine:
            reason = _veto(reason, cosine < limits.cosine, Reason.COSINE)
        if self.use_deviation:
            reason = _veto(reason, deviation >= limits.deviation, Reason.DEVIATION)
        return Verdict(reason, cosine, deviation, (1.0 - cosine).clamp_min(0.0))


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
        self,
        now: Fingerprint | None,
        old: Fingerprint | None,
        limits: Limits,
        layout: Layout,
        key: tuple[int, int],
    ) -> Verdict:
        """DEVIATION at or above the threshold."""
        assert now is not None
        assert old is not None
        distance = relative_l1(now, old).double()
        reason = torch.where(torch.isfinite(distance), 0, int(Reason.INVALID))
        reason = _veto(reason, distance >= self.threshold, Reason.DEVIATION)
        return Verdict(reason, torch.full_like(distance, torch.nan), distance, distance)


@dataclass(frozen=True)
class Always:
    """No gate: the schedule alone decides. The control that shows whether a gate matters."""

    measures: bool = False
    adaptive: bool = False

    def judge(
        self,
        now: Fingerprint | None,
        old: Fingerprint | None,
        limits: Limits,
        layout: Layout,
        key: tuple[int, int],
    ) -> Verdict:
        """Nothing is refused."""
        return unmeasured(limits.cosine)


@dataclass(frozen=True)
class Table:
    """Calibrated beforehand (MagCache): each skip of (step, block) costs `drift[step][block]` of the error budget."""

    drift: tuple[tuple[float, ...], ...]
    measures: bool = False
    adaptive: bool = False

    def judge(
        self,
        now: Fingerprint | None,
        old: Fingerprint | None,
        limits: Limits,
        layout: Layout,
        key: tuple[int, int],
    ) -> Verdict:
        """Nothing is refused here; the budget is."""
        step, block = key
        return unmeasured(limits.cosine, drift=self.drift[step][block])


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
    sizes = torch.tensor((0, *buckets), device=reason.device)
    wanted = sizes[torch.searchsorted(sizes, count)]
    urgency = torch.where(compute, torch.inf, torch.nan_to_num(closeness.double(), nan=-1e300))
    rank = urgency.argsort(stable=True, dim=1, descending=True).argsort(dim=1)
    return torch.where(~compute & (rank < wanted), int(Reason.PADDING), reason)


def _veto(reason: Tensor, refused: Tensor, code: Reason) -> Tensor:
    return torch.maximum(reason, refused * int(code))


def unmeasured(like: Tensor, *, drift: float = 0.0) -> Verdict:
    """No objection and nothing measured, for tiles [B, R]."""
    nan = torch.full_like(like, torch.nan)
    return Verdict(torch.zeros_like(like, dtype=torch.int64), nan, nan, torch.full_like(like, drift))
