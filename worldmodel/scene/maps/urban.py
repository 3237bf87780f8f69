"""A street with side streets, parked cars and houses at the kerb; every seed is another street.

The main street runs from west to east through junctions `j1`, `j2`, ...; nodes `w.in` -> `j1.w.stop` -> `j1.e.go` ->
`j2.w.stop` ... `e.out`, and back from `e.in` to `w.out`. Side streets have the nodes `j1.n.in`, `j1.n.out` and so on.
Routes: `straight` and `back` along the main street, `left_K` and `right_K` from the west into a side street of
junction K, `from_left_K` and `from_right_K` out of it and on to the east (seen by those who drive east).
"""

from itertools import pairwise

import numpy as np

from .curve import pose_at, section, smoothed, trace
from .intersection import END_M, START_M, lay_arm
from .junction import Arm, Junction, lay_junction
from .plan import Plan
from .road import Profile
from .roadside import Roadside
from .routes import follow
from .spec import UrbanSpec
from .street import BAY_WIDTH_M, WALK_M, Street, add_parking, close_end, dress_street, lay_street

SIDE_M = 110.0  # length of side streets from the junction's centre
LEAD_M = 45.0  # main street before the first and after the last stretch that `length_m` counts
MIN_RADIUS_M = 80.0
STRAIGHT_M = 26.0  # either side of a junction's centre


def build(plan: Plan, spec: UrbanSpec) -> None:
    """Fill the plan."""
    line, centres = _main_line(plan, spec)
    profile = Profile(lane_width_m=spec.lane_width_m, speed_limit_mps=spec.speed_limit_mps)
    junctions = [_junction(plan, spec, profile, line, s, k) for k, s in enumerate(centres)]
    streets = _lay_main(plan, line, centres, junctions, profile)
    ends = [streets[0].reversed(), streets[-1]]
    for junction in junctions:
        for arm in junction.arms:
            if arm.name in "ns":
                ends.append(lay_arm(plan, junction, arm, SIDE_M, prefix=f"{junction.name}."))
        lay_junction(plan, junction)
    for street in streets:
        add_parking(plan, street, spec.parking)
    plan.paint_kerbs()
    roadside = Roadside(plan)
    for street in [*streets, *ends[2:]]:
        dress_street(roadside, street, spec.density)
    for street in ends:
        close_end(roadside, street)
    _add_routes(plan, junctions)


def _main_line(plan: Plan, spec: UrbanSpec) -> tuple[np.ndarray, list[float]]:
    """The middle of the main street, and where along it the junctions lie."""
    total = round(spec.length_m + 2 * LEAD_M)
    share = spec.length_m / spec.junctions
    centres = [LEAD_M + (k + 0.5 + plan.rng.uniform(-0.12, 0.12)) * share for k in range(spec.junctions)]
    s = np.arange(total) + 0.5
    bend = np.zeros(total)
    for k, (start, end) in enumerate(zip([0.0, *centres], [*centres, float(total)], strict=True)):
        free = (s > start + STRAIGHT_M) & (s < end - STRAIGHT_M)
        bend[free] = plan.rng.uniform(0.3, 1.0) * (-1) ** k
    bend = smoothed(bend * plan.rng.choice([-1, 1]) * spec.curvature / MIN_RADIUS_M, 15)
    return trace((-LEAD_M, 0.0), 0.0, bend), centres


def _junction(
    plan: Plan, spec: UrbanSpec, profile: Profile, line: np.ndarray, s_m: float, k: int
) -> Junction:
    x, y, yaw = pose_at(line, s_m)
    names = {"e": 0.0, "n": np.pi / 2, "w": np.pi, "s": -np.pi / 2}
    if k > 0 and plan.rng.uniform() < spec.t_junctions:
        del names[str(plan.rng.choice(["n", "s"]))]
    skew = plan.rng.uniform(-0.1, 0.1)
    arms = tuple(
        Arm(
            name,
            yaw + turned + (skew if name in "ns" else 0.0),
            profile,
            WALK_M + (BAY_WIDTH_M if name in "we" else 0.0),
            major=name in "we",
        )
        for name, turned in names.items()
    )
    signalised = spec.signalised > 0 and (k == 0 or plan.rng.uniform() < spec.signalised)
    return Junction(f"j{k + 1}", x, y, arms, 6.5, bool(signalised), spec.crossings)


def _lay_main(
    plan: Plan, line: np.ndarray, centres: list[float], junctions: list[Junction], profile: Profile
) -> list[Street]:
    """The stretches of the main street between the junctions, in order."""
    starts = [0.0, *(c + j.setback_m for c, j in zip(centres, junctions, strict=True))]
    ends = [*(c - j.setback_m for c, j in zip(centres, junctions, strict=True)), len(line) - 1.0]
    leave = [("w.in", "w.out"), *((j.go("e"), j.stop("e")) for j in junctions)]
    reach = [*((j.stop("w"), j.go("w")) for j in junctions), ("e.out", "e.in")]
    streets = []
    for start, end, (out_a, in_a), (in_b, out_b) in zip(starts, ends, leave, reach, strict=True):
        street = Street(section(line, start, end), profile, bays=True)
        lay_street(plan, street, (out_a, in_b), (out_b, in_a))
        streets.append(street)
    plan.end_road(streets[0].line[::-1], streets[0].kerb_m)
    plan.end_road(streets[-1].line, streets[-1].kerb_m)
    return streets


def _add_routes(plan: Plan, junctions: list[Junction]) -> None:
    names = [j.name for j in junctions]
    east = ["w.in", *(n for j in names for n in (f"{j}.w.stop", f"{j}.e.go")), "e.out"]
    west = ["e.in", *(n for j in names[::-1] for n in (f"{j}.e.stop", f"{j}.w.go")), "w.out"]
    routes = {"straight": east, "back": west}
    for k, junction in enumerate(junctions):
        for side, arm in (("left", "n"), ("right", "s")):
            if arm in {a.name for a in junction.arms}:
                j, here = junction.name, 2 * k + 1
                routes[f"{side}_{k + 1}"] = [*east[: here + 1], f"{j}.{arm}.go", f"{j}.{arm}.out"]
                routes[f"from_{side}_{k + 1}"] = [f"{j}.{arm}.in", f"{j}.{arm}.stop", *east[here + 1 :]]
    for name, nodes in routes.items():
        lanes = [(start, end, 0) for start, end in pairwise(nodes)]
        length = plan.network.get_lane(lanes[-1]).length
        plan.routes[name] = follow(plan.network, lanes, START_M, length - END_M)
