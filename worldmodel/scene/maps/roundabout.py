"""A roundabout of one lane with four arms; traffic circulates counter-clockwise and has priority.

Per arm (`w`, `s`, `e`, `n`): `<arm>.in` -> `<arm>.stop` -> `<arm>.join` into the ring, `<arm>.leave` -> `<arm>.go` ->
`<arm>.out` out of it. The ring runs `w.join` -> `s.leave` -> `s.join` -> `e.leave` and so on. Routes from the west:
`first` (south), `second` (east), `third` (north) and `back`.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import shapely
from highway_env.road.lane import CircularLane

from ..world import Crossing
from . import furniture
from .curve import corner, offset, straight
from .intersection import END_M, START_M
from .junction import CROSSING_DEPTH_M
from .lanes import NONE, LaneOptions, make_lane
from .plan import Plan, closed, ribbon
from .road import Profile
from .roadside import Roadside
from .routes import LATERAL_ACCEL_MPS2, follow
from .spec import RoundaboutSpec
from .street import WALK_M, Street, close_end, dress_street, lay_street

ARMS = {"w": np.pi, "s": 1.5 * np.pi, "e": 0.0, "n": 0.5 * np.pi}  # in driving order
MOUTH_RAD = np.pi / 6  # half the angle between an arm's leave and join nodes
RING_WIDTH_M, APRON_M = 4.4, 1.2
FLARE_M = 12.0
RING_PRIORITY = 4


@dataclass(frozen=True)
class Ring:
    """Geometry of the ring around the origin, and of an arm along +x."""

    radius_m: float
    lane_width_m: float

    @property
    def meeting_m(self) -> float:
        """Where the line of an incoming lane meets the tangent of the ring at the join."""
        rise = self.radius_m * np.sin(MOUTH_RAD) - self.lane_width_m / 2
        return float(self.radius_m * np.cos(MOUTH_RAD) + rise * np.tan(MOUTH_RAD))

    @property
    def stop_m(self) -> float:
        """Distance of the yield lines from the centre."""
        return self.meeting_m + 6.5

    def pose(self, angle_rad: float) -> tuple[float, float, float]:
        """A pose on the ring's centre line."""
        x, y = self.radius_m * np.cos(angle_rad), self.radius_m * np.sin(angle_rad)
        return float(x), float(y), float(angle_rad + np.pi / 2)


def build(plan: Plan, spec: RoundaboutSpec) -> None:
    """Fill the plan."""
    ring = Ring(spec.radius_m, spec.lane_width_m)
    profile = Profile(lane_width_m=spec.lane_width_m, speed_limit_mps=spec.speed_limit_mps)
    streets = [_lay_arm(plan, ring, profile, name, spec.arm_length_m) for name in ARMS]
    _lay_ring(plan, ring)
    _pave(plan, ring, profile)
    for name in ARMS:
        _paint_mouth(plan, ring, profile, name, spec.crossings)
    plan.paint_kerbs()
    roadside = Roadside(plan)
    _plant_island(roadside, ring)
    for street in streets:
        dress_street(roadside, street, spec.density)
        close_end(roadside, street)
    _add_routes(plan)


def _axis(name: str, from_m: float, to_m: float) -> np.ndarray:
    ahead = np.array([np.cos(ARMS[name]), np.sin(ARMS[name])])
    return straight(from_m * ahead, to_m * ahead)


def _lay_arm(plan: Plan, ring: Ring, profile: Profile, name: str, length_m: float) -> Street:
    street = Street(_axis(name, ring.stop_m, ring.stop_m + length_m), profile)
    lay_street(plan, street, (f"{name}.go", f"{name}.out"), (f"{name}.in", f"{name}.stop"))
    plan.end_road(street.line, street.kerb_m)
    yaw, half_lane = ARMS[name], profile.lane_width_m / 2
    entry, exit_ = (offset(street.line, side * half_lane)[0] for side in (1, -1))
    joining = corner((*entry, yaw + np.pi), ring.pose(yaw + MOUTH_RAD), 6.5)
    leaving = corner(ring.pose(yaw - MOUTH_RAD), (*exit_, yaw), 6.5)
    slow = float(np.sqrt(LATERAL_ACCEL_MPS2 * 8.0))
    for nodes, points, priority in (("stop", "join"), joining, 1), (("leave", "go"), leaving, RING_PRIORITY):
        options = LaneOptions(profile.lane_width_m, slow, priority)
        plan.network.add_lane(f"{name}.{nodes[0]}", f"{name}.{nodes[1]}", make_lane(points, options))
    return street


def _lay_ring(plan: Plan, ring: Ring) -> None:
    limit = float(np.sqrt(LATERAL_ACCEL_MPS2 * ring.radius_m))
    names = list(ARMS)
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        for start, end, begin, extent in (
            (f"{name}.leave", f"{name}.join", ARMS[name] - MOUTH_RAD, 2 * MOUTH_RAD),
            (f"{name}.join", f"{following}.leave", ARMS[name] + MOUTH_RAD, np.pi / 2 - 2 * MOUTH_RAD),
        ):
            # "Clockwise" in highway-env's frame, which has y downwards, is counter-clockwise in ours.
            lane = CircularLane(
                [0.0, 0.0], ring.radius_m, begin, begin + extent, clockwise=True, width=RING_WIDTH_M,
                line_types=(NONE, NONE), speed_limit=limit, priority=RING_PRIORITY,
            )  # fmt: skip
            plan.network.add_lane(start, end, lane)


def _pave(plan: Plan, ring: Ring, profile: Profile) -> None:
    centre = shapely.Point(0.0, 0.0)
    outer, inner = ring.radius_m + RING_WIDTH_M / 2 + 0.4, ring.radius_m - RING_WIDTH_M / 2 - 0.3
    for extra, flare, areas in (0.0, FLARE_M, plan.asphalt), (WALK_M, FLARE_M - WALK_M, plan.walks):
        reach = profile.right_m + extra
        arms = [ribbon(_axis(name, 0.0, ring.stop_m + 0.3), reach, -reach) for name in ARMS]
        areas.append(closed(shapely.union_all([centre.buffer(outer + extra, 48), *arms]), flare))
    island = centre.buffer(inner, 48)
    plan.asphalt = [area.difference(island) for area in plan.asphalt]
    plan.walks = [area.difference(island) for area in plan.walks]
    plan.islands.append(island.difference(centre.buffer(inner - APRON_M, 48)))


def _paint_mouth(plan: Plan, ring: Ring, profile: Profile, name: str, crossing: bool) -> None:
    axis = _axis(name, 0.0, ring.stop_m - 0.2)
    line = np.stack([offset(axis, profile.left_m)[1], axis[1]])
    plan.mark("stop_line", line, 0.4, (0.5, 0.4))
    if crossing:
        axis = _axis(name, 0.0, ring.stop_m + 6.0)  # leaves room for a car between crossing and yield line
        line = np.stack([offset(axis, profile.left_m)[1], offset(axis, -profile.right_m)[1]])
        plan.crossings.append(Crossing(line, CROSSING_DEPTH_M))
        plan.mark("crossing", line, CROSSING_DEPTH_M)


def _plant_island(roadside: Roadside, ring: Ring) -> None:
    rng, reach = roadside.plan.rng, ring.radius_m - RING_WIDTH_M / 2 - APRON_M - 2.5
    for _ in range(9):
        radius, angle = reach * np.sqrt(rng.uniform()), rng.uniform(0.0, 2 * np.pi)
        tree = furniture.tree((radius * np.cos(angle), radius * np.sin(angle), 0.0), rng, (2.0, 4.0))
        roadside.put(tree)


def _add_routes(plan: Plan) -> None:
    around = [*list(ARMS)[1:], "w"]
    for count, name in enumerate(("first", "second", "third", "back"), start=1):
        nodes = ["w.in", "w.stop", "w.join"]
        for arm in around[: count - 1]:
            nodes += [f"{arm}.leave", f"{arm}.join"]
        last = around[count - 1]
        nodes += [f"{last}.leave", f"{last}.go", f"{last}.out"]
        lanes = [(start, end, 0) for start, end in pairwise(nodes)]
        length = plan.network.get_lane(lanes[-1]).length
        plan.routes[name] = follow(plan.network, lanes, START_M, length - END_M)
