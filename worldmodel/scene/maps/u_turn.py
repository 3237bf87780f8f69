"""A divided road with an opening in the median where the direction can be reversed.

Nodes: `w.in` -> `turn.east` -> `e.out` eastwards, `e.in` -> `turn.west` -> `w.out` westwards, and the u-turn
`turn.east` -> `turn.west` from the innermost lane into the innermost lane. Routes: `u_turn`, `straight` (innermost
lane), `straight_back` (westwards) and, with several lanes, `change_and_u_turn`, which starts one lane further right.
"""

from functools import partial

import numpy as np
import shapely

from . import furniture
from .arrows import paint_arrow
from .curve import half_turn, straight
from .intersection import END_M, START_M
from .lanes import LaneOptions, make_lane
from .plan import Plan, ribbon
from .road import Profile, add_lanes, paint_road
from .roadside import Roadside
from .routes import LATERAL_ACCEL_MPS2, follow
from .spec import UTurnSpec
from .street import Street, close_end, dress_street

OPENING_M = 0.5  # from the turn's start to the nose of the median
KERB_GAP_M = 0.5  # between the inner lanes and the median's kerb


def build(plan: Plan, spec: UTurnSpec) -> None:
    """Fill the plan; the u-turn begins at x = 0."""
    profile = Profile(spec.lanes, spec.lanes, spec.lane_width_m, spec.median_m, 0.0, spec.speed_limit_mps)
    west, east = -spec.approach_m - START_M, spec.beyond_m + END_M + 80.0
    halves = [_along_x(west, 0.0), _along_x(0.0, east)]
    for line, start, end in (halves[0], "w.in", "turn.east"), (halves[1], "turn.east", "e.out"):
        add_lanes(plan, line, profile, (start, end), spec.lanes)
    for line, start, end in (halves[1], "e.in", "turn.west"), (halves[0], "turn.west", "w.out"):
        add_lanes(plan, line[::-1], profile, (start, end), spec.lanes)
    _add_turn(plan, profile)
    street = Street(_along_x(west, east), profile)
    noses = _pave(plan, street, spec)
    paint_road(plan, street.line, profile)
    plan.paint_kerbs()
    for x in (-35.0, -12.0):
        paint_arrow(plan, (x, -profile.centre_m(0), 0.0), "u_turn")
    _dress(plan, street, noses, spec)
    _add_routes(plan, spec)


def _along_x(start_m: float, end_m: float) -> np.ndarray:
    return straight(np.array([start_m, 0.0]), np.array([end_m, 0.0]))


def _add_turn(plan: Plan, profile: Profile) -> None:
    inner = profile.centre_m(0)
    points = half_turn((0.0, -inner, 0.0), 2 * inner)
    limit = float(np.sqrt(LATERAL_ACCEL_MPS2 * 0.85 * inner))
    lane = make_lane(points, LaneOptions(profile.lane_width_m, limit, priority=0))
    plan.network.add_lane("turn.east", "turn.west", lane)


def _pave(plan: Plan, street: Street, spec: UTurnSpec) -> tuple[float, float]:
    """Asphalt with two islands for the median. Returns the x of their noses."""
    half = spec.median_m / 2 - KERB_GAP_M
    reach = street.profile.centre_m(0) + spec.lane_width_m / 2 + 2.5
    noses = (OPENING_M, reach)
    start, end = street.line[0, 0], street.line[-1, 0]
    islands = [
        shapely.LineString([(a, 0.0), (b, 0.0)]).buffer(half, quad_segs=16)
        for a, b in ((start - 20.0, noses[0] - half), (noses[1] + half, end + 20.0))
    ]
    across = ribbon(street.line, street.kerb_m, -street.kerb_m)
    plan.asphalt.append(across.difference(shapely.union_all(islands)))
    plan.walks.append(ribbon(street.line, street.facade_m, -street.facade_m))
    whole = across.buffer(-0.05)
    plan.walks = [area.difference(whole) for area in plan.walks]
    plan.end_road(street.line, street.kerb_m)
    plan.end_road(street.line[::-1], street.kerb_m)
    return noses


def _dress(plan: Plan, street: Street, noses: tuple[float, float], spec: UTurnSpec) -> None:
    roadside = Roadside(plan)
    start, end, half = street.line[0, 0], street.line[-1, 0], spec.median_m / 2
    for a, b in (start, noses[0] - half), (noses[1] + half, end):
        roadside.row(_along_x(a, b), 0.0, 30.0, furniture.lamp)
        if spec.density > 0:
            tree = partial(furniture.tree, rng=plan.rng, crown_m=(2.5, 4.5))
            roadside.row(_along_x(a, b), 0.0, 10.0 / spec.density, tree, jitter=0.3)
    dress_street(roadside, street, spec.density)
    close_end(roadside, street)
    close_end(roadside, street.reversed())


def _add_routes(plan: Plan, spec: UTurnSpec) -> None:
    network, leave = plan.network, END_M
    first, turn, back = ("w.in", "turn.east", 0), ("turn.east", "turn.west", 0), ("turn.west", "w.out", 0)
    back_m = spec.approach_m + START_M - leave
    plan.routes["u_turn"] = follow(network, [first, turn, back], START_M, back_m)
    plan.routes["straight"] = follow(network, [first, ("turn.east", "e.out", 0)], START_M, spec.beyond_m)
    plan.routes["straight_back"] = follow(network, [("e.in", "turn.west", 0), back], 80.0, back_m)
    if spec.lanes > 1:
        change = (0.2 * spec.approach_m, min(0.5 * spec.approach_m, 4.0 * spec.speed_limit_mps))
        lanes = [("w.in", "turn.east", 1), first, turn, back]
        plan.routes["change_and_u_turn"] = follow(network, lanes, START_M, back_m, change)
