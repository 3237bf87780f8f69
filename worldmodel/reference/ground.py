"""The ground as the cameras see it.

The cameras are rigid on the ego and the ground is flat, so where a pixel's footprint lies in the ego frame, which
mip level fits it and where its four samples go are constants of the rig. A frame only turns and shifts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene.world import StaticWorld

from .materials import TEXEL_M, material
from .paint import MARK_CHANNELS, GroundPainter
from .texture import PagedTexture, build_texture, level_of
from .view import PIXELS, View
from .weak_cache import WeakCache

TAPS = 4
FARTHEST_M = 2000.0
NEAR_TEXELS = 2.5  # longest footprint that is interpolated
_WEIGHT_BITS = 8
_WEIGHT = 1 << _WEIGHT_BITS
_LONG = np.array([-0.375, -0.125, 0.125, 0.375])  # positions of the taps along the footprint's longer side
_SHORT = np.array([0.125, -0.375, 0.375, -0.125])  # and across: a rotated grid


@dataclass(frozen=True, eq=False)
class GroundView:
    """The P pixels of a view that look at the ground, and where they sample it. Ego frame, metres.

    The first `near` pixels are smaller than a texel or two: they interpolate. The others take four samples spread
    over their footprint at the level that fits it.
    """

    slot: Tensor  # int64 [P] into V * T * 64
    x: Tensor  # float32 [P]
    y: Tensor  # float32 [P]
    distance: Tensor  # float32 [P] along the ray
    footprint_m: Tensor  # float32 [P] longer side of the pixel on the ground
    near: int
    level: Tensor  # int32 [P - near]
    texels_per_m: Tensor  # float32 [P - near] of the level
    tap_x: Tensor  # float32 [4, P - near] in texels of the level
    tap_y: Tensor  # float32 [4, P - near]

    def world(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """World x and y, float32 [N, P], for poses [N, 4] = x, y, cos yaw, sin yaw."""
        x, y, cos, sin = (pose[:, k, None] for k in range(4))
        return x + cos * self.x - sin * self.y, y + sin * self.x + cos * self.y

    def sample(self, texture: PagedTexture, pose: Tensor) -> Tensor:
        """The texture under each pixel: float32 [4, N, P], channels 0..255."""
        return torch.cat([self._interpolated(texture, pose), self._averaged(texture, pose)], dim=2)

    def _interpolated(self, texture: PagedTexture, pose: Tensor) -> Tensor:
        """Bilinear samples of the finest level, float32 [4, N, near]."""
        x, y = (position[:, : self.near] for position in self.world(pose))
        x = ((x - texture.origin_m[0]) / TEXEL_M).sub_(0.5)
        y = ((y - texture.origin_m[1]) / TEXEL_M).sub_(0.5)
        column, row = x.floor().to(torch.int32), y.floor().to(torch.int32)
        finest = torch.zeros((), dtype=torch.int32, device=x.device)
        corners = [texture.fetch(column + dx, row + dy, finest) for dy in (0, 1) for dx in (0, 1)]
        right, upper = ((z - z.floor()).mul_(_WEIGHT).round_().to(torch.int32) for z in (x, y))
        both = (right * upper + _WEIGHT // 2) >> _WEIGHT_BITS
        weights = (_WEIGHT - right - upper + both, right - both, upper - both, both)
        return _weighted_mean(corners, weights)

    def _averaged(self, texture: PagedTexture, pose: Tensor) -> Tensor:
        """Means of four texels, float32 [4, N, P - near]."""
        origin_x, origin_y = texture.origin_m
        cos, sin = pose[:, 2, None, None], pose[:, 3, None, None]
        shift_x = (pose[:, 0, None] - origin_x) * self.texels_per_m
        shift_y = (pose[:, 1, None] - origin_y) * self.texels_per_m
        x = (self.tap_x * cos).sub_(self.tap_y * sin).add_(shift_x[:, None]).floor_()
        y = (self.tap_x * sin).add_(self.tap_y * cos).add_(shift_y[:, None]).floor_()
        texels = texture.fetch(x.to(torch.int32), y.to(torch.int32), self.level)
        return _weighted_mean(texels.unbind(1), (_WEIGHT // TAPS,) * TAPS)


def _weighted_mean(texels: Sequence[Tensor], weights: Sequence[Tensor | int]) -> Tensor:
    """Packed int32 [N, P] each, weights that add up to 256: float32 [4, N, P].

    Two 8-bit channels share one 32-bit product: 255 * 256 fits into 16 bits.
    """
    mask = 0x00FF00FF
    even, odd = torch.zeros_like(texels[0]), torch.zeros_like(texels[0])
    for texel, weight in zip(texels, weights, strict=True):
        even += (texel & mask) * weight
        odd += ((texel >> 8) & mask) * weight
    channels = (even & 0xFFFF, odd & 0xFFFF, (even >> 16) & 0xFFFF, (odd >> 16) & 0xFFFF)
    return torch.stack([channel.to(torch.float32) for channel in channels]).mul_(1.0 / _WEIGHT)


def build_ground_view(view: View) -> GroundView:
    """Find the pixels that see the ground and lay out their samples."""
    rays = view.rays.double().transpose(2, 3).reshape(len(view.rig), -1, 3).cpu().numpy()
    pixel = view.pixel_rad.double().reshape(len(view.rig), -1).cpu().numpy()
    position = view.position.double().cpu().numpy()
    distance = position[:, None, 2] / np.maximum(-rays[..., 2], 1e-9)
    slot = np.flatnonzero(distance.reshape(-1) < FARTHEST_M)
    ray, distance = rays.reshape(-1, 3)[slot], distance.reshape(-1)[slot]
    short = distance * pixel.reshape(-1)[slot]
    long = short / np.maximum(-ray[:, 2], 1e-4)
    order = np.argsort(long > NEAR_TEXELS * TEXEL_M, kind="stable")
    slot, ray, distance, short, long = (a[order] for a in (slot, ray, distance, short, long))
    hit = position[slot // (view.tiles * PIXELS)] + distance[:, None] * ray
    near = int((long <= NEAR_TEXELS * TEXEL_M).sum())
    level, scale, taps = _taps(ray[near:], hit[near:], short[near:], long[near:])

    def tensor(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=view.device).to(dtype).contiguous()

    return GroundView(
        slot=tensor(slot, torch.int64),
        x=tensor(hit[:, 0]),
        y=tensor(hit[:, 1]),
        distance=tensor(distance),
        footprint_m=tensor(long),
        near=near,
        level=tensor(level, torch.int32),
        texels_per_m=tensor(scale),
        tap_x=tensor(taps[..., 0]),
        tap_y=tensor(taps[..., 1]),
    )


def _taps(
    ray: np.ndarray, hit: np.ndarray, short: np.ndarray, long: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level [P], texels per metre [P] and positions [4, P, 2] in texels of four samples along each footprint."""
    level = level_of(np.maximum(0.75 * short, long / TAPS))
    along = ray[:, :2] / np.maximum(np.linalg.norm(ray[:, :2], axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    a = along[None] * (np.maximum(long, TEXEL_M) * _LONG[:, None])[..., None]
    b = across[None] * (np.maximum(short, TEXEL_M) * _SHORT[:, None])[..., None]
    scale = 1.0 / (TEXEL_M * 2.0**level)
    return level, scale, (hit[None, :, :2] + a + b) * scale[:, None]


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
