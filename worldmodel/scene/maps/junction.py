"""A junction of streets: the area with its rounded corners, the turns, crossings, stop lines and lights.

Junction `j` has the nodes `j.<arm>.stop`, where incoming lanes end at the stop line, and `j.<arm>.go`, where outgoing
lanes begin. Between them are its turns: as many straight lanes as both arms have, and one lane left and right.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely

from ..path import LaneIndex
from ..world import Crossing, TrafficLight
from . import furniture
from .curve import corner, headings, offset, straight
from .lanes import LaneOptions, make_lane
from .plan import Plan, closed, ribbon
from .road import Profile
from .routes import LATERAL_ACCEL_MPS2

CROSSING_DEPTH_M = 3.0
LIGHT_HEIGHT_M = 3.4
_CORNER_TO_CROSSING_M, _CROSSING_TO_STOP_M = 0.6, 0.9
_STOP_TO_LIGHT_M = _CROSSING_TO_STOP_M + CROSSING_DEPTH_M + 0.3


@dataclass(frozen=True)
class Arm:
    """A street that comes to a junction; `yaw_rad` points away from it. Its profile has as many lanes each way."""

    name: str
    yaw_rad: float
    profile: Profile
    walk_m: float = 3.2  # from the kerb to the outer edge of the sidewalk
    major: bool = True


class Turn(NamedTuple):
    """One way through a junction: angle turned (left positive), priority, and lane numbers in and out."""

    angle_rad: float
    priority: int
    lanes: list[tuple[int, int]]


@dataclass(frozen=True)
class Junction:
    """Arms around a point."""

    name: str
    x_m: float
    y_m: float
    arms: tuple[Arm, ...]
    corner_radius_m: float = 7.0
    signalised: bool = True
    crossings: bool = True

    @property
    def setback_m(self) -> float:
        """Distance from the centre to the stop lines."""
        room = _CORNER_TO_CROSSING_M + CROSSING_DEPTH_M + _CROSSING_TO_STOP_M if self.crossings else 1.0
        return max(arm.profile.right_m for arm in self.arms) + self.corner_radius_m + room

    def stop(self, arm: str) -> str:
        """The node where incoming lanes of an arm end."""
        return f"{self.name}.{arm}.stop"

    def go(self, arm: str) -> str:
        """The node where outgoing lanes of an arm begin."""
        return f"{self.name}.{arm}.go"

    def axis(self, arm: Arm, until_m: float | None = None) -> np.ndarray:
        """The line of an arm from the centre outwards, to the stop line by default: [2, 2]."""
        centre = np.array([self.x_m, self.y_m])
        reach = self.setback_m if until_m is None else until_m
        return straight(centre, centre + reach * np.array([np.cos(arm.yaw_rad), np.sin(arm.yaw_rad)]))

    def across(self, arm: Arm, distance_m: float, right_m: float, left_m: float) -> np.ndarray:
        """A line across an arm, from `right_m` right of the middle (as incoming drivers see it) to `left_m` left."""
        axis = self.axis(arm, distance_m)
        return np.stack([offset(axis, right_m)[1], offset(axis, -left_m)[1]])


def lay_junction(plan: Plan, junction: Junction) -> None:
    """Add the area, the lanes of all turns, and what is painted and stands at the mouths of the arms.

    The roads that lead here must have been laid: lights rule their lanes.
    """
    _pave(plan, junction)
    for start in junction.arms:
        for end in junction.arms:
            if end is not start:
                _add_turn(plan, junction, start, end)
    for arm in junction.arms:
        if junction.crossings:
            _add_crossing(plan, junction, arm)
        _add_stop(plan, junction, arm)


def _pave(plan: Plan, junction: Junction) -> None:
    arms = [(arm, junction.axis(arm, junction.setback_m + 0.3)) for arm in junction.arms]
    streets = [ribbon(axis, arm.profile.left_m, -arm.profile.right_m) for arm, axis in arms]
    outer = [
        ribbon(axis, arm.profile.left_m + arm.walk_m, -arm.profile.right_m - arm.walk_m) for arm, axis in arms
    ]
    plan.asphalt.append(closed(shapely.union_all(streets), junction.corner_radius_m))
    plan.walks.append(closed(shapely.union_all(outer), max(junction.corner_radius_m - 3.2, 1.0)))


def _add_turn(plan: Plan, junction: Junction, start: Arm, end: Arm) -> None:
    turn = turn_between(junction, start, end)
    for lane_in, lane_out in turn.lanes:
        profile = start.profile
        entry = _lane_pose(junction, start, -profile.centre_m(lane_in), np.pi)
        exit_ = _lane_pose(junction, end, end.profile.centre_m(lane_out), 0.0)
        points, limit = _turn_line(junction, start, turn, entry, exit_)
        options = LaneOptions(profile.lane_width_m, limit, turn.priority)
        plan.network.add_lane(junction.stop(start.name), junction.go(end.name), make_lane(points, options))


def turn_between(junction: Junction, start: Arm, end: Arm) -> Turn:
    """How traffic from one arm goes on into another."""
    angle = (end.yaw_rad - start.yaw_rad) % (2 * np.pi) - np.pi
    lanes_in, lanes_out = start.profile.forward, end.profile.forward
    through = 3 if junction.signalised or start.major else 1
    if abs(angle) < 0.6:
        return Turn(angle, through, [(i, i) for i in range(min(lanes_in, lanes_out))])
    if angle > 0:
        return Turn(angle, through - 1, [(0, 0)])
    return Turn(angle, through, [(lanes_in - 1, lanes_out - 1)])


def _lane_pose(junction: Junction, arm: Arm, right_m: float, turned_rad: float) -> tuple[float, float, float]:
    x, y = offset(junction.axis(arm), -right_m)[1]
    return float(x), float(y), arm.yaw_rad + turned_rad


def _turn_line(
    junction: Junction,
    start: Arm,
    turn: Turn,
    entry: tuple[float, float, float],
    exit_: tuple[float, float, float],
) -> tuple[np.ndarray, float]:
    """Points of the turn and the speed that is comfortable in it."""
    limit = start.profile.speed_limit_mps
    if abs(turn.angle_rad) < 1e-6:
        return straight(np.array(entry[:2]), np.array(exit_[:2])), limit
    half_lane = start.profile.lane_width_m / 2
    tight = 1.2 * (junction.corner_radius_m + half_lane)
    wide = junction.corner_radius_m + start.profile.right_m + half_lane
    points = corner(entry, exit_, tight if turn.angle_rad < 0 else wide)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    bend = float((np.abs(np.diff(headings(points))) / steps).max())
    return points, min(limit, float(np.sqrt(LATERAL_ACCEL_MPS2 / bend)))


def _add_crossing(plan: Plan, junction: Junction, arm: Arm) -> None:
    middle = junction.setback_m - _CROSSING_TO_STOP_M - CROSSING_DEPTH_M / 2
    line = junction.across(arm, middle, arm.profile.left_m, arm.profile.right_m)
    plan.crossings.append(Crossing(line, CROSSING_DEPTH_M))
    plan.mark("crossing", line, CROSSING_DEPTH_M)


def _add_stop(plan: Plan, junction: Junction, arm: Arm) -> None:
    """The stop line and the light, or on minor roads without lights a stop sign; nothing on major ones."""
    kerb = arm.profile.left_m
    line = junction.across(arm, junction.setback_m - 0.2, kerb, 0.0)
    if junction.signalised or not arm.major:
        plan.mark("stop_line", line, 0.4)
    # Beyond the crossing, where a driver who waits at the line still sees it; the kerb is straight up to there.
    beyond = _STOP_TO_LIGHT_M if junction.crossings else 0.4
    x, y = junction.across(arm, junction.setback_m - beyond, kerb + 0.6, 0.0)[0]
    if junction.signalised:
        lanes = _lanes_into(plan, junction.stop(arm.name))
        group = 0 if arm.major else 1
        plan.lights.append(TrafficLight(float(x), float(y), arm.yaw_rad, LIGHT_HEIGHT_M, line, lanes, group))
    elif not arm.major:
        plan.structures.append(furniture.stop_sign((float(x), float(y), arm.yaw_rad)))


def _lanes_into(plan: Plan, node: str) -> tuple[LaneIndex, ...]:
    graph = plan.network.graph
    return tuple((start, node, i) for start in graph for i in range(len(graph[start].get(node, ()))))
