"""Painting the map: pages of 256x256 texels with the colour of the ground and with the marks on it.

A page is painted only where the map has something; everywhere else lies the grass page. Edges are anti-aliased by
painting 2 (surfaces) or 4 (markings) times finer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from worldmodel.scene.world import StaticWorld

from .materials import PAVED, TEXEL_M, TILE_TEXELS, material
from .noise import tile
from .strips import marking_quads

PAGE = 256
PAGE_M = PAGE * TEXEL_M
_SURFACE_SCALE, _MARKING_SCALE = 2, 4
_SHIFT = 4  # cv2's sub-pixel bits

MARK_CHANNELS = ("lane_line", "road_edge", "crossing", "stop_line")
_MARK_CHANNEL = {"lane_line": 0, "centre_line": 0, "road_edge": 1, "kerb": 1, "crossing": 2, "stop_line": 3}
_PAINT_RGB = {
    "lane_line": (226, 226, 222),
    "centre_line": (224, 178, 62),
    "road_edge": (222, 222, 218),
    "kerb": (176, 173, 167),
    "crossing": (228, 228, 224),
    "stop_line": (230, 230, 226),
    "arrow": (222, 222, 218),
}

PageKey = tuple[int, int]  # column, row of the page grid


@dataclass(frozen=True)
class Shapes:
    """Polygons of one kind in painting order, with the page that each touches known by its bounds."""

    kind: str
    polygons: list[np.ndarray]  # float64 [N, 2] each
    low: np.ndarray  # float64 [K, 2]
    high: np.ndarray  # float64 [K, 2]


class GroundPainter:
    """Paints one world page by page. `origin_m` is the corner of page (0, 0)."""

    def __init__(self, world: StaticWorld) -> None:
        self.surfaces = [_shapes(surface.kind, [surface.polygon]) for surface in world.surfaces]
        quads = [(marking.kind, marking_quads(marking)) for marking in world.markings]
        self.markings = [_shapes(kind, list(quad)) for kind, quad in quads if len(quad)]
        low, high = _bounds(self.surfaces + self.markings, world)
        self.origin_m = np.floor(low / PAGE_M) * PAGE_M
        self.columns, self.rows = (int(n) for n in np.ceil((high - self.origin_m) / PAGE_M))

    def pages(self) -> Iterable[tuple[PageKey, np.ndarray, np.ndarray]]:
        """Every page that is not plain grass: key, colour uint8 [256, 256, 4] (RGB, paved), marks uint8 [256, 256, 4]."""
        for key in sorted(self._touched()):
            yield key, *self._page(key)

    def _touched(self) -> set[PageKey]:
        keys: set[PageKey] = set()
        for shapes in self.surfaces + self.markings:
            small = (shapes.high - shapes.low).max(1) < PAGE_M
            keys |= self._pages_of_small(shapes.low[small], shapes.high[small])
            for k in np.flatnonzero(~small):
                keys |= self._pages_of(shapes.polygons[k])
        return keys

    def _pages_of_small(self, low: np.ndarray, high: np.ndarray) -> set[PageKey]:
        """Pages under the corners of boxes smaller than a page."""
        corners = [np.stack([x[:, 0], y[:, 1]], axis=1) for x in (low, high) for y in (low, high)]
        found = np.unique(np.floor((np.concatenate(corners) - self.origin_m) / PAGE_M).astype(int), axis=0)
        return {(int(c), int(r)) for c, r in found}

    def _pages_of(self, polygon: np.ndarray) -> set[PageKey]:
        """Pages whose square touches a polygon, found by filling it at an eighth of a page and widening by one cell."""
        cells = 8
        at = (polygon - self.origin_m) / PAGE_M * cells
        low = np.maximum(np.floor(at.min(0)).astype(int) - 2, 0)
        size = np.ceil(at.max(0)).astype(int) + 3 - low
        mask = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillPoly(mask, [np.round(at - low - 0.5).astype(np.int32)], 1)
        rows, columns = np.nonzero(cv2.dilate(mask, np.ones((3, 3), np.uint8)))
        found = np.unique(np.stack([columns + low[0], rows + low[1]], axis=1) // cells, axis=0)
        return {(int(c), int(r)) for c, r in found if 0 <= c < self.columns and 0 <= r < self.rows}

    def _page(self, key: PageKey) -> tuple[np.ndarray, np.ndarray]:
        corner = self.origin_m + np.array(key) * PAGE_M
        colour, paved = self._surface_colours(key, corner)
        marks = np.zeros((PAGE, PAGE, 4), np.float32)
        for kind, weight in self._marking_weights(corner):
            wear = 0.88 + 0.06 * _page_of(_wear(), key)
            opacity = (weight * wear)[..., None]
            colour = colour * (1 - opacity) + np.array(_PAINT_RGB[kind], np.float32) * opacity
            if kind in _MARK_CHANNEL:
                channel = _MARK_CHANNEL[kind]
                marks[..., channel] = np.maximum(marks[..., channel], weight)
        page = np.concatenate([colour, paved[..., None] * 255], axis=-1)
        return np.clip(page + 0.5, 0, 255).astype(np.uint8), (marks * 255 + 0.5).astype(np.uint8)

    def _surface_colours(self, key: PageKey, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        colour = np.zeros((PAGE, PAGE, 3), np.float32)
        paved = np.zeros((PAGE, PAGE), np.float32)
        for kind, weight in _coverage(self.surfaces, corner, _SURFACE_SCALE, "grass"):
            colour += weight[..., None] * _page_of(material(kind), key)
            if kind in PAVED:
                paved += weight
        return colour, paved

    def _marking_weights(self, corner: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
        """Coverage float32 [256, 256] of every kind of paint on a page."""
        covered = _coverage(self.markings, corner, _MARKING_SCALE, "")
        return ((kind, weight) for kind, weight in covered if kind)


def _shapes(kind: str, polygons: list[np.ndarray]) -> Shapes:
    low = np.stack([polygon.min(0) for polygon in polygons])
    high = np.stack([polygon.max(0) for polygon in polygons])
    return Shapes(kind, polygons, low, high)


def _bounds(shapes: list[Shapes], world: StaticWorld) -> tuple[np.ndarray, np.ndarray]:
    if not shapes:
        raise ValueError(f"expected a world with surfaces, got none in {world.name!r}")
    low = np.min([item.low.min(0) for item in shapes], axis=0)
    high = np.max([item.high.max(0) for item in shapes], axis=0)
    return low - 2.0, high + 2.0


def _coverage(
    layers: list[Shapes], corner: np.ndarray, scale: int, below: str
) -> Iterable[tuple[str, np.ndarray]]:
    """Share float32 [256, 256] of a page that each kind shows, `below` being what nothing is painted over.

    Later layers hide earlier ones. Texel (0, 0) begins at `corner`; rows go north.
    """
    touching = [((layer.low < corner + PAGE_M) & (layer.high > corner)).all(1) for layer in layers]
    kinds = [below, *sorted({layer.kind for layer, hit in zip(layers, touching, strict=True) if hit.any()})]
    if len(kinds) == 1:
        yield below, np.ones((PAGE, PAGE), np.float32)
        return
    index = np.zeros((PAGE * scale, PAGE * scale), np.uint8)
    for layer, hit in zip(layers, touching, strict=True):
        for k in np.flatnonzero(hit):
            at = (layer.polygons[k] - corner) / TEXEL_M * scale - 0.5
            cv2.fillPoly(
                index, [np.round(at * (1 << _SHIFT)).astype(np.int32)], kinds.index(layer.kind), shift=_SHIFT
            )
    for value, kind in enumerate(kinds):
        yield kind, _reduced(index == value)


def _reduced(mask: np.ndarray) -> np.ndarray:
    """Share of each texel that a finer mask covers, float32 [256, 256]."""
    if mask.all():
        return np.ones((PAGE, PAGE), np.float32)
    share = cv2.resize(mask.astype(np.uint8) * 255, (PAGE, PAGE), interpolation=cv2.INTER_AREA)
    return share.astype(np.float32) / 255


def _page_of(pattern: np.ndarray, key: PageKey) -> np.ndarray:
    """The page's part of a 1024-texel pattern."""
    pages = TILE_TEXELS // PAGE
    column, row = (k % pages * PAGE for k in key)
    return pattern[row : row + PAGE, column : column + PAGE]


def _wear() -> np.ndarray:
    worn: np.ndarray = np.clip(tile(20, (TILE_TEXELS, TILE_TEXELS), 8, 200, 0.6), -1.5, 1.5)
    return worn
