"""What stands in the way: boxes of road users against the strip that a vehicle is about to drive over.

One question serves traffic and expert alike, whatever the map: how far along its path can a vehicle go until it touches
a box? Leaders, parked cars, people, vehicles that cut in or cross, all are answers to it.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Boxes:
    """Oriented boxes of M road users, each float64 [M]."""

    x_m: np.ndarray
    y_m: np.ndarray
    yaw_rad: np.ndarray
    half_length_m: np.ndarray
    half_width_m: np.ndarray
    speed_mps: np.ndarray

    def __len__(self) -> int:
        return len(self.x_m)

    @staticmethod
    def of(rows: np.ndarray) -> "Boxes":
        """From rows [M, 6]: x, y, yaw, length, width, speed."""
        x, y, yaw, length, width, speed = np.asarray(rows, float).reshape(-1, 6).T
        return Boxes(x, y, yaw, 0.5 * length, 0.5 * width, speed)


def gaps(
    points: np.ndarray, s_m: np.ndarray, half_width_m: np.ndarray, boxes: Boxes
) -> tuple[np.ndarray, np.ndarray]:
    """Free way along K paths until each of M boxes, and each box's speed along the path.

    Args:
        points: float64 [K, P, 2], each path from the vehicle's front bumper on.
        s_m: float64 [K, P], arc length at the points.
        half_width_m: float64 [K], of the strip.
        boxes: M road users.

    Returns:
        gap [K, M] in metres (inf where the box is not in the way, at least -1) and speed [K, M] in m/s.
    """
    cos, sin = np.cos(boxes.yaw_rad), np.sin(boxes.yaw_rad)
    dx, dy = points[:, :, 0, None] - boxes.x_m, points[:, :, 1, None] - boxes.y_m  # [K, P, M]
    lon = np.maximum(np.abs(dx * cos + dy * sin) - boxes.half_length_m, 0.0)
    lat = np.maximum(np.abs(dy * cos - dx * sin) - boxes.half_width_m, 0.0)
    touched = lon * lon + lat * lat < (half_width_m * half_width_m)[:, None, None]
    gap = np.full((len(points), len(boxes)), np.inf)
    speed = np.zeros_like(gap)
    k, m = np.nonzero(touched.any(axis=1))
    if len(k):
        p = touched[k, :, m].argmax(axis=1)
        ahead = points[k, np.minimum(p + 1, points.shape[1] - 1)] - points[k, np.maximum(p - 1, 0)]
        yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
        turned = boxes.yaw_rad[m] - yaw
        reach = (
            np.abs(np.cos(turned)) * boxes.half_length_m[m] + np.abs(np.sin(turned)) * boxes.half_width_m[m]
        )
        middle = -(dx[k, p, m] * np.cos(yaw) + dy[k, p, m] * np.sin(yaw))
        gap[k, m] = np.maximum(s_m[k, p] - s_m[k, 0] + np.clip(middle - reach, -2.0, half_width_m[k]), -1.0)
        speed[k, m] = boxes.speed_mps[m] * np.cos(turned)
    return gap, speed
