"""The ground as the cameras see it.

The cameras are rigid on the ego and the ground is flat, so where a pixel's footprint lies in the ego frame, which
mip level fits it and where its four samples go are constants of the rig. A frame only turns and shifts them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene.world import StaticWorld

from .materials import TEXEL_M, material
from .paint import MARK_CHANNELS, GroundPainter
from .texture import PagedTexture, build_texture, level_of
from .view import View
from .weak_cache import WeakCache

TAPS = 4
FARTHEST_M = 2000.0
_LONG = np.array([-0.375, -0.125, 0.125, 0.375])  # positions of the taps along the footprint's longer side
_SHORT = np.array([0.125, -0.375, 0.375, -0.125])  # and across: a rotated grid


@dataclass(frozen=True, eq=False)
class GroundView:
    """The P pixels of a view that look at the ground, and where they sample it. Ego frame, metres."""

    slot: Tensor  # int64 [P] into V * T * 64
    x: Tensor  # float32 [P]
    y: Tensor  # float32 [P]
    distance: Tensor  # float32 [P] along the ray
    footprint_m: Tensor  # float32 [P] longer side of the pixel on the ground
    level: Tensor  # int32 [P]
    texels_per_m: Tensor  # float32 [P] of the level
    tap_x: Tensor  # float32 [4, P] in texels of the level
    tap_y: Tensor  # float32 [4, P]

    def world(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """World x and y, float32 [N, P], for poses [N, 4] = x, y, cos yaw, sin yaw."""
        x, y, cos, sin = (pose[:, k, None] for k in range(4))
        return x + cos * self.x - sin * self.y, y + sin * self.x + cos * self.y

    def sample(self, texture: PagedTexture, pose: Tensor) -> Tensor:
        """Mean of the four samples: float32 [4, N, P], channels 0..255."""
        origin_x, origin_y = texture.origin_m
        cos, sin = pose[:, 2, None, None], pose[:, 3, None, None]
        shift_x = (pose[:, 0, None] - origin_x) * self.texels_per_m
        shift_y = (pose[:, 1, None] - origin_y) * self.texels_per_m
        x = (self.tap_x * cos).sub_(self.tap_y * sin).add_(shift_x[:, None])
        y = (self.tap_x * sin).add_(self.tap_y * cos).add_(shift_y[:, None])
        return _mean_of_taps(texture.sample(x, y, self.level))


def _mean_of_taps(packed: Tensor) -> Tensor:
    """int32 [N, 4, P] of packed texels to float32 [4, N, P]: two channels are summed per 32-bit addition."""
    mask = 0x00FF00FF
    even = (packed & mask).sum(1, dtype=torch.int32)
    odd = ((packed >> 8) & mask).sum(1, dtype=torch.int32)
    channels = (even & 0xFFFF, odd & 0xFFFF, even >> 16, odd >> 16)
    return torch.stack([channel.to(torch.float32) for channel in channels]).mul_(1.0 / TAPS)


def build_ground_view(view: View) -> GroundView:
    """Find the pixels that see the ground and lay out their samples."""
    rays = view.rays.double().transpose(2, 3).reshape(len(view.rig), -1, 3).cpu().numpy()
    pixel = view.pixel_rad.double().reshape(len(view.rig), -1).cpu().numpy()
    position = view.position.double().cpu().numpy()
    down = -rays[..., 2]
    distance = position[:, None, 2] / np.maximum(down, 1e-9)
    seen = distance < FARTHEST_M
    hit = (position[:, None] + distance[..., None] * rays)[seen]
    ray, distance, pixel, down = rays[seen], distance[seen], pixel[seen], down[seen]
    short = distance * pixel
    long = short / np.maximum(down, 1e-4)
    texel = np.maximum(0.75 * short, long / TAPS)
    level = level_of(texel)
    along = ray[:, :2] / np.maximum(np.linalg.norm(ray[:, :2], axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    # Closer than one texel per pixel the taps spread over a texel, which smooths as interpolation would.
    a = along[None] * (np.maximum(long, TEXEL_M) * _LONG[:, None])[..., None]
    b = across[None] * (np.maximum(short, TEXEL_M) * _SHORT[:, None])[..., None]
    scale = 1.0 / (TEXEL_M * 2.0**level)
    taps = (hit[None, :, :2] + a + b) * scale[:, None]

    def tensor(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=view.device).to(dtype).contiguous()

    return GroundView(
        slot=tensor(np.flatnonzero(seen.reshape(-1)), torch.int64),
        x=tensor(hit[:, 0]),
        y=tensor(hit[:, 1]),
        distance=tensor(distance),
        footprint_m=tensor(long),
        level=tensor(level, torch.int32),
        texels_per_m=tensor(scale),
        tap_x=tensor(taps[..., 0]),
        tap_y=tensor(taps[..., 1]),
    )


@dataclass(frozen=True, eq=False)
class GroundTextures:
    """A world's ground: `colour` (R, G, B, paved) and `marks` (`MARK_CHANNELS`)."""

    colour: PagedTexture
    marks: PagedTexture


_textures: WeakCache[GroundTextures] = WeakCache()


def ground_textures(world: StaticWorld, device: torch.device | str) -> GroundTextures:
    """The world's textures, painted at the first call and kept as long as the world lives."""
    return _textures.get(world, str(device), lambda: _paint(world, device))


def _paint(world: StaticWorld, device: torch.device | str) -> GroundTextures:
    painter = GroundPainter(world)
    colours, marks = {}, {}
    for key, colour, mark in painter.pages():
        colours[key] = colour
        if mark.any():
            marks[key] = mark
    grass = np.zeros((*material("grass").shape[:2], 4), np.uint8)
    bare = grass.copy()
    grass[..., :3] = material("grass") + 0.5
    grid, origin = (painter.columns, painter.rows), (float(painter.origin_m[0]), float(painter.origin_m[1]))
    assert len(MARK_CHANNELS) == 4
    return GroundTextures(
        build_texture(colours, grass, grid, origin, device), build_texture(marks, bare, grid, origin, device)
    )
