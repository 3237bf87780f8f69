"""Static light on the ground: shadows of structures in the sun, pools of street lamps in the dark.

A coarse blurred map in world axes, made once per world and look, so that a frame pays one look-up per pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from worldmodel.scene.world import StaticWorld, Structure

from .light import LAMPS_ON
from .looks import Look
from .structure_faces import STREET_LAMP_MIN_M

TEXEL_M = 0.25
MAX_TEXELS = 8_000_000
MARGIN_M = 20.0
LAMP_RADIUS_M = 9.0
MAX_SHADOW_M = 45.0
_SHIFT = 4


@dataclass(frozen=True, eq=False)
class LightMap:
    """Share of the sun (255 all of it) and light of lamps, each int32 [H * W] with four neighbours in one texel.

    A texel holds the uint8 values at (row, column), one column on, one row on, and both: one look-up interpolates.
    """

    sun: Tensor
    lamps: Tensor | None  # None where no lamp is lit
    rows: int
    columns: int
    origin_m: tuple[float, float]
    texel_m: float

    def sample(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Sun and lamp light 0..1 at world positions (any shape). Beyond the map: its border."""
        column = ((x - self.origin_m[0]) * (1 / self.texel_m)).sub_(0.5).clamp_(0, self.columns - 1)
        row = ((y - self.origin_m[1]) * (1 / self.texel_m)).sub_(0.5).clamp_(0, self.rows - 1)
        left, bottom = column.floor(), row.floor()
        right, upper = column.sub_(left), row.sub_(bottom)
        index = bottom.long().mul_(self.columns).add_(left.long())
        sun = _interpolated(torch.take(self.sun, index), right, upper)
        if self.lamps is None:
            return sun, None
        return sun, _interpolated(torch.take(self.lamps, index), right, upper)


def _interpolated(four: Tensor, right: Tensor, upper: Tensor) -> Tensor:
    """Bilinear mean 0..1 of the four bytes of each texel."""
    a, b, c, d = ((four >> shift & 0xFF).to(torch.float32) for shift in (0, 8, 16, 24))
    low, high = torch.lerp(a, b, right), torch.lerp(c, d, right)
    return torch.lerp(low, high, upper).mul_(1 / 255)


def _with_neighbours(plane: np.ndarray) -> np.ndarray:
    """uint8 [H, W] to int32 [H * W]."""
    padded = np.pad(plane, ((0, 1), (0, 1)), mode="edge")
    four = (padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:])
    return np.stack(four, axis=-1).reshape(-1, 4).view(np.int32)[:, 0]


def build_light_map(world: StaticWorld, look: Look, device: torch.device | str) -> LightMap:
    """Paint the map for one world and look."""
    x0, y0, x1, y1 = world.bounds_m
    origin = np.array([x0, y0]) - MARGIN_M
    size = np.array([x1, y1]) + MARGIN_M - origin
    texel = max(TEXEL_M, float(np.sqrt(size.prod() / MAX_TEXELS)))
    columns, rows = (int(n) for n in np.ceil(size / texel))
    sun = _sun_light(world, look, origin, texel, (rows, columns))
    lamps = _lamp_light(world, origin, texel, (rows, columns)) if look.lamps > LAMPS_ON else None

    def tensor(plane: np.ndarray) -> Tensor:
        return torch.as_tensor(_with_neighbours(plane), device=device)

    corner = (float(origin[0]), float(origin[1]))
    return LightMap(tensor(sun), None if lamps is None else tensor(lamps), rows, columns, corner, texel)


def _sun_light(
    world: StaticWorld, look: Look, origin: np.ndarray, texel: float, shape: tuple[int, int]
) -> np.ndarray:
    light = np.full(shape, 255, np.uint8)
    for structure in world.structures:
        contact = _footprint(structure, 0.5)
        _fill(light, contact, origin, texel, 120)
        if max(look.sun) > 0.15:
            _fill(light, _shadow(structure, look.sun_direction), origin, texel, 0)
    return cv2.GaussianBlur(light, (0, 0), 0.35 / texel)


def _shadow(structure: Structure, sun: tuple[float, float, float]) -> np.ndarray:
    """Hull of the footprint and of the top as the sun throws it on the ground. A crown throws no trunk's shadow."""
    reach = min(structure.height_m / sun[2], MAX_SHADOW_M)
    away = -np.array(sun[:2]) * reach
    base = _footprint(structure, 0.0)
    start = base + 0.35 * away if structure.kind == "tree" else base
    return cv2.convexHull(np.concatenate([start, base + away]).astype(np.float32))[:, 0]


def _footprint(structure: Structure, grown_m: float) -> np.ndarray:
    round_one = structure.kind in ("tree", "pole", "bollard")
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    unit = (
        np.stack([np.cos(angles), np.sin(angles)], 1) * 0.5
        if round_one
        else np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.5
    )
    size = np.array([structure.length_m, structure.width_m])
    local = unit * (size * (0.8 if structure.kind == "tree" else 1.0) + 2 * grown_m)
    cos, sin = np.cos(structure.yaw_rad), np.sin(structure.yaw_rad)
    placed: np.ndarray = local @ np.array([[cos, sin], [-sin, cos]]) + [structure.x_m, structure.y_m]
    return placed


def _lamp_light(world: StaticWorld, origin: np.ndarray, texel: float, shape: tuple[int, int]) -> np.ndarray:
    light = np.zeros(shape, np.uint8)
    for pole in world.structures:
        if pole.kind == "pole" and pole.height_m >= STREET_LAMP_MIN_M:
            at = np.array([pole.x_m + 1.4 * np.cos(pole.yaw_rad), pole.y_m + 1.4 * np.sin(pole.yaw_rad)])
            _add_pool(light, (at - origin) / texel, LAMP_RADIUS_M / texel)
    return light


def _add_pool(light: np.ndarray, center: np.ndarray, radius: float) -> None:
    """Brighten a disc around a lamp, falling off towards 2.2 radii."""
    reach = int(2.2 * radius)
    column, row = (int(c) for c in center)
    top, left = max(0, row - reach), max(0, column - reach)
    part = light[top : row + reach + 1, left : column + reach + 1]
    y, x = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    pool = 255 / (1 + ((x - center[0]) ** 2 + (y - center[1]) ** 2) / (0.45 * radius) ** 2) ** 1.5
    np.maximum(part, (pool - 12).clip(0).astype(np.uint8), out=part)


def _fill(image: np.ndarray, polygon: np.ndarray, origin: np.ndarray, texel: float, value: int) -> None:
    """Darken a polygon to a value."""
    at = (polygon - origin) / texel - 0.5
    low = np.maximum(np.floor(at.min(0)).astype(int) - 1, 0)
    high = np.ceil(at.max(0)).astype(int) + 2
    part = image[low[1] : high[1], low[0] : high[0]]
    mask = np.full_like(part, 255)
    cv2.fillPoly(mask, [np.round((at - low) * (1 << _SHIFT)).astype(np.int32)], value, shift=_SHIFT)
    np.minimum(part, mask, out=part)
