"""A reference path: the centre line that an ego is asked to follow, with its speed limit, and Frenet look-ups."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

LaneIndex = tuple[str, str, int]


class FrenetPose(NamedTuple):
    """A position relative to a path: arc length, signed offset (left positive) and heading error."""

    s_m: float
    offset_m: float
    heading_error_rad: float


@dataclass(frozen=True, eq=False)
class ReferencePath:
    """A polyline with one heading, speed limit and lane half-width per point, spaced about a metre apart."""

    points: np.ndarray  # float64 [N, 2] world metres, N >= 2, no repeated neighbours
    speed_limit_mps: np.ndarray  # float64 [N]
    half_width_m: np.ndarray  # float64 [N], of the lane being followed
    lanes: tuple[LaneIndex, ...]  # highway-env lanes in driving order

    @cached_property
    def s_m(self) -> np.ndarray:
        """Arc length at every point, float64 [N], from 0."""
        return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @cached_property
    def heading_rad(self) -> np.ndarray:
        """Heading at every point, float64 [N], unwrapped."""
        tangent = np.gradient(self.points, axis=0)
        return np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))

    @cached_property
    def curvature_per_m(self) -> np.ndarray:
        """Signed curvature at every point, float64 [N], left positive."""
        return np.gradient(self.heading_rad, self.s_m)

    @property
    def length_m(self) -> float:
        """Total arc length."""
        return float(self.s_m[-1])

    def pose_at(self, s_m: float | np.ndarray, offset_m: float | np.ndarray = 0.0) -> np.ndarray:
        """World pose(s) at an arc length and a left offset: float64 [..., 3] = x, y, yaw. Clamped to the ends."""
        s = np.clip(s_m, 0.0, self.length_m)
        x, y = (np.interp(s, self.s_m, self.points[:, k]) for k in (0, 1))
        yaw = np.interp(s, self.s_m, self.heading_rad)
        return np.stack([x - offset_m * np.sin(yaw), y + offset_m * np.cos(yaw), yaw], axis=-1)

    def limit_at(self, s_m: float | np.ndarray) -> np.ndarray:
        """Speed limit at an arc length [m/s]."""
        return np.interp(s_m, self.s_m, self.speed_limit_mps)

    def project(
        self, x_m: float, y_m: float, yaw_rad: float = 0.0, near_s_m: float | None = None
    ) -> FrenetPose:
        """The pose relative to the path.

        Args:
            x_m: world x.
            y_m: world y.
            yaw_rad: heading, for the heading error.
            near_s_m: where the last look-up ended; the search then stays within 30 m of it, so that a path which
                crosses itself (u-turn, roundabout) is followed in order.
        """
        low, high = 0, len(self.points) - 1
        if near_s_m is not None:
            low = max(0, int(np.searchsorted(self.s_m, near_s_m - 30.0)) - 1)
            high = min(high, int(np.searchsorted(self.s_m, near_s_m + 30.0)) + 1)
        start, end = self.points[low:high], self.points[low + 1 : high + 1]
        along = end - start
        position = np.array([x_m, y_m])
        t = np.clip(((position - start) * along).sum(1) / (along**2).sum(1), 0.0, 1.0)
        nearest = start + t[:, None] * along
        k = int(np.argmin(((position - nearest) ** 2).sum(1)))
        tangent = along[k] / np.linalg.norm(along[k])
        gap = position - nearest[k]
        s = float(self.s_m[low + k] + t[k] * np.linalg.norm(along[k]))
        heading = float(np.interp(s, self.s_m, self.heading_rad))
        error = (yaw_rad - heading + np.pi) % (2 * np.pi) - np.pi
        sign = 1.0 if tangent[0] * gap[1] - tangent[1] * gap[0] >= 0 else -1.0
        return FrenetPose(s, sign * float(np.hypot(*gap)), float(error))
