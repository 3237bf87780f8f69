"""Camera maths as pure functions, in camera body axes (x forward, y left, z up)."""

from collections.abc import Sequence

import numpy as np


def rotation(yaw_rad: float, pitch_rad: float, roll_rad: float) -> np.ndarray:
    """float64 [3, 3] from body to ego axes: roll about the view axis, then pitch (up positive), then yaw (left)."""
    cy, sy = np.cos(yaw_rad), np.sin(yaw_rad)
    cp, sp = np.cos(pitch_rad), np.sin(pitch_rad)
    cr, sr = np.cos(roll_rad), np.sin(roll_rad)
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    turned: np.ndarray = yaw @ pitch @ roll
    return turned


def pinhole_plane(body: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised image plane coordinates (right, down) and whether the point is in front, each [N]."""
    front = body[:, 0] > 1e-6
    scale = 1.0 / np.where(front, body[:, 0], 1.0)
    return -body[:, 1] * scale, -body[:, 2] * scale, front


def fisheye_plane(body: np.ndarray, distortion: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised coordinates of the equidistant model (OpenCV fisheye; Kannala and Brandt 2006), and visibility.

    A direction is visible up to the angle at which the distorted radius stops growing.
    """
    across = np.hypot(body[:, 1], body[:, 2])
    theta = np.arctan2(across, body[:, 0])
    scale = distorted(theta, distortion) / np.maximum(across, 1e-12)
    return -body[:, 1] * scale, -body[:, 2] * scale, theta < largest_angle(distortion)


def fisheye_rays(x: np.ndarray, y: np.ndarray, distortion: Sequence[float]) -> np.ndarray:
    """Unit directions [..., 3] of normalised coordinates; the inverse of `fisheye_plane`, by Newton's method."""
    radius = np.hypot(x, y)
    theta = np.minimum(radius, largest_angle(distortion))
    for _ in range(12):
        slope = np.maximum(distorted_slope(theta, distortion), 1e-3)
        theta = np.clip(theta - (distorted(theta, distortion) - radius) / slope, 0.0, np.pi)
    across = np.sin(theta) / np.maximum(radius, 1e-12)
    return np.stack([np.cos(theta), -x * across, -y * across], axis=-1)


def distorted(theta: np.ndarray, distortion: Sequence[float]) -> np.ndarray:
    """theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)."""
    k1, k2, k3, k4 = distortion
    t2 = theta * theta
    radius: np.ndarray = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return radius


def distorted_slope(theta: np.ndarray, distortion: Sequence[float]) -> np.ndarray:
    """The derivative of `distorted` by theta."""
    k1, k2, k3, k4 = distortion
    t2 = theta * theta
    slope: np.ndarray = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
    return slope


def largest_angle(distortion: Sequence[float]) -> float:
    """The angle from the view axis up to which the distorted radius grows [rad], at most pi."""
    theta = np.linspace(0.0, np.pi, 2048)
    falling = np.flatnonzero(distorted_slope(theta, distortion) <= 1e-3)
    return float(theta[falling[0]]) if falling.size else float(np.pi)
