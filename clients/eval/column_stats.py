"""Statistics of a dataset's columns, in LeRobot's form: of one episode, and pooled over all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def statistics(values: np.ndarray) -> dict[str, list[Any]]:
    """Of every column over all rows [N, D] (or [N]): min, max, mean, std, count, quantiles."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    found |= {name: np.quantile(rows, q, axis=0) for name, q in QUANTILES.items()}
    return {**{name: value.tolist() for name, value in found.items()}, "count": [len(rows)]}


def pooled(stats: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Of all episodes, from those of each; quantiles are means of quantiles, as LeRobot pools them."""
    counts = np.array([each["count"][0] for each in stats], np.float64)
    of = {name: np.array([each[name] for each in stats], np.float64) for name in stats[0] if name != "count"}
    weights = (counts / counts.sum()).reshape(-1, *[1] * (of["mean"].ndim - 1))
    mean = (weights * of["mean"]).sum(0)
    spread = (weights * (of["std"] ** 2 + (of["mean"] - mean) ** 2)).sum(0)
    found = {"min": of["min"].min(0), "max": of["max"].max(0), "mean": mean, "std": np.sqrt(spread)}
    found |= {name: (weights * of[name]).sum(0) for name in QUANTILES}
    return {**{name: value.tolist() for name, value in found.items()}, "count": [int(counts.sum())]}
