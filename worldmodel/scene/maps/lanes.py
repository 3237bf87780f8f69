"""Lanes of a highway-env network along our curves.

highway-env counts lateral positions to one side of a lane; in our right-handed world that side is the left. Lanes of
one edge are numbered from left to right, as its lane-change actions expect. `line_types` are (right, left).
"""

import math
from dataclasses import dataclass

import numpy as np
from highway_env.road.lane import AbstractLane, LineType, PolyLaneFixedWidth, StraightLane

from .curve import arc_lengths, headings, resample

STRIPED, SOLID, NONE = LineType.STRIPED, LineType.CONTINUOUS_LINE, LineType.NONE


class CurveLane(PolyLaneFixedWidth):  # type: ignore[misc]  # highway-env has no types
    """A lane along any smooth curve.

    The parent searches its samples one by one and goes wrong where a lane turns by more than a right angle; this
    one looks up the nearest sample at once and works for u-turns.
    """

    def __init__(self, points: np.ndarray, **options: object) -> None:
        step = 0.5 if arc_lengths(points)[-1] < 80.0 else 1.0
        points = resample(points, step)
        super().__init__(points, **options)
        self.length = float(arc_lengths(points)[-1])
        self._points = points
        self._stride = 16 if len(points) > 200 else 1  # short lanes may turn too tightly to skip points
        self._coarse = points[:: self._stride]
        self._step = self.length / (len(points) - 1)
        self._xy: list[tuple[float, float]] = points.tolist()
        self._heading: list[float] = headings(points).tolist()

    def position(self, longitudinal: float, lateral: float) -> np.ndarray:
        """World position of lane coordinates [m]; the ends go on straight."""
        k, beyond = self._segment(longitudinal)
        (ax, ay), (bx, by) = self._xy[k], self._xy[k + 1]
        t = beyond / self._step
        yaw = self.heading_at(longitudinal)
        x, y = ax + t * (bx - ax), ay + t * (by - ay)
        return np.array([x - lateral * math.sin(yaw), y + lateral * math.cos(yaw)])

    def local_coordinates(self, position: np.ndarray) -> tuple[float, float]:
        """Arc length and left offset [m] of a world position."""
        nearest = self._stride * _nearest(self._coarse, position)
        if self._stride > 1:
            low = max(nearest - self._stride, 0)
            nearest = low + _nearest(self._points[low : nearest + self._stride + 1], position)
        candidates = {max(nearest - 1, 0), min(nearest, len(self._xy) - 2)}
        _, s, r = min(self._on_segment(k, float(position[0]), float(position[1])) for k in candidates)
        return s, r

    def heading_at(self, longitudinal: float) -> float:
        """Heading [rad], unwrapped, at an arc length [m]."""
        k, beyond = self._segment(longitudinal)
        t = min(max(beyond / self._step, 0.0), 1.0)
        return self._heading[k] + t * (self._heading[k + 1] - self._heading[k])

    def _segment(self, longitudinal: float) -> tuple[int, float]:
        k = min(max(int(longitudinal / self._step), 0), len(self._xy) - 2)
        return k, longitudinal - k * self._step

    def _on_segment(self, k: int, x: float, y: float) -> tuple[float, float, float]:
        """(distance, arc length, left offset) with the first and last segment going on for ever."""
        (ax, ay), (bx, by) = self._xy[k], self._xy[k + 1]
        ux, uy = (bx - ax) / self._step, (by - ay) / self._step
        along, across = (x - ax) * ux + (y - ay) * uy, ux * (y - ay) - uy * (x - ax)
        low = -math.inf if k == 0 else 0.0
        high = math.inf if k == len(self._xy) - 2 else self._step
        clamped = min(max(along, low), high)
        distance = math.hypot(along - clamped, across)
        return distance, k * self._step + clamped, math.copysign(distance, across)


def _nearest(points: np.ndarray, position: np.ndarray) -> int:
    gap = points - position
    return int(np.einsum("nd,nd->n", gap, gap).argmin())


@dataclass(frozen=True)
class LaneOptions:
    """What a lane has besides its curve."""

    width_m: float = 3.5
    speed_limit_mps: float = 13.9
    priority: int = 0
    line_types: tuple[int, int] = (NONE, NONE)  # right, left


def make_lane(points: np.ndarray, options: LaneOptions) -> AbstractLane:
    """A highway-env lane along points [N, 2]: a straight one where they lie on a line."""
    keywords = {
        "width": options.width_m,
        "speed_limit": options.speed_limit_mps,
        "priority": options.priority,
        "line_types": options.line_types,
    }
    if np.ptp(headings(points)) < 1e-9:
        return StraightLane(points[0], points[-1], **keywords)
    return CurveLane(points, **keywords)
