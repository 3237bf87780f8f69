"""How alike two rankings are. Pure functions of scores [P, W]: P policies, each in the same W worlds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of two [..., P]


@dataclass(frozen=True)
class Agreement:
    """A rank correlation in -1..1 and the interval in which it lies with 95 %; NaN where all scores are equal."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Swap:
    """Two policies that the simulator ranks the other way round than the reference."""

    better: str  # in the reference
    worse: str
    reference_gap: float  # mean score of the better one less that of the worse
    gap: float  # the same in the simulator: not above 0
    sure: bool  # both gaps are beyond chance: their 95 % intervals leave out 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of the ranks of two [..., P]: [...]; ties share the mean of their ranks (Spearman 1904)."""
    return _pearson(ranks(a), ranks(b))


def kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tau-b of two [..., P]: [...]; pairs in the same order less pairs in the other, ties taken out of both (Kendall 1945)."""
    upper = np.triu_indices(a.shape[-1], 1)
    x, y = (np.sign(values[..., :, None] - values[..., None, :])[(..., *upper)] for values in (a, b))
    weight = np.sqrt((x != 0).sum(axis=-1) * (y != 0).sum(axis=-1).astype(np.float64))
    return _ratio((x * y).sum(axis=-1), weight)


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the lowest; equal values share the mean of theirs: float64 [..., P]."""
    below = (values[..., None, :] < values[..., :, None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    result: np.ndarray = below + (equal + 1) / 2.0
    return result


def agreement(measure: Measure, reference: np.ndarray, simulated: np.ndarray, seed: int = 0) -> Agreement:
    """The correlation of mean scores, and its percentile bootstrap over worlds (Efron 1979).

    The same worlds are drawn for all policies and both simulators: what a world does to all of them is no difference between them.

    Args:
        measure: `spearman` or `kendall`.
        reference, simulated: [P, W] each.
        seed: of the draws.

    Raises:
        ValueError: shapes that differ, fewer than two policies, or no world.
    """
    if (
        reference.shape != simulated.shape
        or reference.ndim != 2
        or len(reference) < 2
        or not reference.shape[1]
    ):
        raise ValueError(
            f"expected scores of at least two policies in the same worlds, got {reference.shape} and {simulated.shape}"
        )
    draws = _draws(reference.shape[1], seed)
    drawn = measure(reference.T[draws].mean(axis=1), simulated.T[draws].mean(axis=1))
    found = (
        drawn[np.isfinite(drawn)] if reference.shape[1] > 1 else drawn[:0]
    )  # one world tells nothing of others
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(found) else (np.nan, np.nan)
    return Agreement(float(measure(reference.mean(axis=1), simulated.mean(axis=1))), float(low), float(high))


def swaps(names: Sequence[str], reference: np.ndarray, simulated: np.ndarray, seed: int = 0) -> list[Swap]:
    """Pairs in another order than in the reference, the widest apart there first; equal scores there are no order."""
    found = []
    for i, j in combinations(range(len(names)), 2):
        better, worse = (i, j) if reference[i].mean() >= reference[j].mean() else (j, i)
        there, here = reference[better] - reference[worse], simulated[better] - simulated[worse]
        if there.mean() > 0 >= here.mean():
            sure = _beyond_chance(there, seed) and _beyond_chance(-here, seed)
            found.append(Swap(names[better], names[worse], float(there.mean()), float(here.mean()), sure))
    return sorted(found, key=lambda swap: -swap.reference_gap)


def compare(
    names: Sequence[str], looks: Sequence[bool], reference: np.ndarray, simulated: np.ndarray
) -> dict[str, Any]:
    """Everything about two sets of scores as plain data: `all` policies, and those `looking` at pictures, with their `swaps`.

    Args:
        names: of the policies.
        looks: which of them look at pictures: at least two. The others get the same scores in any simulator with the same scene.
        reference, simulated: [P, W] each.
    """
    seeing = np.flatnonzero(looks).tolist()
    mine, theirs = reference[seeing], simulated[seeing]
    found = swaps([names[k] for k in seeing], mine, theirs)
    return {
        "looking": _both(mine, theirs) | {"swaps": [swap.to_dict() for swap in found]},
        "all": _both(reference, simulated),
    }


def _both(reference: np.ndarray, simulated: np.ndarray) -> dict[str, Any]:
    result: dict[str, Any] = {"count": len(reference)}
    for measure in (spearman, kendall):
        found = agreement(measure, reference, simulated)
        result[measure.__name__] = _number(found.value)
        result[f"{measure.__name__}_ci"] = [_number(found.low), _number(found.high)]
    result["score_error"] = float(np.abs(reference.mean(axis=1) - simulated.mean(axis=1)).mean())
    return result


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if np.isfinite(value) else None


def _draws(worlds: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, worlds, (RESAMPLES, worlds))


def _beyond_chance(values: np.ndarray, seed: int) -> bool:
    """Whether the mean of [W] is above 0 in 97.5 % of resamples."""
    return len(values) > 1 and bool(
        np.quantile(values[_draws(len(values), seed)].mean(axis=1), (1 - LEVEL) / 2) > 0
    )


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    return _ratio((x * y).sum(axis=-1), np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1)))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where the whole is 0: all values are equal, and there is no order."""
    result: np.ndarray = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)
    return result
