"""Choosing the tiers' numbers: a sweep on scenarios that no report shows, and what it suggests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from xcache_core import Policy
from xcache_core.plan import Cut

from .methods import CUTS, FULL, Contestant, variant

CHOICE_SEED = 100
CHOICE_SCENARIOS: Mapping[str, tuple[str, ...]] = {
    "urban_street": ("urban_cruise",),
    "highway": ("highway_cruise",),
    "turning": ("u_turn",),
    "stop_and_go": ("urban_follow_bus",),
}
FLOORS, QUICK_FLOORS = (0.97, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6), (0.95, 0.8)
FEWER_FLOORS = (0.9, 0.8, 0.7)  # where an anchor or another cut is tried
# Where only the last step of a commit is computed: inputs of other noise are less alike.
LAST_STEP_FLOORS = (0.6, 0.4, 0.3, 0.2)
LAST_STEP_SKIPS = 31
ANY = Policy(front=0, floor=-1.0, margin=4.0, max_deviation=inf)  # the schedule alone decides
SLACK = 0.02  # by which motion may be worse than that of full compute
SAFE_DB, BALANCED_COST_DB, FAST_COST_DB = 40.0, 0.2, 0.5


def candidates(quick: bool = False) -> list[Contestant]:
    """Floors as thresholds, the cosine alone deciding; with an anchor and by camera too; and the schedule alone.

    Then the same for commits of which the last step alone is computed.
    """
    all_floors = QUICK_FLOORS if quick else FLOORS
    found = []
    tried: list[tuple[Cut, int, Sequence[float]]] = [("frame", 0, all_floors)]
    if not quick:
        tried += [("frame", 1, FEWER_FLOORS), ("view", 0, FEWER_FLOORS)]
    for cut, front, floors in tried:
        for floor in floors:
            policy = Policy(front=front, floor=floor, margin=4.0, max_deviation=inf)
            found.append(variant(f"{cut} {floor} front {front}", policy, repr(policy), cut=cut))
    for cut in CUTS:
        found.append(variant(f"{cut} any", ANY, repr(ANY), cut=cut))
    for floor in (ANY.floor, *(() if quick else LAST_STEP_FLOORS)):
        policy = replace(ANY, floor=floor, kv_steps=1, max_skips=LAST_STEP_SKIPS)
        found.append(variant(f"frame {floor} last step", policy, repr(policy)))
    return found


def suggest(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The fastest row that keeps each tier's promise, from means over all groups; full compute where none does.

    `safe`: at least 40 dB to full compute. `balanced`: a true cost of at most 0.2 dB, and motion no worse than that of
    full compute by more than 0.02. `fast`: a true cost of at most 0.5 dB.
    """
    exact = next(row for row in rows if row["name"] == FULL)
    promises = {
        "safe": lambda row: row["psnr_full"] >= SAFE_DB,
        "balanced": lambda row: row["true_cost_db"] <= BALANCED_COST_DB and moves_as(row, exact),
        "fast": lambda row: row["true_cost_db"] <= FAST_COST_DB,
    }
    return {
        tier: max((row for row in rows if keeps(row)), key=lambda row: row["speedup_dit"], default=exact)
        for tier, keeps in promises.items()
    }


def moves_as(row: Mapping[str, Any], exact: Mapping[str, Any]) -> bool:
    """Whether motion is no worse than full compute's."""
    worse = [row[key] - exact[key] for key in ("speed_error", "yaw_rate_error")]
    worse.append(abs(row["motion_energy_ratio"] - 1) - abs(exact["motion_energy_ratio"] - 1))
    return max(worse) <= SLACK
