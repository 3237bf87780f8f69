"""Where a cache skipped and why: shares and similarities by step and block, by camera and by age."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from xcache_core import Reason

from .race import Run


def evidence(runs: Sequence[Run]) -> dict[str, Any] | None:
    """What the caches of some runs of one contestant saw, all chunks together; None where there was no cache.

    `skip`, `cosine`, `deviation` and `error` (of checked skips) are [steps][rows of the cache]; `skip_by_tile` has a
    number for every camera or region; `cosine_by_age` for every age in chunks of a residual that was reused; `reasons`
    are shares of all decisions. None stands where nothing was measured.
    """
    caches = [cache for run in runs for cache in run.caches if cache is not None]
    if not caches:
        return None
    seen = {name: _stack(caches, name) for name in ("reason", "cosine", "deviation", "age", "error")}
    skipped = seen["reason"] == Reason.SKIPPED  # [chunks, S, L, R]
    ages = np.unique(seen["age"][skipped])
    return {
        "skip": skipped.mean((0, 3)).tolist(),
        **{name: _means(seen[name], (0, 3)) for name in ("cosine", "deviation", "error")},
        "skip_by_tile": skipped.mean((0, 1, 2)).tolist(),
        "cosine_by_age": {
            int(age): _means(seen["cosine"][skipped & (seen["age"] == age)], None) for age in ages
        },
        "reasons": {
            reason.label: float((seen["reason"] == reason).mean())
            for reason in Reason
            if (seen["reason"] == reason).any()
        },
    }


def _stack(caches: Sequence[Any], name: str) -> np.ndarray:
    """[chunks, S, L, R]."""
    arrays = np.stack([cache[name] for cache in caches])
    return arrays.reshape(*arrays.shape[:3], -1)


def _means(values: np.ndarray, axes: tuple[int, ...] | None) -> Any:
    """Means of what was measured, as plain data; None where nothing was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, and that is meant
        means = np.nanmean(values, axis=axes)
    return _plain(means.tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if np.isfinite(value) else None
