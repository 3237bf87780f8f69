"""The sky as a panorama: gradient, clouds, sun, stars, and a far horizon of hills or roofs.

It hangs at infinity in world axes: a camera that turns sees another part of it, one that drives sees the same.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from .looks import Look
from .noise import tile
from .view import View

COLUMNS = 2048
ROWS = 512
LOWEST_RAD, HIGHEST_RAD = np.radians(-2.0), np.radians(90.0)


@dataclass(frozen=True, eq=False)
class SkyView:
    """The P pixels of a view that look above the ground."""

    slot: Tensor  # int64 [P]
    row: Tensor  # int64 [P] first texel of the panorama's row
    column: Tensor  # float32 [P] at yaw 0

    def sample(self, panorama: Tensor, pose: Tensor) -> Tensor:
        """Colours float32 [3, N, P] of a panorama [3, ROWS * COLUMNS], for poses [N, 4]."""
        yaw = torch.atan2(pose[:, 3], pose[:, 2]) * (COLUMNS / (2 * np.pi))
        column = (self.column + yaw[:, None]).floor().long().bitwise_and_(COLUMNS - 1).add_(self.row)
        return torch.stack([torch.take(channel, column) for channel in panorama])


def build_sky_view(view: View, ground_slot: Tensor) -> SkyView:
    """All pixels that are not ground."""
    above = torch.ones(view.slots, dtype=torch.bool, device=view.device)
    above[ground_slot] = False
    slot = above.nonzero(as_tuple=True)[0]
    ray = view.rays.transpose(2, 3).reshape(-1, 3)[slot]
    elevation = torch.asin(ray[:, 2].clamp(-1, 1))
    row = (elevation - LOWEST_RAD) * ((ROWS - 1) / (HIGHEST_RAD - LOWEST_RAD))
    column = torch.atan2(ray[:, 1], ray[:, 0]) * (COLUMNS / (2 * np.pi))
    return SkyView(slot, row.round().long().clamp(0, ROWS - 1) * COLUMNS, column)


def panorama(look: Look, urban: bool, seed: int) -> np.ndarray:
    """float32 [3, ROWS * COLUMNS]: azimuth grows to the left (counter-clockwise), rows from the horizon up."""
    elevation = np.linspace(LOWEST_RAD, HIGHEST_RAD, ROWS)[:, None]
    sky = _gradient(look, elevation)
    sky = _mix(sky, look.cloud, _clouds(look, elevation, seed)[..., None])
    sky = _sun(sky, look, elevation)
    sky += look.stars * 90 * _stars(seed)[..., None] * np.clip(elevation, 0, 0.3)[..., None] / 0.3
    sky = _far_land(sky, look, elevation, urban, seed)
    return np.ascontiguousarray(np.clip(sky, 0, 255).astype(np.float32).transpose(2, 0, 1).reshape(3, -1))


def _gradient(look: Look, elevation: np.ndarray) -> np.ndarray:
    rise = np.clip(elevation / (np.pi / 2), 0, 1) ** 0.55
    row = _mix(np.array(look.horizon, dtype=np.float64), look.zenith, rise[..., None])
    return np.broadcast_to(row, (ROWS, COLUMNS, 3)).copy()


CLOUD_TEXELS = 1024
CLOUD_SPAN = 9.0  # the tile's width, in heights of the cloud layer


@lru_cache(maxsize=8)
def _cloud_noise(seed: int) -> np.ndarray:
    return tile(1000 + seed, (CLOUD_TEXELS, CLOUD_TEXELS), 3, 160, 1.45)


def _clouds(look: Look, elevation: np.ndarray, seed: int) -> np.ndarray:
    """Opacity [ROWS, COLUMNS]: a flat layer overhead, seen in perspective."""
    azimuth = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    # Towards the horizon a layer would shrink without end; it is bent down there, as the real one is.
    away = np.cos(elevation) / (np.sin(np.maximum(elevation, 0)) + 0.16)
    scale = CLOUD_TEXELS / CLOUD_SPAN
    x, y = ((away * wave * scale).astype(int) % CLOUD_TEXELS for wave in (np.cos(azimuth), np.sin(azimuth)))
    opacity = np.clip((_cloud_noise(seed % 8)[y, x] - (0.9 - 1.8 * look.clouds)) * 0.7, 0, 1)
    smooth = cv2.GaussianBlur(opacity.astype(np.float32), (0, 0), 1.2)
    clouds: np.ndarray = smooth * np.clip(elevation / 0.10, 0, 1) * (0.85 if look.clouds < 0.6 else 0.6)
    return clouds


def _sun(sky: np.ndarray, look: Look, elevation: np.ndarray) -> np.ndarray:
    """A disc with a glow, as strong as the sun's light."""
    strength = float(np.clip(max(look.sun) * 1.8, 0, 1))
    if strength < 0.2:
        return sky
    azimuth = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    x, y, z = look.sun_direction
    cos = np.cos(elevation) * (np.cos(azimuth) * x + np.sin(azimuth) * y) + np.sin(elevation) * z
    angle = np.arccos(np.clip(cos, -1, 1))[..., None]
    warm = np.array(look.sun) / max(look.sun) * 255
    glow = 0.45 * np.exp(-angle / 0.22) + 0.35 * np.exp(-angle / 0.06)
    return _mix(
        _mix(sky, warm, strength * glow), (255, 252, 240), np.clip((0.035 - angle) / 0.012, 0, 1) * strength
    )


@lru_cache(maxsize=8)
def _stars(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    stars = np.zeros((ROWS, COLUMNS), np.float32)
    stars[rng.integers(40, ROWS, 900), rng.integers(0, COLUMNS, 900)] = rng.uniform(0.3, 1.0, 900)
    return stars


def _far_land(sky: np.ndarray, look: Look, elevation: np.ndarray, urban: bool, seed: int) -> np.ndarray:
    """Two ridges of hills in the haze; in a city a line of roofs before them."""
    light = np.array(look.ambient) + 0.5 * np.array(look.sun)
    clear = float(np.exp(-look.haze_per_m * 450))
    layers = [(0.045, 1.5, (70, 92, 108), 0.40 * clear), (0.026, 3.0, (62, 88, 62), 0.72 * clear)]
    for top, busy, color, opacity in layers:
        ridge = top * (1 + 0.45 * _ridge(seed + int(busy * 10), busy))
        land = np.clip((ridge[None] - elevation) / 0.004 + 0.5, 0, 1)
        sky = _mix(sky, np.array(color) * light, (land * opacity)[..., None])
    if urban:
        roofs = np.clip((_roofs(seed)[None] - elevation) / 0.003 + 0.5, 0, 1)
        sky = _mix(sky, np.array((112, 114, 122)) * light, (roofs * 0.7 * clear)[..., None])
    return sky


def _ridge(seed: int, busy: float) -> np.ndarray:
    return tile(seed, (1, COLUMNS), 2 * busy, 60 * busy, 1.1)[0].clip(-2, 2)


def _roofs(seed: int) -> np.ndarray:
    """Heights [COLUMNS] of a skyline: blocks 8 to 30 columns wide."""
    rng = np.random.default_rng(seed)
    heights = np.concatenate(
        [np.full(rng.integers(8, 30), rng.uniform(0.01, 0.07)) for _ in range(COLUMNS // 8)]
    )
    return heights[:COLUMNS]


def _mix(a: np.ndarray, b: object, share: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = a + (np.asarray(b, dtype=np.float64) - a) * share
    return mixed
