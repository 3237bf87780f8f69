"""Camera geometry as tensors: rays, intrinsics, who neighbours whom. Made once per rig."""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..rig import Rig
from ..rig.projection import largest_angle
from ..rig.rig import OVERLAP_SHARE
from .config import RASTER_STRIDE

# Cameras that a re-projected pixel may come from, its own first, then by overlap. All of them: the ground that a rear
# camera will see was in front of the car a second ago.
CANDIDATES = 8
LENS = 22  # numbers of a camera that projecting takes


@dataclass(frozen=True)
class CameraTensors:
    """A rig (or a batch of rigs: leading axes ...) at raster resolution."""

    rays: Tensor  # float32 [..., V, h, w, 3] unit rays through raster cells, ego frame
    rotation: Tensor  # [..., V, 3, 3] columns forward, left, up in the ego frame
    position: Tensor  # [..., V, 3] metres
    focal: Tensor  # [..., V, 2] raster cells
    center: Tensor  # [..., V, 2]
    fisheye: Tensor  # bool [..., V]
    distortion: Tensor  # [..., V, 4]
    largest_angle: Tensor  # [..., V] rad, from the view axis
    neighbours: Tensor  # bool [..., V, V]
    overlap: Tensor  # [..., V, V] share of a camera's pixels that the other sees

    @classmethod
    def from_rig(cls, rig: Rig) -> "CameraTensors":
        """Geometry of a rig whose size is the camera resolution."""
        cameras = rig.scaled(rig.height // RASTER_STRIDE, rig.width // RASTER_STRIDE).cameras
        angles = [largest_angle(c.distortion) if c.model == "fisheye" else np.pi / 2 for c in cameras]
        overlap = torch.from_numpy(rig.overlap).float()
        return cls(
            rays=torch.from_numpy(np.stack([c.rays() for c in cameras])),
            rotation=torch.from_numpy(np.stack([c.rotation for c in cameras])).float(),
            position=torch.tensor([c.position_m for c in cameras]),
            focal=torch.tensor([(c.fx, c.fy) for c in cameras]),
            center=torch.tensor([(c.cx, c.cy) for c in cameras]),
            fisheye=torch.tensor([c.model == "fisheye" for c in cameras]),
            distortion=torch.tensor([c.distortion for c in cameras]),
            largest_angle=torch.tensor(angles, dtype=torch.float32),
            neighbours=(overlap >= OVERLAP_SHARE) & ~torch.eye(len(cameras), dtype=torch.bool),
            overlap=overlap,
        )

    def take(self, views: Tensor) -> "CameraTensors":
        """Some cameras of one rig (no leading axes)."""
        parts = {f.name: getattr(self, f.name)[views] for f in fields(self)}
        for name in ("neighbours", "overlap"):
            parts[name] = parts[name][:, views]
        return CameraTensors(**parts)

    @classmethod
    def stack(cls, rigs: "list[CameraTensors]") -> "CameraTensors":
        """Rigs of equal size as a batch."""
        return cls(*(torch.stack([getattr(rig, f.name) for rig in rigs]) for f in fields(cls)))

    def repeat(self, times: int) -> "CameraTensors":
        """Each rig of a batch [B, ...] that often in a row: [B * times, ...]."""
        return CameraTensors(*(getattr(self, f.name).repeat_interleave(times, 0) for f in fields(self)))

    def to(self, device: torch.device | str) -> "CameraTensors":
        """The same on another device."""
        return CameraTensors(*(getattr(self, f.name).to(device) for f in fields(self)))

    @property
    def lenses(self) -> Tensor:
        """What it takes to project into each camera, float32 [LENS, ..., V].

        In order: its axes forward, left, up; position; focal lengths and centre; distortion; largest angle; fisheye (1) or not (0).
        """
        parts = (
            self.rotation.mT.flatten(-2),
            self.position,
            self.focal,
            self.center,
            self.distortion,
            torch.stack([self.largest_angle, self.fisheye.float()], dim=-1),
        )
        return torch.cat(parts, dim=-1).movedim(-1, 0).contiguous()

    @property
    def sources(self) -> Tensor:
        """Where to look for the colour of a camera's pixel: int64 [..., V, K], itself first, then by overlap."""
        own = torch.eye(self.overlap.shape[-1], device=self.overlap.device)
        count = min(CANDIDATES, self.overlap.shape[-1])
        return (self.overlap + 2 * own).topk(count, dim=-1).indices


def plucker(cameras: CameraTensors) -> Tensor:
    """Pluecker rays of latent cells, float32 [..., V, 6, h / 4, w / 4]: mean unit direction, then position x direction."""
    rays = cameras.rays.movedim(-1, -3)  # ... V 3 h w
    direction = F.normalize(F.avg_pool2d(rays.flatten(0, -4), RASTER_STRIDE), dim=1)
    position = cameras.position.reshape(-1, 3)[:, :, None, None].expand_as(direction)
    both = torch.cat([direction, torch.cross(position, direction, dim=1)], dim=1)
    return both.unflatten(0, rays.shape[:-3])


def ground_depth(cameras: CameraTensors) -> Tensor:
    """Distance to flat ground along every ray, infinite above the horizon: [..., V, h, w] metres."""
    down = cameras.rays[..., 2]
    height = cameras.position[..., 2][..., None, None]
    return torch.where(down < -1e-3, -height / down.clamp(max=-1e-3), torch.inf)
