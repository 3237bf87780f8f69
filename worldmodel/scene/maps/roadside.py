"""Where things stand along a road: never on anything paved, never in one another."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..world import Structure
from . import furniture
from .curve import arc_lengths, poses_at
from .furniture import Pose
from .plan import Plan

CLEAR_OF_KERB_M = 0.25


class Roadside:
    """Puts structures into a plan whose roads are complete, leaving out those that would stand in the way."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._road = plan.paved().buffer(CLEAR_OF_KERB_M)
        walks = shapely.union_all([self._road, *plan.walks])
        self._road_and_walks = walks
        shapely.prepare([self._road, self._road_and_walks])
        crossings = [shapely.LineString(c.line).buffer(c.width_m / 2 + 1.0) for c in plan.crossings]
        self._crossings: BaseGeometry = shapely.union_all(crossings)
        self._taken: list[BaseGeometry] = [footprint(s) for s in plan.structures]

    def put(self, structure: Structure, on_walk: bool = False) -> bool:
        """Add a structure where it is free of roads (and of sidewalks, unless `on_walk`) and of all others."""
        area = footprint(structure)
        blocked = self._road if on_walk else self._road_and_walks
        if blocked.intersects(area) or self._crossings.intersects(area):
            return False
        if self._taken and shapely.intersects(area, np.array(self._taken)).any():
            return False
        self._taken.append(area)
        self.plan.structures.append(structure)
        return True

    def row(
        self,
        line: np.ndarray,
        left_m: float,
        spacing_m: float,
        make: Callable[[Pose], Structure],
        on_walk: bool = False,
        jitter: float = 0.0,
        turned_rad: float = 0.0,
    ) -> None:
        """Put one thing every `spacing_m` along a line, at a left offset; `jitter` is a share of the spacing."""
        s = np.arange(spacing_m / 2, arc_lengths(line)[-1], spacing_m)
        s += spacing_m * jitter * self.plan.rng.uniform(-0.5, 0.5, len(s))
        for x, y, yaw in poses_at(line, s, left_m):
            self.put(make((x, y, yaw + turned_rad)), on_walk)

    def rails(self, line: np.ndarray, left_m: float, piece_m: float = 12.0) -> None:
        """A continuous guard rail along a line. Its pieces follow bends, so they may touch one another."""
        length = arc_lengths(line)[-1]
        borders = np.linspace(0.0, length, max(2, round(length / piece_m) + 1))
        for (ax, ay, _), (bx, by, _) in pairwise(poses_at(line, borders, left_m)):
            pose = ((ax + bx) / 2, (ay + by) / 2, float(np.arctan2(by - ay, bx - ax)))
            piece = furniture.rail(pose, float(np.hypot(bx - ax, by - ay)))
            if not self._road.intersects(footprint(piece)):
                self._taken.append(footprint(piece))
                self.plan.structures.append(piece)

    def scatter_trees(
        self,
        line: np.ndarray,
        near_m: float,
        far_m: float,
        per_100_m: float,
        sides: tuple[int, ...] = (-1, 1),
    ) -> None:
        """Trees on the sides of a line (1 is left), at random between two distances, denser near the line."""
        rng, length = self.plan.rng, arc_lengths(line)[-1]
        for side in sides:
            count = round(per_100_m * length / 100.0)
            away = near_m + (far_m - near_m) * rng.uniform(size=count) ** 1.7
            for pose in poses_at(line, rng.uniform(0.0, length, count), side * away):
                self.put(furniture.tree(tuple(pose), rng))


def footprint(structure: Structure) -> shapely.Polygon:
    """The ground that a structure stands on (of a tree: the whole crown)."""
    x, y = (
        np.array([-0.5, 0.5, 0.5, -0.5]) * structure.length_m,
        np.array([-0.5, -0.5, 0.5, 0.5]) * structure.width_m,
    )
    cos, sin = np.cos(structure.yaw_rad), np.sin(structure.yaw_rad)
    return shapely.Polygon(
        np.stack([structure.x_m + cos * x - sin * y, structure.y_m + sin * x + cos * y], axis=1)
    )
