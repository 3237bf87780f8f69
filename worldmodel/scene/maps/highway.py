"""A divided highway with gentle bends.

Nodes: `w.in` -> `e.out` on the ego's carriageway, `e.in` -> `w.out` on the other. Lanes from 0 (left, fast) to the
right. Routes: `keep_0` ... one per lane, `change_left` and `change_right` out of a middle lane.
"""

from functools import partial

import numpy as np

from . import furniture
from .curve import offset, trace
from .plan import Plan, ribbon
from .road import HIGHWAY_DASH, Profile, lay_road
from .roadside import Roadside
from .routes import follow
from .spec import HighwaySpec
from .two_way import AFTER_M, BEFORE_M, gentle_bends

MIN_RADIUS_M = 500.0
SHOULDER_M = 2.5


def build(plan: Plan, spec: HighwaySpec) -> None:
    """Fill the plan."""
    total = round(spec.length_m + BEFORE_M + AFTER_M)
    line = trace((-BEFORE_M, 0.0), 0.0, gentle_bends(plan.rng, total, spec.curvature / MIN_RADIUS_M))
    profile = highway_profile(spec.lanes, spec.lanes, spec.lane_width_m, spec.speed_limit_mps, spec.median_m)
    lay_road(plan, line, profile, ("w.in", "e.out"), ("e.in", "w.out"))
    roadside = Roadside(plan)
    dress_verge(roadside, offset(line, -profile.right_m), spec.density)
    dress_verge(roadside, offset(line[::-1], -profile.left_m), spec.density)
    dress_median(roadside, line, spec.median_m)
    _add_routes(plan, spec)


def highway_profile(
    forward: int, backward: int, lane_width_m: float, speed_limit_mps: float, median_m: float
) -> Profile:
    """A carriageway with a paved shoulder, and the opposite one beyond the median."""
    return Profile(
        forward,
        backward,
        lane_width_m,
        median_m,
        SHOULDER_M,
        speed_limit_mps,
        3,
        HIGHWAY_DASH,
        edge_lines=True,
    )


def dress_median(roadside: Roadside, line: np.ndarray, median_m: float) -> None:
    """A guard rail in the middle, on gravel."""
    roadside.plan.gravel.append(ribbon(line, median_m / 2, -median_m / 2))
    roadside.rails(line, 0.0)


def dress_verge(roadside: Roadside, edge: np.ndarray, density: float, rails: bool = True) -> None:
    """Rail, delineators, boards, lamps and trees on the right of a line along the outer edge of the asphalt."""
    plan = roadside.plan
    plan.gravel.append(ribbon(edge, 0.1, -1.2))
    if rails:
        third = len(edge) // 3  # the rail is left out over a third of the way, so that the view opens
        for part in (edge[: third + 1], edge[2 * third :]):
            roadside.rails(part, -0.8)
    roadside.row(edge, -1.3, 40.0, furniture.delineator)
    if density > 0:
        board, sign = partial(furniture.direction_board, rng=plan.rng), partial(furniture.sign, rng=plan.rng)
        roadside.row(edge, -4.0, 320.0 / density, board, jitter=0.5, turned_rad=np.pi)
        roadside.row(edge, -2.2, 200.0 / density, sign, jitter=0.5, turned_rad=np.pi)
        roadside.row(edge, -2.6, 60.0, furniture.lamp)
    roadside.scatter_trees(edge, 6.0, 46.0, 9.0 * density, sides=(-1,))


def _add_routes(plan: Plan, spec: HighwaySpec) -> None:
    lanes = [("w.in", "e.out", i) for i in range(spec.lanes)]
    end, middle = BEFORE_M + spec.length_m, spec.lanes // 2
    for i, lane in enumerate(lanes):
        plan.routes[f"keep_{i}"] = follow(plan.network, [lane], BEFORE_M, end)
    change = (BEFORE_M + 0.35 * spec.length_m, max(50.0, 4.0 * spec.speed_limit_mps))
    pairs = {"change_left": (middle, middle - 1), "change_right": (middle - 1, middle)}
    if spec.lanes > 2:
        pairs["change_right"] = (middle, middle + 1)
    for name, (start, target) in pairs.items():
        plan.routes[name] = follow(plan.network, [lanes[start], lanes[target]], BEFORE_M, end, change)
