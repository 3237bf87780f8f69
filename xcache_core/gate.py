"""Is the input near enough to the one that the stored residual was computed from? Pure functions on tensors.

A gate judges every tile on its own and returns tensors; nothing here reads a value back to the host.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .constants import index_on
from .fingerprint import ENTRIES, Fingerprint, Similarity, relative_l1, similarity, similarity_ahead
from .reason import Reason


class Verdict(NamedTuple):
    """A gate's opinion of every tile, [B, R] each, or [n, B, R] of n blocks in a row."""

    reason: Tensor  # int64: COSINE, DEVIATION, INVALID (not finite) or 0: the stored residual will do
    cosine: Tensor  # float32, the smallest cosine seen; NaN where none was taken
    deviation: Tensor  # float32, the largest deviation seen; NaN where none was taken
    drift: Tensor  # float32 >= 0: what the error budget adds up


class Comparison(NamedTuple):
    """What a gate is given."""

    now: Fingerprint
    old: Fingerprint  # with one more axis in front, [n, B, R, ...], where it is asked about n blocks in a row
    old_sizes: Tensor  # float32 [B, R, G, 3], see `fingerprint.sizes`; [n, B, R, G, 3]
    members: Tensor  # float32 [G, 2, Vt, K + 1], which token is in which entry, see `group_members`
    action_cosine: Tensor | None  # float32 [B, R]; [n, B, R]
    limited: bool = True  # whether the deviation is limited somewhere; it is not taken otherwise


class Gate(Protocol):
    """The decision piece of a method.

    Attributes:
        measures: whether it looks at fingerprints. It gets None in their place otherwise, or where no tier asks for a look.
        adaptive: whether it holds tiles to the cosine threshold and the largest deviation of their tier.
        foresees: whether it can judge blocks in a row from the input of the first one, in `judge_ahead`. Where it measures,
            it takes the metrics in `look_ahead`, and `admits` says in fewer operations what it has nothing against.
        watches_action: whether the action is an entry of its fingerprint.
    """

    @property
    def measures(self) -> bool: ...  # noqa: D102

    @property
    def adaptive(self) -> bool: ...  # noqa: D102

    @property
    def foresees(self) -> bool: ...  # noqa: D102

    @property
    def watches_action(self) -> bool: ...  # noqa: D102

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Judge tiles. `tau` float32 [B, R] is the cosine threshold, `max_deviation` [B, 1]; `key` is (step, block)."""

    def look_ahead(self, seen: Comparison) -> Similarity:
        """The metrics of n blocks in a row, [n, B, R], if all are skipped."""

    def admits(self, seen: Similarity, tau: Tensor, max_deviation: Tensor) -> Tensor:
        """Where `judge_ahead` would give no reason, bool [n, B, R]."""

    def judge_ahead(
        self, seen: Similarity | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Judge n blocks in a row as if all were skipped. `tau` [n, B, R]; `key` is (step, first block)."""


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
    foresees: bool = True

    def __post_init__(self) -> None:
        unknown = [entry for entry in self.entries if entry not in ENTRIES]
        if unknown:
            raise ValueError(f"expected entries of {', '.join(ENTRIES)}, got {unknown[0]!r}")

    @property
    def watches_action(self) -> bool:
        """See `Gate`."""
        return "action" in self.entries

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """COSINE before DEVIATION; INVALID where a metric is not finite."""
        if seen is None:
            return unmeasured(tau)
        return self._verdict(similarity(*seen, self.entries), tau, max_deviation)

    def look_ahead(self, seen: Comparison) -> Similarity:
        """See `fingerprint.similarity_ahead`."""
        return similarity_ahead(*seen, self.entries)

    def admits(self, seen: Similarity, tau: Tensor, max_deviation: Tensor) -> Tensor:
        """A comparison with NaN is false."""
        admitted = seen.cosine >= tau if self.use_cosine else torch.isfinite(seen.cosine)
        if seen.deviation is None:
            return admitted
        return admitted & (seen.deviation < (max_deviation if self.use_deviation else torch.inf))

    def judge_ahead(
        self, seen: Similarity | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """The same of blocks in a row."""
        return unmeasured(tau) if seen is None else self._verdict(seen, tau, max_deviation)

    def _verdict(self, seen: Similarity, tau: Tensor, max_deviation: Tensor) -> Verdict:
        cosine, deviation = seen
        if deviation is None:
            deviation = torch.full_like(cosine, torch.nan)
            known, refused = cosine, torch.zeros_like(cosine, dtype=torch.int64)
        else:
            known = cosine + deviation
            within = (deviation < max_deviation) | (not self.use_deviation)
            refused = torch.where(within, 0, int(Reason.DEVIATION))
        reason = torch.where(cosine >= tau, refused, int(Reason.COSINE) if self.use_cosine else refused)
        reason = torch.where(torch.isfinite(known), reason, int(Reason.INVALID))
        return Verdict(reason, cosine, deviation, 1.0 - cosine)


DUAL_METRIC = DualMetric()


class _Sightless:
    """A gate that takes no metrics of blocks whose inputs it has not got."""

    def look_ahead(self, seen: Comparison) -> Similarity:
        """Never asked for."""
        raise NotImplementedError

    def admits(self, seen: Similarity, tau: Tensor, max_deviation: Tensor) -> Tensor:
        """Never asked for."""
        raise NotImplementedError

    def judge_ahead(
        self, seen: Similarity | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Never asked for, unless the gate foresees without looking."""
        raise NotImplementedError


@dataclass(frozen=True)
class RelativeL1(_Sightless):
    """Skip while mean|x - x_old| / mean|x_old| of the sampled tokens is below a threshold (first-block cache, DBPrune).

    With `threshold=inf` only the error budget stops it: the accumulated distance of TeaCache.
    """

    threshold: float
    measures: bool = True
    adaptive: bool = False
    foresees: bool = False
    watches_action: bool = False

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
class Always(_Sightless):
    """No gate: the schedule alone decides. The control that shows whether a gate matters."""

    measures: bool = False
    adaptive: bool = False
    foresees: bool = True
    watches_action: bool = False

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Nothing is refused."""
        return unmeasured(tau)

    def judge_ahead(
        self, seen: Similarity | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Nothing is refused."""
        return unmeasured(tau)


@dataclass(frozen=True)
class Table(_Sightless):
    """Calibrated beforehand (MagCache): each skip of (step, block) costs `drift[step][block]` of the error budget."""

    drift: tuple[tuple[float, ...], ...]
    measures: bool = False
    adaptive: bool = False
    foresees: bool = True
    watches_action: bool = False

    def judge(
        self, seen: Comparison | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """Nothing is refused here; the budget is."""
        step, block = key
        return unmeasured(tau, torch.full_like(tau, self.drift[step][block]))

    def judge_ahead(
        self, seen: Similarity | None, tau: Tensor, max_deviation: Tensor, key: tuple[int, int]
    ) -> Verdict:
        """The same of blocks in a row."""
        step, block = key
        drift = self.drift[step][block : block + tau.shape[0]]
        return unmeasured(tau, tau.new_tensor(drift)[:, None, None])


def adaptive_threshold(ema: Tensor, floor: Tensor, margin: Tensor) -> Tensor:
    """tau_cos = max(floor, ema - margin); the floor alone while nothing has been seen (ema is NaN)."""
    return torch.fmax(floor, ema - margin)


def update_ema(ema: Tensor, seen: Tensor, rate: Tensor) -> Tensor:
    """ema <- rate * seen + (1 - rate) * ema; the first finite observation is taken as it is, others are ignored."""
    blended = torch.where(torch.isnan(ema), seen, torch.lerp(ema, seen, rate))
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


def unmeasured(like: Tensor, drift: Tensor | None = None) -> Verdict:
    """No objection and nothing measured, for tiles [..., B, R]."""
    nan, zero = torch.full_like(like, torch.nan), torch.zeros_like(like)
    return Verdict(zero.long(), nan, nan, zero if drift is None else zero + drift)
