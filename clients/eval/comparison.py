"""Two runs side by side: differences on the same worlds, with paired intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from .results import Result, ResultsError, RunFolder
from .stats import METRICS, Interval, bootstrap, by, scored, values_of


@dataclass(frozen=True)
class Difference:
    """B less A in one metric, on the worlds that both drove."""

    metric: str
    a: float
    b: float
    difference: Interval
    better: int  # worlds in which B has more
    worse: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class Comparison:
    """Overall and by group, with what could not be compared."""

    overall: list[Difference]
    groups: dict[str, list[Difference]]
    shared: int
    only_a: list[str]  # keys with scores in A alone
    only_b: list[str]
    same_drives: int  # shared rollouts that are the same, bit for bit


def compare(a: RunFolder, b: RunFolder) -> Comparison:
    """Compare the runs of two folders.

    Raises:
        ResultsError: one is none, or they share no rollout.
    """
    for folder in (a, b):
        folder.about()
    comparison = compare_results(a.results(), b.results())
    if not comparison.shared:
        raise ResultsError(f"expected runs that share rollouts, got none in {a.path} and {b.path}")
    return comparison


def compare_results(a: Sequence[Result], b: Sequence[Result]) -> Comparison:
    """Compare by key: the same key is the same world."""
    ours, theirs = ({result.key: result for result in scored(rows)} for rows in (a, b))
    keys = [key for key in ours if key in theirs]
    pairs = [(ours[key], theirs[key]) for key in keys]
    groups = by([first for first, _ in pairs], "group")
    return Comparison(
        overall=_differences(pairs),
        groups={name: _differences([(r, theirs[r.key]) for r in rows]) for name, rows in groups.items()},
        shared=len(keys),
        only_a=sorted(set(ours) - set(theirs)),
        only_b=sorted(set(theirs) - set(ours)),
        same_drives=sum(first.digest == second.digest for first, second in pairs),
    )


def _differences(pairs: Sequence[tuple[Result, Result]]) -> list[Difference]:
    found = []
    for metric in METRICS if pairs else ():
        before, after = (values_of([pair[k] for pair in pairs], metric) for k in (0, 1))
        apart = after - before
        counts = int((apart > 1e-9).sum()), int((apart < -1e-9).sum())
        found.append(Difference(metric, float(before.mean()), float(after.mean()), bootstrap(apart), *counts))
    return found
