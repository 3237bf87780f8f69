"""One camera: where it sits on the ego, and how it maps directions to pixels.

Axes: the ego frame of `scene/state.py` (origin on the ground under the rear axle, x forward, y left, z up). The
camera's body axes are the same at zero rotation: it looks along x. Angles: yaw positive to the left, pitch
positive upwards, roll positive clockwise as the camera sees it (its left side goes up).

Pixels: continuous image coordinates (u right, v down) with the middle of the top-left pixel at (0.5, 0.5), so that
resizing an image only multiplies the intrinsics.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from . import projection

CameraModel = Literal["pinhole", "fisheye"]
CameraGroup = Literal["front", "side", "rear"]


@dataclass(frozen=True)
class Camera:
    """A calibrated camera. `distortion` is (k1, k2, k3, k4) of the equidistant fisheye model; unused by a pinhole."""

    name: str
    model: CameraModel
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    position_m: tuple[float, float, float]
    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    group: CameraGroup
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    @cached_property
    def rotation(self) -> np.ndarray:
        """float64 [3, 3]: its columns are the camera's forward, left and up axes in the ego frame."""
        return projection.rotation(self.yaw_rad, self.pitch_rad, self.roll_rad)

    def rays(self, height: int | None = None, width: int | None = None) -> np.ndarray:
        """Unit rays through all pixel centres, in the ego frame.

        Args:
            height: rows to cover, from the top; more than the image has continue the grid below it.
            width: columns to cover, from the left.

        Returns:
            float32 [H, W, 3].
        """
        rows, columns = height or self.height, width or self.width
        v, u = np.mgrid[0:rows, 0:columns] + 0.5
        return self.unproject(np.stack([u, v], axis=-1)).astype(np.float32)

    def unproject(self, uv: np.ndarray) -> np.ndarray:
        """Unit rays in the ego frame, float64 [..., 3], through image points [..., 2]."""
        x = (uv[..., 0] - self.cx) / self.fx
        y = (uv[..., 1] - self.cy) / self.fy
        if self.model == "pinhole":
            body = np.stack([np.ones_like(x), -x, -y], axis=-1)
        else:
            body = projection.fisheye_rays(x, y, self.distortion)
        ego: np.ndarray = (body / np.linalg.norm(body, axis=-1, keepdims=True)) @ self.rotation.T
        return ego

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where ego-frame points appear.

        Args:
            points: [N, 3] metres.

        Returns:
            uv float64 [N, 2]; depth float64 [N], the *distance from the camera* in metres (so that
            point = position + depth * ray holds for every camera model); valid bool [N]: in front of the camera and
            inside the image.
        """
        body = (np.asarray(points, dtype=np.float64) - np.array(self.position_m)) @ self.rotation
        depth = np.linalg.norm(body, axis=-1)
        if self.model == "pinhole":
            x, y, seen = projection.pinhole_plane(body)
        else:
            x, y, seen = projection.fisheye_plane(body, self.distortion)
        uv = np.stack([x * self.fx + self.cx, y * self.fy + self.cy], axis=-1)
        inside = (uv >= 0).all(-1) & (uv[:, 0] < self.width) & (uv[:, 1] < self.height)
        return uv, depth, seen & inside

    def scaled(self, height: int, width: int) -> "Camera":
        """The same view at another resolution. A change of aspect stretches the image, as resizing it would."""
        x, y = width / self.width, height / self.height
        return replace(
            self, width=width, height=height, fx=self.fx * x, cx=self.cx * x, fy=self.fy * y, cy=self.cy * y
        )
