"""A static world prepared for fast questions: is this point drivable, which lanes is it in, what stands there."""

from dataclasses import dataclass
from weakref import finalize

import numpy as np
import shapely

from .world import StaticWorld, Structure

_SEAM_M = 0.02  # neighbouring polygons grow by this, so that no hairline between them counts as off the road
_SAMPLE_M = 1.0  # spacing of the lane samples
_REACH_M = (
    0.75  # a sample speaks for this much of its lane, ahead and behind: half the spacing, more on bends
)
_POST_M = 0.2  # what a car can hit of a sign or a light is the post, not the plate
_TRUNK_M = 0.5  # and of a tree the trunk, not the crown


@dataclass(frozen=True)
class LaneHits:
    """Which lanes some points lie in.

    `inside` is bool [P, L'] over the L' lanes nearby; `heading` float64 [P, L'] is the lane's direction at the
    point [rad], and NaN where the point is outside.
    """

    inside: np.ndarray
    heading: np.ndarray


class PreparedWorld:
    """Look-up structures of one `StaticWorld`, built once and shared by every checker that runs on it."""

    def __init__(self, world: StaticWorld):
        self.stop_lines = tuple(light.stop_line for light in world.lights)
        polygons = [
            shapely.Polygon(polygon).buffer(_SEAM_M, join_style="mitre") for polygon in world.drivable
        ]
        self._drivable = shapely.union_all(polygons)
        shapely.prepare(self._drivable)
        posts = [[light.x_m, light.y_m, 0.0, _POST_M, _POST_M] for light in world.lights]
        boxes = [_footprint(structure) for structure in world.structures] + posts
        self._obstacles = np.array(boxes, dtype=np.float64).reshape(-1, 5)
        self._obstacle_radius = np.hypot(self._obstacles[:, 3], self._obstacles[:, 4]) / 2
        self._lane_samples = _sample_lanes(world)

    @classmethod
    def of(cls, world: StaticWorld) -> "PreparedWorld":
        """The one prepared world of this static world; it lives as long as that does."""
        if id(world) not in _PREPARED:
            _PREPARED[id(world)] = cls(world)
            finalize(world, _PREPARED.pop, id(world), None)
        return _PREPARED[id(world)]

    def on_road(self, points: np.ndarray) -> np.ndarray:
        """Whether each point [P, 2] lies in the drivable area: bool [P]."""
        return np.asarray(shapely.contains_xy(self._drivable, points[:, 0], points[:, 1]))

    def obstacles_near(self, x_m: float, y_m: float, radius_m: float) -> np.ndarray:
        """Footprints of the structures within a circle, as boxes float64 [N, 5] (see `shapes`)."""
        distance = np.hypot(self._obstacles[:, 0] - x_m, self._obstacles[:, 1] - y_m)
        return self._obstacles[distance < radius_m + self._obstacle_radius]

    def lanes_at(self, points: np.ndarray) -> LaneHits:
        """The lanes that contain each point [P, 2]; the points lie within a car's length of each other."""
        x, y, heading, half_width, lane = self._lane_samples
        near = (np.abs(x - points[0, 0]) < 12.0) & (np.abs(y - points[0, 1]) < 12.0)
        heading, half_width = heading[near], half_width[near]
        dx, dy = points[:, :1] - x[near], points[:, 1:] - y[near]
        cos, sin = np.cos(heading), np.sin(heading)
        hit = (np.abs(cos * dx + sin * dy) <= _REACH_M) & (np.abs(cos * dy - sin * dx) <= half_width)
        return _group_by_lane(hit, heading, lane[near])


_PREPARED: dict[int, PreparedWorld] = {}  # by identity: a world holds arrays, so it has no hash of its own


def _group_by_lane(hit: np.ndarray, heading: np.ndarray, lane: np.ndarray) -> LaneHits:
    """From samples [P, K] to lanes [P, L']; the heading is that of the last sample hit."""
    lanes, column = np.unique(lane, return_inverse=True)
    directions = np.full((len(hit), len(lanes)), np.nan)
    point, sample = np.nonzero(hit)
    directions[point, column[sample]] = heading[sample]
    return LaneHits(inside=~np.isnan(directions), heading=directions)


def _footprint(structure: Structure) -> list[float]:
    """What of a structure stands in a car's way: [x, y, yaw, length, width]."""
    length, width = structure.length_m, structure.width_m
    if structure.kind in ("tree", "sign"):
        post = _TRUNK_M if structure.kind == "tree" else _POST_M
        length, width = min(length, post), min(width, post)
    return [structure.x_m, structure.y_m, structure.yaw_rad, length, width]


def _sample_lanes(world: StaticWorld) -> np.ndarray:
    """All lanes of the network as points: float64 [5, K] of x, y, heading, half-width, number of the lane."""
    rows: list[tuple[float, ...]] = []
    lanes = [lane for ends in world.network.graph.values() for group in ends.values() for lane in group]
    for number, lane in enumerate(lanes):
        for s in np.linspace(0.0, lane.length, max(2, int(np.ceil(lane.length / _SAMPLE_M)) + 1)):
            x, y = lane.position(s, 0.0)
            rows.append((x, y, float(lane.heading_at(s)), lane.width_at(s) / 2, number))
    return np.array(rows, dtype=np.float64).reshape(-1, 5).T.copy()
