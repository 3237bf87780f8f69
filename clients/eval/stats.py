"""Means with intervals, over rollouts and over pairs of rollouts. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .results import Result

RESAMPLES, LEVEL = 2000, 0.95
METRICS = {
    "driving_score": "Driving score",
    "pdms": "PDM score",
    "success": "Success",
    "route_completion": "Route completion",
    "no_collision": "No collision at fault",
    "drivable_area": "On the road",
    "time_to_collision": "Time to collision",
    "ego_progress": "Progress",
    "comfort": "Comfort",
}  # what is averaged, with the names for readers; all in 0..1, more is better


@dataclass(frozen=True)
class Interval:
    """A mean and the interval in which it lies with 95 %, over `count` values."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, float]:
        """Plain data."""
        return asdict(self)


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean (Efron 1979), 2,000 resamples, the same for the same values.

    Raises:
        ValueError: no values.
    """
    array = np.asarray(values, np.float64)
    if not len(array):
        raise ValueError("expected at least one value, got none")
    picks = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    means = array[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(array.mean()), float(low), float(high), len(array))


def scored(results: Iterable[Result]) -> list[Result]:
    """Those with scores: the others are counted apart, never as zeros."""
    return [result for result in results if result.scores is not None]


def values_of(results: Iterable[Result], metric: str) -> np.ndarray:
    """float64 [N] of one metric."""
    return np.array([float((result.scores or {})[metric]) for result in results], np.float64)


def means(results: Iterable[Result]) -> dict[str, Interval]:
    """Every metric over the rollouts that have scores; empty where none has."""
    done = scored(results)
    return {name: bootstrap(values_of(done, name)) for name in METRICS} if done else {}


def by(results: Iterable[Result], attribute: str) -> dict[str, list[Result]]:
    """Results by group, scenario or branch, in the order in which these come."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(str(getattr(result, attribute)), []).append(result)
    return found


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """What `summary.json` holds: counts, and means overall, by group and by scenario."""
    counts = {
        status: sum(r.status == status for r in results) for status in sorted({r.status for r in results})
    }
    return {
        "rollouts": len(results),
        "counts": counts,
        "overall": _plain(means(results)),
        "groups": {name: _plain(means(rows)) for name, rows in by(results, "group").items()},
        "scenarios": {name: _plain(means(rows)) for name, rows in by(results, "scenario").items()},
    }


def _plain(intervals: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: interval.to_dict() for name, interval in intervals.items()}
