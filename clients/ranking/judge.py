"""From the scores of a tournament to the numbers that are published."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..eval.stats import bootstrap
from .correlation import compare
from .entrants import Entrant
from .tournament import Scores

REFERENCE = "reference"
METRICS = ("driving_score", "pdms")  # the first one ranks: it tells a late mistake from an early one


def judge(policies: Sequence[Entrant], scores: Scores, metrics: Sequence[str] = METRICS) -> dict[str, Any]:
    """The keys of `ranking`. Only worlds that every policy finished everywhere count; the others are counted apart.

    Args:
        policies: who drove.
        scores: simulator -> policy -> world -> score; one simulator is the reference.
        metrics: which scores, each judged for itself; the first one gives the table and the numbers at the top.

    Raises:
        ValueError: no such world, or fewer than two policies that look.
    """
    finished = [set(found) for by_policy in scores.values() for found in by_policy.values()]
    worlds, known = sorted(set.intersection(*finished)), set.union(*finished)
    if not worlds:
        raise ValueError("expected a world that every policy finished in every simulator, got none")
    names, looks = [entrant.name for entrant in policies], [entrant.looks for entrant in policies]
    if sum(looks) < 2:
        raise ValueError(f"expected at least two policies that look at pictures, got {sum(looks)}")

    def table(simulator: str, metric: str) -> np.ndarray:
        """float64 [P, W]."""
        by = scores[simulator]
        return np.array([[float(by[name][world][metric]) for world in worlds] for name in names])

    tiers = [simulator for simulator in scores if simulator != REFERENCE]
    by_metric = {
        metric: {tier: compare(names, looks, table(REFERENCE, metric), table(tier, metric)) for tier in tiers}
        for metric in metrics
    }
    first = by_metric[metrics[0]][tiers[0]]
    rows = [
        {
            "name": name,
            "looks": looks[k],
            **{simulator: _means(scores[simulator][name], worlds, metrics) for simulator in scores},
        }
        for k, name in enumerate(names)
    ]
    return {
        **first["looking"],  # of those that look, in the first tier
        "policies": rows,
        "by_metric": by_metric,
        "worlds": worlds,
        "worlds_left_out": len(known) - len(worlds),
    }


def shown(found: Mapping[str, Any], name: str) -> str:
    """A correlation with its interval, as text."""
    if found.get(name) is None:
        return "none"
    if None in found[f"{name}_ci"]:
        return f"{found[name]:.2f}"
    low, high = found[f"{name}_ci"]
    return f"{found[name]:.2f} [{low:.2f}, {high:.2f}]"


def _means(
    found: Mapping[str, Mapping[str, Any]], worlds: Sequence[str], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Of every metric, with its interval over worlds."""
    return {
        metric: bootstrap([float(found[world][metric]) for world in worlds]).to_dict() for metric in metrics
    }
