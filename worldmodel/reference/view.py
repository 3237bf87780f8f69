"""What a rig sees, as constant tensors: rays and pixel sizes in 8x8 tiles. Built once per rig and device.

Axes: V cameras, T tiles of one camera (row-major), 64 pixels of a tile (row-major). `slots` are all pixels of all
cameras in that order: V * T * 64 of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.rig import Camera, Rig

TILE = 8
PIXELS = TILE * TILE
TILE_MARGIN_PIXELS = 0.75  # so that the half-pixel fringe of an edge is always inside the tile that holds it


@dataclass(frozen=True, eq=False)
class View:
    """A rig at one resolution, on one device."""

    rig: Rig
    tiles_high: int
    tiles_wide: int
    rays: Tensor  # float32 [V, T, 3, 64] unit, ego frame
    pixel_rad: Tensor  # float32 [V, T, 64] angle across one pixel
    position: Tensor  # float32 [V, 3] metres, ego frame
    tile_axis: Tensor  # float32 [V, T, 3] unit
    tile_radius: Tensor  # float32 [V, T] largest distance of a ray's tip from the axis's tip, plus a margin
    axis: Tensor  # float32 [V, 3] unit: middle of the camera's cone
    cos_angle: Tensor  # float32 [V] cosine of the cone's half angle

    @property
    def tiles(self) -> int:
        """Tiles of one camera."""
        return self.tiles_high * self.tiles_wide

    @property
    def slots(self) -> int:
        """Pixels of all cameras, padding included."""
        return len(self.rig) * self.tiles * PIXELS

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.rays.device

    def to_images(self, planes: Tensor) -> Tensor:
        """[..., V*T*64] in tile order to [..., V, H, W]."""
        *lead, _ = planes.shape
        split = planes.reshape(*lead, len(self.rig), self.tiles_high, self.tiles_wide, TILE, TILE)
        images = split.transpose(-3, -2).reshape(
            *lead, len(self.rig), self.tiles_high * TILE, self.tiles_wide * TILE
        )
        return images[..., : self.rig.height, : self.rig.width]


def build_view(rig: Rig, device: torch.device | str = "cpu") -> View:
    """The constant tensors of a rig."""
    high, wide = -(-rig.height // TILE), -(-rig.width // TILE)
    rays = np.stack([camera.rays(high * TILE, wide * TILE) for camera in rig.cameras])
    pixel = np.stack([pixel_angle(camera, high * TILE, wide * TILE) for camera in rig.cameras])
    tiled = _tiled(rays, high, wide)  # [V, T, 64, 3]
    tile_axis = _unit(tiled.mean(axis=2))
    pixel_tiled = _tiled(pixel[..., None], high, wide)[..., 0]
    radius = np.linalg.norm(tiled - tile_axis[:, :, None], axis=-1).max(-1)
    radius += TILE_MARGIN_PIXELS * pixel_tiled.max(-1)
    axis = _unit(rays.mean(axis=(1, 2)))
    cos = (rays * axis[:, None, None]).sum(-1).min(axis=(1, 2)) - 0.01

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)

    return View(
        rig=rig,
        tiles_high=high,
        tiles_wide=wide,
        rays=tensor(tiled.swapaxes(2, 3)),
        pixel_rad=tensor(pixel_tiled),
        position=tensor(np.array([camera.position_m for camera in rig.cameras])),
        tile_axis=tensor(tile_axis),
        tile_radius=tensor(radius),
        axis=tensor(axis),
        cos_angle=tensor(cos),
    )


def pixel_angle(camera: Camera, height: int, width: int) -> np.ndarray:
    """float32 [H, W]: square root of each pixel's solid angle [rad]."""
    v, u = np.mgrid[0 : height + 1, 0 : width + 1].astype(np.float64)
    corners = camera.unproject(np.stack([u, v], axis=-1))
    right = corners[:-1, 1:] - corners[:-1, :-1]
    down = corners[1:, :-1] - corners[:-1, :-1]
    solid: np.ndarray = np.linalg.norm(np.cross(right, down), axis=-1)
    return np.sqrt(solid).astype(np.float32)


def _tiled(image: np.ndarray, high: int, wide: int) -> np.ndarray:
    """[V, H, W, C] to [V, T, 64, C]."""
    views, _, _, channels = image.shape
    split = image.reshape(views, high, TILE, wide, TILE, channels).swapaxes(2, 3)
    return split.reshape(views, high * wide, PIXELS, channels)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
