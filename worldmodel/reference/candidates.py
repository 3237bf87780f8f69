"""Candidates: pairs by 8x8 tile, and what each of their 64 pixels would see of the face."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import silhouettes
from .pairs import Pairs
from .view import PIXELS, View


@dataclass(frozen=True, eq=False)
class Candidates:
    """C pairs in tiles; those that fill their tile come last, from `partial` on."""

    pair: Tensor  # int64 [C]
    tile: Tensor  # int64 [C] into V * T
    row: Tensor  # int64 [C] into snapshots * V * T
    partial: int


def find_candidates(view: View, pairs: Pairs) -> Candidates:
    """Which tiles each pair may touch, less those hidden behind a face that fills the tile.

    A tile is a small cone: its rays differ from its axis by at most `tile_radius`, so ray . m lies within that of
    axis . m. Both tests are conservative, so nothing here changes a pixel.
    """
    pair, tile, inner = _touched(view, pairs)
    row = pairs.snapshot[pair] * (len(view.rig) * view.tiles) + tile
    full = inner > view.tile_radius.reshape(-1)[tile]
    keep = _visible(view, pairs, pair, tile, row, full)
    order = torch.cat([(keep & ~full).nonzero()[:, 0], (keep & full).nonzero()[:, 0]])
    return Candidates(pair[order], tile[order], row[order], int((keep & ~full).sum()))


def _touched(view: View, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Pair, tile of V * T, and how far inside the face's cone the tile's axis is (negative: outside)."""
    counts = torch.bincount(pairs.camera, minlength=len(view.rig)).tolist()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for camera, edges in enumerate(torch.split(pairs.edges, counts)):
        inner = (edges.reshape(-1, 3) @ view.tile_axis[camera].T).reshape(len(edges), 4, view.tiles).amin(1)
        pair, tile = (inner > -view.tile_radius[camera]).nonzero(as_tuple=True)
        found.append((pair + sum(counts[:camera]), tile + camera * view.tiles, inner[pair, tile]))
    pair, tile, inner = (torch.cat(part) for part in zip(*found, strict=True))
    return pair, tile, inner


def _visible(view: View, pairs: Pairs, pair: Tensor, tile: Tensor, row: Tensor, full: Tensor) -> Tensor:
    """False for candidates that lie wholly behind an opaque face filling their tile."""
    inverse = pairs.inverse[pair]
    middle = (inverse * view.tile_axis.reshape(-1, 3)[tile]).sum(-1)
    spread = inverse.norm(dim=-1) * view.tile_radius.reshape(-1)[tile] + 1e-5
    nearest = torch.maximum(middle + spread, pairs.farthest[pair] + 1e-5)
    opaque = full & ~pairs.shaped[pair]
    wall = torch.zeros(int(row.max()) + 1 if len(row) else 0, device=row.device)
    wall.scatter_reduce_(0, row[opaque], (middle - spread)[opaque], "amax")
    return nearest >= wall[row]


def evaluate(view: View, pairs: Pairs, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Distance and coverage of every pixel of every candidate, float32 [C, 64] each."""
    pair, partial = candidates.pair, candidates.partial
    rays = view.rays.reshape(-1, 3, PIXELS).index_select(0, candidates.tile)
    inverse = _dot(pairs.inverse[pair], rays)
    distance = torch.maximum(inverse, pairs.farthest[pair][:, None]).reciprocal_()
    coverage = torch.ones_like(distance)
    pixel = view.pixel_rad.reshape(-1, PIXELS).index_select(0, candidates.tile[:partial])
    _edge_coverage(pairs.edges[pair[:partial]], rays[:partial], pixel, coverage[:partial])
    shaped = pairs.shaped[pair].nonzero()[:, 0]
    if len(shaped):
        tile = candidates.tile[shaped]
        pixel = view.pixel_rad.reshape(-1, PIXELS).index_select(0, tile)
        coverage[shaped] *= _silhouette(pairs, pair[shaped], rays[shaped], distance[shaped], pixel)
    return distance, coverage


def _edge_coverage(edges: Tensor, rays: Tensor, pixel: Tensor, out: Tensor) -> None:
    """Share of each pixel inside a quad: opposite edges add up, so that a face thinner than a pixel counts as thin."""
    scale = pixel.reciprocal()
    bottom, right, top, left = (
        _dot(edges[:, k], rays).mul_(scale).add_(0.5).clamp_(0.0, 1.0) for k in range(4)
    )
    across = right.add_(left).sub_(1.0).clamp_(min=0.0)
    torch.mul(bottom.add_(top).sub_(1.0).clamp_(min=0.0), across, out=out)


def _silhouette(pairs: Pairs, pair: Tensor, rays: Tensor, distance: Tensor, pixel: Tensor) -> Tensor:
    """Coverage [C, 64] by the shapes cut out of their faces."""
    u = distance * _dot(pairs.right[:3, pair].T, rays) - pairs.right[3, pair][:, None]
    v = distance * _dot(pairs.up[:3, pair].T, rays) - pairs.up[3, pair][:, None]
    fu, fv = footprint(distance, pixel, pairs.plane[pair][:, None], pairs.lying[pair][:, None])
    width, height = pairs.width[pair][:, None], pairs.height[pair][:, None]
    return silhouettes.alpha(pairs.kind[pair], pairs.attributes[:, pair].T, u, v, width, height, fu, fv)


def footprint(distance: Tensor, pixel: Tensor, plane: Tensor, lying: Tensor) -> tuple[Tensor, Tensor]:
    """A pixel's size along u and v where it meets the face, metres. `plane` is the camera's distance from its plane."""
    size = distance * pixel
    slanted = size / (plane / distance).clamp(0.06, 1.0)
    # Lying faces are foreshortened along v, standing ones along u.
    return torch.where(lying, size, slanted), torch.where(lying, slanted, size)


def _dot(vector: Tensor, rays: Tensor) -> Tensor:
    """[C, 3] . [C, 3, 64] -> [C, 64], in a fixed order of additions."""
    product = vector[:, 0:1] * rays[:, 0]
    product.addcmul_(vector[:, 1:2], rays[:, 1])
    return product.addcmul_(vector[:, 2:3], rays[:, 2])
