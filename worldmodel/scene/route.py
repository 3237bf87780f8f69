"""The ego's route as lanes: which lanes come when along its reference path."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .lane_graph import LaneGraph
from .path import LaneIndex, ReferencePath
from .right_of_way import Mover
from .state import EGO_SHAPE, EgoState, LightState
from .traffic import must_stop
from .vehicle import EGO_ID

FRONT_M = EGO_SHAPE.rear_axle_to_center_m + EGO_SHAPE.length_m / 2  # rear axle to front bumper
_REACH_M = 80.0


@dataclass(frozen=True)
class LaneChange:
    """Where the route moves over to a neighbouring lane."""

    begin_m: float  # arc length at which the path leaves the middle of the old lane
    end_m: float  # ... and arrives in the middle of the new one
    target: LaneIndex


@dataclass(frozen=True, eq=False)
class Route:
    """A reference path with the arc length at which each of its lanes begins."""

    path: ReferencePath
    lane_starts_m: tuple[float, ...]  # one per path.lanes; neighbours of one edge start together
    changes: tuple[LaneChange, ...]

    @staticmethod
    def of(path: ReferencePath, graph: LaneGraph) -> "Route":
        """Measure where the lanes begin."""
        first = graph[path.lanes[0]].lane.local_coordinates(path.points[0])[0]
        starts = [-float(first)]
        for lane, after in zip(path.lanes[:-1], path.lanes[1:], strict=True):
            starts.append(starts[-1] if lane[:2] == after[:2] else starts[-1] + graph[lane].length_m)
        changes = [
            _lane_change(path, graph, lane, after, start)
            for lane, after, start in zip(path.lanes[:-1], path.lanes[1:], starts[:-1], strict=True)
            if lane[:2] == after[:2]
        ]
        return Route(path, tuple(starts), tuple(changes))

    def lanes_ahead(self, s_m: float) -> list[tuple[LaneIndex, float]]:
        """(lane, distance from s to its start), from the lane at s on."""
        ends = (*self.lane_starts_m[1:], float("inf"))
        pairs = zip(self.path.lanes, self.lane_starts_m, ends, strict=True)
        return [(lane, start - s_m) for lane, start, end in pairs if end > s_m and start - s_m < _REACH_M]

    def mover(
        self, graph: LaneGraph, ego: EgoState, s_m: float, lights: Sequence[LightState], waited_s: float
    ) -> Mover:
        """The ego for right of way: it does not ask, and others let it go first in ties."""
        lanes: list[tuple[LaneIndex, float]] = []
        front = s_m + FRONT_M
        for lane, start in self.lanes_ahead(front - EGO_SHAPE.length_m):
            start -= EGO_SHAPE.length_m
            lanes.append((lane, start))
            if must_stop(graph, lane, start + graph[lane].length_m, ego.speed_mps, lights, waited_s):
                break
        speed = max(ego.speed_mps, 0.0)
        return Mover(
            EGO_ID,
            lanes,
            speed,
            EGO_SHAPE.length_m,
            set(),
            waited_s,
            wins_ties=True,
            asks=False,
            remembers=False,
        )

    def next_light(self, graph: LaneGraph, s_m: float) -> tuple[int, float] | None:
        """(light, distance from s to its stop line) of the next light, or None."""
        for lane, start in self.lanes_ahead(s_m):
            light, end = graph[lane].light, start + graph[lane].length_m
            if light is not None and end > 0.0:
                return light, end
        return None


def ego_box(ego: EgoState) -> np.ndarray:
    """The ego's box with its speed, float64 [6]."""
    return np.array([*ego.box_center, ego.yaw_rad, EGO_SHAPE.length_m, EGO_SHAPE.width_m, ego.speed_mps])


def _lane_change(
    path: ReferencePath, graph: LaneGraph, lane: LaneIndex, target: LaneIndex, start_m: float
) -> LaneChange:
    on_edge = np.flatnonzero((path.s_m >= start_m) & (path.s_m <= start_m + graph[lane].length_m))
    left = np.array([abs(graph[lane].lane.local_coordinates(path.points[k])[1]) for k in on_edge])
    right = np.array([abs(graph[target].lane.local_coordinates(path.points[k])[1]) for k in on_edge])
    begin, end = on_edge[np.flatnonzero(left > 0.4)[0]], on_edge[np.flatnonzero(right > 0.4)[-1]]
    return LaneChange(float(path.s_m[begin]), float(path.s_m[end]), target)
