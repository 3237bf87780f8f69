"""A rig as tensors: rays, and the projection of points into every camera at once."""

import numpy as np
import torch

from ..rig import Camera, Rig

FAR_M = 1e4  # stands for the sky: far enough that only rotation moves it


class RigViews:
    """Precomputed rays and projection of a rig at its own resolution. Stateless after construction."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._rays = torch.from_numpy(np.stack([camera.rays() for camera in rig.cameras]))  # [V, h, w, 3]
        self._origins = torch.tensor([camera.position_m for camera in rig.cameras])[:, None, None]

    def points(self, depth_m: torch.Tensor) -> torch.Tensor:
        """Ego-frame points [V, h, w, 3] at a distance along each pixel's ray [V, h, w]; inf becomes 10 km, NaN the camera."""
        distance = torch.nan_to_num(depth_m, posinf=FAR_M).clamp_max(FAR_M)
        return self._origins + distance[..., None] * self._rays

    def project(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each camera's own points [..., V, h, w, 3] to `grid_sample` coordinates [..., V, h, w, 2], and which are inside."""
        seen = zip(self.rig.cameras, points.unbind(-4), strict=True)
        grids, insides = zip(*(_project(camera, own) for camera, own in seen), strict=True)
        return torch.stack(grids, dim=-4), torch.stack(insides, dim=-3)


def _project(camera: Camera, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rotation = torch.from_numpy(camera.rotation).to(points.dtype)
    body = (points - torch.tensor(camera.position_m, dtype=points.dtype)) @ rotation
    x, y, z = body.unbind(-1)
    if camera.model == "pinhole":
        front = x > 1e-3
        scale = 1.0 / torch.where(front, x, torch.ones_like(x))
    else:
        front, scale = _fisheye_scale(camera, x, y, z)
    u = (-y * scale * camera.fx + camera.cx) / camera.width * 2 - 1
    v = (-z * scale * camera.fy + camera.cy) / camera.height * 2 - 1
    inside = front & (u.abs() < 1) & (v.abs() < 1)
    return torch.stack([u, v], dim=-1), inside


def _fisheye_scale(
    camera: Camera, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Visibility, and the factor from (y, z) to the normalised plane, of the equidistant model."""
    across = torch.hypot(y, z)
    theta = torch.atan2(across, x)
    k1, k2, k3, k4 = camera.distortion
    t2 = theta.square()
    radius = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return theta < torch.pi * 0.6, radius / across.clamp_min(1e-9)
