"""What the ground is made of: one seamless colour tile per material, anchored to the world.

Tiles are 1024 texels of 0.1 m wide, so that a pattern repeats every 102.4 m.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .noise import tile

TEXEL_M = 0.1
TILE_TEXELS = 1024

PAVED = ("asphalt", "sidewalk", "plaza", "parking")


@lru_cache(maxsize=16)
def material(kind: str) -> np.ndarray:
    """float32 [1024, 1024, 3] RGB 0..255 of `grass` or of a surface kind of `scene/world.py`."""
    return _MATERIALS[kind]()


def _noise(seed: int, low: float, high: float, falloff: float = 1.0) -> np.ndarray:
    return tile(seed, (TILE_TEXELS, TILE_TEXELS), low, high, falloff)


def _tinted(color: tuple[float, float, float], shade: np.ndarray) -> np.ndarray:
    tinted: np.ndarray = np.clip(np.array(color, dtype=np.float32) * (1 + shade)[..., None], 0, 255)
    return tinted.astype(np.float32)


def _asphalt() -> np.ndarray:
    shade = 0.035 * _noise(1, 2, 24) + 0.03 * _noise(2, 60, 200, 0.3)
    patches = np.clip(_noise(3, 2, 12) - 1.3, 0, 0.4)
    cracks = np.exp(-((_noise(4, 3, 40, 1.2) / 0.02) ** 2))
    return _tinted((92, 92, 96), shade - 0.35 * patches - 0.10 * cracks)


def _parking() -> np.ndarray:
    return _tinted((104, 102, 102), 0.04 * _noise(5, 2, 24) + 0.03 * _noise(6, 60, 200, 0.3))


def _grass() -> np.ndarray:
    patches, tufts = _noise(7, 3, 20), _noise(8, 20, 180, 0.4)
    dry = np.clip(_noise(9, 2, 10) * 0.5, 0, 1)[..., None]
    green = _tinted((86, 116, 58), 0.10 * patches + 0.10 * tufts)
    return (green * (1 - dry) + _tinted((132, 128, 76), 0.08 * tufts) * dry).astype(np.float32)


def _gravel() -> np.ndarray:
    return _tinted((140, 132, 118), 0.06 * _noise(10, 3, 30) + 0.10 * _noise(11, 40, 250, 0.2))


def _slabs(color: tuple[float, float, float], side: int, joint: float, seed: int) -> np.ndarray:
    """Square slabs `side` texels wide, each of its own shade, with darker joints."""
    count = TILE_TEXELS // side
    shades = np.random.default_rng(seed).normal(0, 0.035, (count, count))
    shade = np.kron(shades, np.ones((side, side))) + 0.03 * _noise(seed, 2, 60, 0.8)
    line = np.arange(TILE_TEXELS) % side == 0
    return _tinted(color, shade - joint * (line[:, None] | line[None]))


_MATERIALS: dict[str, Callable[[], np.ndarray]] = {
    "asphalt": _asphalt,
    "parking": _parking,
    "grass": _grass,
    "gravel": _gravel,
    "sidewalk": lambda: _slabs((158, 154, 148), 16, 0.20, 12),
    "plaza": lambda: _slabs((172, 158, 142), 32, 0.18, 13),
}
