"""Which scenarios: names, groups, or all of a split."""

from ..scene.scenario import load_scenario, scenario_names
from .plan import BuildError

SPLITS = ("train", "heldout")


def select_scenarios(wanted: str, split: str) -> tuple[str, ...]:
    """Names of scenarios.

    Args:
        wanted: `all`, or names, groups and paths of scenario files, separated by commas.
        split: `train` or `heldout`; `all` and groups give only scenarios of this split, names are taken as they are.

    Raises:
        BuildError: unknown split, or nothing left.
        PresetError: an unknown name; the message lists the valid ones.
    """
    if split not in SPLITS:
        raise BuildError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    known = {name: load_scenario(name) for name in scenario_names()}
    chosen: dict[str, None] = {}  # a set that keeps its order
    for part in filter(None, (part.strip() for part in wanted.split(","))):
        members = [n for n, s in known.items() if s.split == split and part in ("all", s.group)]
        if part == "all" or any(scenario.group == part for scenario in known.values()):
            chosen.update(dict.fromkeys(members))
        else:
            load_scenario(part)
            chosen[part] = None
    if not chosen:
        raise BuildError(f"expected scenarios of split {split}, got none for {wanted!r}")
    return tuple(chosen)
