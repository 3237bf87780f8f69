"""A crossing of two streets; the one from west to east is the main one.

Arms `w`, `s`, `e`, `n`; nodes `<arm>.in` -> `j.<arm>.stop` -> `j.<arm>.go` -> `<arm>.out`. Routes from the west:
`straight`, `left`, `right`; from the south, on the minor street: `minor_straight`, `minor_left`, `minor_right`.
"""

import numpy as np

from ..path import ReferencePath
from .arrows import ArrowKind, paint_arrow
from .curve import pose_at
from .junction import Arm, Junction, lay_junction
from .plan import Plan
from .road import Profile
from .roadside import Roadside
from .routes import follow
from .spec import IntersectionSpec
from .street import WALK_M, Street, close_end, dress_street, lay_street

START_M = 5.0  # of the first lane, before a route begins
END_M = 12.0  # of the last lane, after a route ends
_TURNS = {"straight": 2, "left": 3, "right": 1}  # arms counted counter-clockwise from the one we come from
_ARMS = ("w", "s", "e", "n")


def build(plan: Plan, spec: IntersectionSpec) -> None:
    """Fill the plan."""
    profile = Profile(spec.lanes, spec.lanes, spec.lane_width_m, speed_limit_mps=spec.speed_limit_mps)
    arms = tuple(
        Arm(name, np.pi + k * np.pi / 2, profile, WALK_M, major=name in "we") for k, name in enumerate(_ARMS)
    )
    junction = Junction("j", 0.0, 0.0, arms, spec.corner_radius_m, spec.signalised, spec.crossings)
    streets = [lay_arm(plan, junction, arm, junction.setback_m + spec.arm_length_m) for arm in arms]
    lay_junction(plan, junction)
    if spec.lanes > 1:
        for street in streets:
            _paint_arrows(plan, street)
    plan.paint_kerbs()
    roadside = Roadside(plan)
    for street in streets:
        dress_street(roadside, street, spec.density)
        close_end(roadside, street)
    for prefix, start in (("", 0), ("minor_", 1)):
        for name, turn in _TURNS.items():
            plan.routes[prefix + name] = _route(plan, junction, _ARMS[start], _ARMS[(start + turn) % 4], name)


def lay_arm(
    plan: Plan, junction: Junction, arm: Arm, reach_m: float, prefix: str = "", bays: bool = False
) -> Street:
    """A street from the stop line to `reach_m` from the junction's centre, where the map ends."""
    axis = junction.axis(arm, reach_m)
    axis[0] = junction.axis(arm)[1]
    street = Street(axis, arm.profile, bays)
    outside = f"{prefix}{arm.name}"
    lay_street(
        plan, street, (junction.go(arm.name), f"{outside}.out"), (f"{outside}.in", junction.stop(arm.name))
    )
    plan.end_road(axis, street.kerb_m)
    return street


def _paint_arrows(plan: Plan, street: Street) -> None:
    """Left from the inner lane and right from the outer one; both may also go straight on."""
    profile = street.profile
    arrows: list[tuple[int, ArrowKind]] = [(0, "straight"), (0, "left")]
    arrows += [(profile.backward - 1, "straight"), (profile.backward - 1, "right")]
    for lane, kind in arrows:
        x, y, yaw = pose_at(street.line, 10.0, profile.centre_m(lane))
        paint_arrow(plan, (x, y, yaw + np.pi), kind)


def _route(plan: Plan, junction: Junction, start: str, end: str, turn: str) -> ReferencePath:
    """The route between two arms, on the lane that the turn is made from."""
    stop, go = junction.stop(start), junction.go(end)
    lane = 0 if turn == "left" else _last_lane(plan, f"{start}.in", stop)
    turn_lane = 0 if turn != "straight" else lane
    lanes = [(f"{start}.in", stop, lane), (stop, go, turn_lane), (go, f"{end}.out", lane)]
    length = plan.network.get_lane(lanes[-1]).length
    return follow(plan.network, lanes, START_M, length - END_M)


def _last_lane(plan: Plan, start: str, end: str) -> int:
    """Number of the rightmost lane of an edge."""
    return len(plan.network.graph[start][end]) - 1
