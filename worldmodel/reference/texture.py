"""A huge ground texture in pages, with a mip pyramid, flattened so that a sample is one look-up and one gather.

Texels are four uint8 channels packed in an int32. Level L has texels of 0.1 m * 2^L. A table names the page of every
square of a level's page grid; squares without paint share the pages of a seamless grass tile, and so does everything
beyond the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from .materials import TEXEL_M, TILE_TEXELS
from .paint import PAGE, PageKey

LEVELS = 8
BORDER_PAGES = 4  # of plain ground around the map, so that the grass tile repeats without a seam
_PAGE_BITS = PAGE.bit_length() - 1


@dataclass(frozen=True, eq=False)
class PagedTexture:
    """`texels` int32 [pages * 65536]; `table` int32 [LEVELS * rows * columns] holds offsets into it."""

    texels: Tensor
    table: Tensor
    rows: int
    columns: int
    origin_m: tuple[float, float]

    def fetch(self, column: Tensor, row: Tensor, level: Tensor) -> Tensor:
        """Packed texels, int32, by int32 texel coordinates of their level, counted from the origin (any shape)."""
        page_column = (column >> _PAGE_BITS).add_(BORDER_PAGES).clamp_(0, self.columns - 1)
        page = (row >> _PAGE_BITS).add_(BORDER_PAGES).clamp_(0, self.rows - 1)
        page.add_(level * self.rows).mul_(self.columns).add_(page_column)
        inside = (row & (PAGE - 1)).mul_(PAGE).add_(column & (PAGE - 1))
        return torch.take(self.texels, torch.take(self.table, page.long()).add_(inside).long())


def build_texture(
    pages: Mapping[PageKey, np.ndarray],
    background: np.ndarray,
    grid: tuple[int, int],
    origin_m: tuple[float, float],
    device: torch.device | str,
) -> PagedTexture:
    """Stack the mip pyramid of painted pages.

    Args:
        pages: uint8 [256, 256, 4] by (column, row).
        background: uint8 [1024, 1024, 4], seamless: what lies where nothing is painted.
        grid: columns and rows of the page grid.
        origin_m: world corner of page (0, 0).
        device: where the texture goes.
    """
    columns, rows = grid[0] + 2 * BORDER_PAGES, grid[1] + 2 * BORDER_PAGES
    table = np.zeros((LEVELS, rows, columns), np.int32)
    stack: list[np.ndarray] = []
    current = dict(pages)
    for level in range(LEVELS):
        plain = _background_pages(background, level)
        base = len(stack)
        stack += [page for line in plain for page in line]
        per_side = len(plain)
        row, column = np.mgrid[0:rows, 0:columns] - BORDER_PAGES
        table[level] = base + (row % per_side) * per_side + column % per_side
        for (at_column, at_row), page in current.items():
            table[level, at_row + BORDER_PAGES, at_column + BORDER_PAGES] = len(stack)
            stack.append(page)
        current = _halved(current, plain)
    texels = np.ascontiguousarray(np.stack(stack)).reshape(-1, 4).view(np.int32)[:, 0]
    return PagedTexture(
        texels=torch.as_tensor(texels, device=device),
        table=torch.as_tensor(table.reshape(-1) * (PAGE * PAGE), device=device),
        rows=rows,
        columns=columns,
        origin_m=origin_m,
    )


def level_of(texel_m: np.ndarray) -> np.ndarray:
    """The level whose texels are nearest in size."""
    level: np.ndarray = np.round(np.log2(np.maximum(texel_m, 1e-3) / TEXEL_M))
    return level.clip(0, LEVELS - 1).astype(np.int32)


def _background_pages(background: np.ndarray, level: int) -> list[list[np.ndarray]]:
    """The pages that the background tile fills at a level: 4x4, 2x2, then one."""
    side = TILE_TEXELS >> level
    image = cv2.resize(background, (side, side), interpolation=cv2.INTER_AREA) if level else background
    if side < PAGE:
        image = np.tile(image, (PAGE // side, PAGE // side, 1))
    count = image.shape[0] // PAGE
    return [
        [image[r * PAGE : (r + 1) * PAGE, c * PAGE : (c + 1) * PAGE] for c in range(count)]
        for r in range(count)
    ]


def _halved(pages: Mapping[PageKey, np.ndarray], plain: list[list[np.ndarray]]) -> dict[PageKey, np.ndarray]:
    """The next level: four neighbouring pages become one."""
    per_side, halved = len(plain), {}
    for column, row in sorted({(c // 2, r // 2) for c, r in pages}):
        whole = np.empty((2 * PAGE, 2 * PAGE, 4), np.uint8)
        for dc, dr in ((0, 0), (1, 0), (0, 1), (1, 1)):
            key = (2 * column + dc, 2 * row + dr)
            quarter = pages.get(key, plain[key[1] % per_side][key[0] % per_side])
            whole[dr * PAGE : (dr + 1) * PAGE, dc * PAGE : (dc + 1) * PAGE] = quarter
        halved[column, row] = cv2.resize(whole, (PAGE, PAGE), interpolation=cv2.INTER_AREA)
    return halved
