"""Who takes part: policies of different skill, and the worlds in which they drive."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..policies import PolicySpec, load_policy

# The first ones are told from the scene what there is, or look at nothing: they get the same scores in any simulator with the same scene, and only
# say how far apart good and bad drivers are. The others look: theirs are the scores that a simulator can get wrong, most of all those of drivers
# that are not even told where their lane is. Early checkpoints and noise make them of different skill.
POLICIES = (
    "expert",
    "lane_keeper",
    "constant_speed",
    "vision?blind=true",
    "vision",
    "vision?noise_mps2=1",
    "vision?noise_mps2=2",
    "vision?noise_mps2=4",
    "vision?stage=30",
    "vision?stage=3",
    "vision?told=false",
    "vision?told=false&noise_mps2=2",
    "vision?told=false&stage=30",
    "vision?told=false&stage=3",
)
UNSEEING = (
    "worldmodel.",
    "clients.policies.simple:",
    "clients.policies.lane_keeper:",
    "clients.policies.scripted:",
)

# Held out: neither the world model nor the vision policy has learnt from these scenarios.
SUITE: dict[str, Any] = {
    "name": "ranking",
    "title": "Worlds that nobody has learnt from",
    "seed": 9000,
    "repeats": 3,
    "options": {"cameras": ["front_wide", "front_narrow"]},
    "scenarios": [
        {"scenario": "merge_passing_dusk", "group": "highway", "max_s": 12},
        {"scenario": "urban_rain_night", "group": "town", "max_s": 12},
        {"scenario": "highway_night", "group": "highway", "max_s": 12},
        {"scenario": "rural_bends_night_fog", "group": "bends", "max_s": 12},
        {"scenario": "highway_cut_in_truck_rain", "group": "highway", "max_s": 12},
        {"scenario": "urban_lead_brakes", "group": "town", "max_s": 12},
    ],
}
QUICK: dict[str, Any] = {
    **SUITE,
    "repeats": 1,
    "scenarios": [
        {"scenario": "highway_night", "group": "highway", "max_s": 3},
        {"scenario": "urban_lead_brakes", "group": "town", "max_s": 3},
    ],
}


@dataclass(frozen=True)
class Entrant:
    """One policy; `looks` says whether it looks at pictures that show something."""

    name: str
    spec: PolicySpec
    looks: bool

    @property
    def folder(self) -> str:
        """A name for its results that any file system takes."""
        return "".join(letter if letter.isalnum() or letter in "-._=" else "-" for letter in self.name)


def entrants(policies: Sequence[str] = POLICIES) -> list[Entrant]:
    """Raises PolicySpecError for a spec that names none, ValueError for fewer than two or one named twice."""
    found = []
    for policy in policies:
        spec = load_policy(policy)
        looks = not spec.target.startswith(UNSEEING) and not spec.arguments.get("blind", False)
        found.append(Entrant(spec.name, spec, looks))
    names = [entrant.name for entrant in found]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"expected at least two policies, each once, got {', '.join(names) or 'none'}")
    return found
