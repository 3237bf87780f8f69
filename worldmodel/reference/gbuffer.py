"""The geometry pass: which face each pixel sees, how much of the pixel it covers, and where on the face.

Batched over snapshots (one scene at one time) and cameras: pairs (`pairs.py`), candidates in tiles (`candidates.py`),
then the nearest candidate of every pixel. Two layers are kept, the nearest face and the next one where the nearest
covers a pixel only in part, so that edges blend.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .candidates import Candidates, evaluate, find_candidates, footprint
from .pairs import FaceTensors, Pairs, find_pairs
from .view import PIXELS, View

MIN_COVERAGE = 1.0 / 64
_NOTHING = torch.iinfo(torch.int64).max
_INSIDE, _TILE_BITS = PIXELS - 1, PIXELS.bit_length() - 1


@dataclass(frozen=True, eq=False)
class Layer:
    """P pixels and the face each shows, sorted by the kind of face."""

    pixel: Tensor  # int64 [P] into snapshots * slots
    slot: Tensor  # int64 [P] into slots: the pixel of its snapshot
    pair: Tensor  # int64 [P]
    kinds: tuple[tuple[int, slice], ...]  # each kind that occurs, and where
    coverage: Tensor  # float32 [P] share of the pixel, already reduced by the layers in front
    distance: Tensor  # float32 [P] metres along the ray
    u: Tensor  # float32 [P] metres on the face
    v: Tensor  # float32 [P]
    footprint_u: Tensor  # float32 [P] metres: the pixel's size on the face
    footprint_v: Tensor  # float32 [P]


@dataclass(frozen=True, eq=False)
class GBuffer:
    """The geometry of a batch of snapshots."""

    pairs: Pairs
    layers: tuple[Layer, ...]


def geometry(view: View, faces: FaceTensors, snapshots: int, layers: int = 2) -> GBuffer:
    """Run the pass. `layers` is how many faces a pixel may blend."""
    pairs = find_pairs(view, faces)
    candidates = find_candidates(view, pairs)
    distance, coverage = evaluate(view, pairs, candidates)
    rows = snapshots * len(view.rig) * view.tiles
    resolved = _resolve(candidates, distance, coverage, rows, layers)
    return GBuffer(pairs, tuple(_layer(view, pairs, candidates, distance, *part) for part in resolved))


def _resolve(
    candidates: Candidates, distance: Tensor, coverage: Tensor, rows: int, layers: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per layer: pixels, the element of [C, 64] that each shows, and its share.

    The nearest is a minimum over keys (distance, candidate), so the order of the work does not matter.
    """
    row = candidates.row
    keys = distance.view(torch.int32).to(torch.int64).bitwise_left_shift_(32)
    keys.add_(torch.arange(len(row), device=row.device)[:, None])
    keys.masked_fill_(coverage < MIN_COVERAGE, _NOTHING)
    covered = torch.zeros(rows * PIXELS, device=row.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for depth in range(layers):
        best = torch.full((rows, PIXELS), _NOTHING, dtype=torch.int64, device=row.device)
        best.scatter_reduce_(0, row[:, None].expand(-1, PIXELS), keys, "amin")
        flat = best.view(-1)
        pixel = ((flat != _NOTHING) & (covered < 1 - MIN_COVERAGE)).nonzero()[:, 0]
        element = flat.index_select(0, pixel).bitwise_and_(0xFFFFFFFF).mul_(PIXELS).add_(pixel & _INSIDE)
        before = covered.index_select(0, pixel)
        share = torch.minimum(torch.take(coverage, element), 1 - before)
        covered.index_copy_(0, pixel, before.add_(share))
        found.append((pixel, element, share))
        if depth + 1 < layers:
            row, keys = _behind(row, keys, best, covered)
    return found


def _behind(row: Tensor, keys: Tensor, best: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates of tiles that are not yet full, without the ones just used."""
    open_row = ((best != _NOTHING) & (covered.view_as(best) < 1 - MIN_COVERAGE)).any(1)
    kept = open_row[row].nonzero()[:, 0]
    row, keys = row[kept], keys.index_select(0, kept)
    return row, keys.masked_fill_(keys == best.index_select(0, row), _NOTHING)


def _layer(
    view: View,
    pairs: Pairs,
    candidates: Candidates,
    distances: Tensor,
    pixel: Tensor,
    element: Tensor,
    share: Tensor,
) -> Layer:
    candidate = element >> _TILE_BITS
    kind, order = torch.sort(pairs.kind[candidates.pair].index_select(0, candidate), stable=True)
    pixel, element, share, candidate = (t.index_select(0, order) for t in (pixel, element, share, candidate))
    pair = candidates.pair.index_select(0, candidate)
    slot = (candidates.tile.index_select(0, candidate) << _TILE_BITS).add_(element & _INSIDE)
    distance, pixel_rad, ray = (
        torch.take(distances, element),
        torch.take(view.pixel_rad, slot),
        rays_of(view, slot),
    )
    u, v = (_along(axis, pair, ray, distance) for axis in (pairs.right, pairs.up))
    plane, lying = pairs.plane.index_select(0, pair), pairs.lying.index_select(0, pair)
    fu, fv = footprint(distance, pixel_rad, plane, lying)
    return Layer(pixel, slot, pair, _runs(kind), share, distance, u, v, fu, fv)


def rays_of(view: View, slot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Components of the rays [P] through slots."""
    first = (slot >> _TILE_BITS).mul_(3 * PIXELS).add_(slot & _INSIDE)
    x, y, z = (torch.take(view.rays, first + k * PIXELS) for k in range(3))
    return x, y, z


def edge_pixels(view: View, pairs: Pairs, layer: Layer) -> Tensor:
    """Distance of each pixel of a layer from the nearest edge of its face, float32 [P], in pixels."""
    ray, pixel_rad = rays_of(view, layer.slot), torch.take(view.pixel_rad, layer.slot)
    edges = pairs.edges.permute(1, 2, 0).contiguous()  # [4, 3, K]
    nearest = torch.full_like(pixel_rad, torch.inf)
    for edge in edges:
        x, y, z = (component.index_select(0, layer.pair) for component in edge)
        nearest = torch.minimum(nearest, x.mul_(ray[0]).addcmul_(y, ray[1]).addcmul_(z, ray[2]))
    return nearest / pixel_rad


def _along(axis: Tensor, pair: Tensor, ray: tuple[Tensor, Tensor, Tensor], distance: Tensor) -> Tensor:
    """Position along an axis of each pixel's face."""
    x, y, z, offset = (component.index_select(0, pair) for component in axis)
    along: Tensor = x.mul_(ray[0]).addcmul_(y, ray[1]).addcmul_(z, ray[2])
    return along.mul_(distance).sub_(offset)


def _runs(kind: Tensor) -> tuple[tuple[int, slice], ...]:
    """Where each kind lies in a sorted list."""
    counts = torch.bincount(kind.to(torch.int64)).tolist()
    runs, start = [], 0
    for value, count in enumerate(counts):
        if count:
            runs.append((value, slice(start, start + count)))
        start += count
    return tuple(runs)
