"""The geometry pass: which face each pixel sees, how much of the pixel it covers, and where on the face.

Batched over snapshots (one scene at one time) and cameras. A pair is (camera of a snapshot, face); a candidate is a
pair in one 8x8 tile. Everything is decided with dot products of unit rays, so any camera model works and nothing
special happens at the image plane:

* a ray hits the inside of edge k of a convex face where ray . m_k > 0, and that product is the sine of the angle to
  the edge: divided by the pixel's angle and clamped it is the share of the pixel on the inner side;
* 1 / distance = ray . g with g = n / (n . corner), so depths compare without a solve.

Two layers are kept: the nearest face, and the next one where the nearest covers a pixel only in part.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import silhouettes
from .faces import SHAPED, Faces
from .view import PIXELS, View

FARTHEST_M = 320.0
SMALLEST_PIXELS = 0.35
MIN_COVERAGE = 1.0 / 64
_NOTHING = torch.iinfo(torch.int64).max


@dataclass(frozen=True, eq=False)
class FaceTensors:
    """Faces of all snapshots, end to end, in each snapshot's ego frame."""

    corners: Tensor  # float32 [N, 4, 3]
    snapshot: Tensor  # int64 [N]
    kind: Tensor  # int64 [N]
    color: Tensor  # float32 [N, 3]
    attributes: Tensor  # float32 [N, 5]
    billboard: Tensor  # bool [N]
    owner: Tensor  # int64 [N]


@dataclass(frozen=True, eq=False)
class Pairs:
    """(camera, face) pairs that survive culling, sorted by camera, with the face relative to the camera."""

    camera: Tensor  # int64 [K]
    face: Tensor  # int64 [K]
    corners: Tensor  # float32 [K, 4, 3] ego axes, from the camera
    edges: Tensor  # float32 [K, 4, 3] m_k
    inverse: Tensor  # float32 [K, 3] g
    farthest: Tensor  # float32 [K] 1 / distance of the farthest corner
    right: Tensor  # float32 [K, 3] unit, along u
    up: Tensor  # float32 [K, 3] unit, along v
    normal: Tensor  # float32 [K, 3] unit


@dataclass(frozen=True, eq=False)
class Layer:
    """P pixels and the face each shows."""

    pixel: Tensor  # int64 [P] into snapshots * slots
    pair: Tensor  # int64 [P]
    face: Tensor  # int64 [P]
    coverage: Tensor  # float32 [P] share of the pixel, already reduced by the layers in front
    distance: Tensor  # float32 [P] metres along the ray
    u: Tensor  # float32 [P] metres
    v: Tensor  # float32 [P] metres
    size: Tensor  # float32 [2, P] width and height of the face
    footprint_u: Tensor  # float32 [P] metres on the face, along u
    footprint_v: Tensor  # float32 [P]
    edge_pixels: Tensor  # float32 [P] distance from the nearest edge of the face


@dataclass(frozen=True, eq=False)
class GBuffer:
    """The geometry of a batch of snapshots."""

    faces: FaceTensors
    pairs: Pairs
    layers: tuple[Layer, ...]


def to_tensors(face_sets: list[Faces], poses: Tensor) -> FaceTensors:
    """Stack the faces of every snapshot and bring them into its ego frame.

    Args:
        face_sets: one per snapshot, world frame.
        poses: float32 [N, 4] x, y, cos yaw, sin yaw of the egos.
    """
    device = poses.device
    snapshot = torch.repeat_interleave(
        torch.arange(len(face_sets), device=device), torch.tensor([len(f) for f in face_sets], device=device)
    )

    def stacked(name: str) -> Tensor:
        return torch.cat([torch.from_numpy(getattr(f, name)) for f in face_sets]).to(device)

    corners = stacked("corners")
    x0, y0, cos, sin = (poses[snapshot, k, None] for k in range(4))
    x, y = corners[..., 0] - x0, corners[..., 1] - y0
    turned = torch.stack([cos * x + sin * y, cos * y - sin * x, corners[..., 2]], dim=-1)
    return FaceTensors(
        turned,
        snapshot,
        stacked("kind"),
        stacked("color"),
        stacked("attributes"),
        stacked("billboard"),
        stacked("owner"),
    )


def geometry(view: View, faces: FaceTensors, snapshots: int, layers: int = 2) -> GBuffer:
    """Run the pass. `layers` is how many faces a pixel may blend."""
    pairs = find_pairs(view, faces)
    candidates = find_candidates(view, faces, pairs)
    distance, coverage = evaluate(view, faces, pairs, candidates)
    return GBuffer(
        faces, pairs, tuple(_resolve(view, faces, pairs, candidates, distance, coverage, snapshots, layers))
    )


def find_pairs(view: View, faces: FaceTensors) -> Pairs:
    """Cull by distance, size, view cone and facing."""
    middle = faces.corners.mean(1)  # [N, 3]
    radius = (faces.corners - middle[:, None]).norm(dim=-1).amax(1)
    offset = middle[None] - view.position[:, None]  # [V, N, 3]
    distance = offset.norm(dim=-1)
    along = (offset * view.axis[:, None]).sum(-1)
    across = (distance**2 - along**2).clamp_min(0).sqrt()
    sin = (1 - view.cos_angle**2).clamp_min(0).sqrt()[:, None]
    outside = across * view.cos_angle[:, None] - along * sin  # distance from the cone, negative inside
    size = radius / distance.clamp_min(1e-3)
    normal = torch.linalg.cross(
        faces.corners[:, 1] - faces.corners[:, 0], faces.corners[:, 3] - faces.corners[:, 0]
    )
    facing = ((view.position[:, None] - faces.corners[None, :, 0]) * normal).sum(-1) > 1e-6
    keep = (outside < radius) | (distance < radius + 0.5)
    keep &= (distance - radius < FARTHEST_M) & (
        size > SMALLEST_PIXELS * view.pixel_rad.amin(dim=(1, 2))[:, None]
    )
    camera, face = (keep & (facing | faces.billboard)).nonzero(as_tuple=True)
    return _pair_geometry(view, faces, camera, face)


def _pair_geometry(view: View, faces: FaceTensors, camera: Tensor, face: Tensor) -> Pairs:
    corners = faces.corners[face] - view.position[camera][:, None]
    corners = torch.where(faces.billboard[face][:, None, None], _turned_to_camera(corners), corners)
    right = _unit(corners[:, 1] - corners[:, 0])
    normal = _unit(torch.linalg.cross(right, corners[:, 3] - corners[:, 0]))
    plane = (normal * corners[:, 0]).sum(-1, keepdim=True)  # negative: the face looks at the camera
    edges = torch.linalg.cross(corners.roll(-1, dims=1), corners)
    return Pairs(
        camera=camera,
        face=face,
        corners=corners,
        edges=_unit(edges),
        inverse=normal / plane.clamp_max(-1e-4),
        farthest=1.0 / corners.norm(dim=-1).amax(-1).clamp_min(1e-3),
        right=right,
        up=torch.linalg.cross(normal, right),
        normal=normal,
    )


def _turned_to_camera(corners: Tensor) -> Tensor:
    """Billboards about their vertical axis, so that they face the origin: [K, 4, 3]."""
    base = (corners[:, 0] + corners[:, 1]) / 2
    half = (corners[:, 1] - corners[:, 0]).norm(dim=-1) / 2
    away = base[:, :2] / base[:, :2].norm(dim=-1, keepdim=True).clamp_min(1e-3)
    right = torch.stack([away[:, 1], -away[:, 0]], dim=-1) * half[:, None]
    sign = torch.tensor([-1.0, 1.0, 1.0, -1.0], device=corners.device)
    flat = base[:, None, :2] + sign[None, :, None] * right[:, None]
    return torch.cat([flat, corners[..., 2:]], dim=-1)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs by tile. `full`: the face covers the whole tile."""

    pair: Tensor  # int64 [C]
    tile: Tensor  # int64 [C] of its camera
    full: Tensor  # bool [C]
    row: Tensor  # int64 [C] into snapshots * V * T


def find_candidates(view: View, faces: FaceTensors, pairs: Pairs) -> Candidates:
    """Which tiles each pair may touch, less those hidden behind a face that fills the tile.

    A tile is a small cone: its rays differ from its axis by at most `tile_radius`, so ray . m lies within that of
    axis . m. Both tests are conservative, so nothing here changes a pixel.
    """
    counts = torch.bincount(pairs.camera, minlength=len(view.rig)).tolist()
    found_pair, found_tile, found_full = [], [], []
    start = 0
    for camera, count in enumerate(counts):
        edges = pairs.edges[start : start + count].reshape(-1, 3)
        inner = (edges @ view.tile_axis[camera].T).reshape(count, 4, -1).amin(1)  # [k, T]
        pair, tile = (inner > -view.tile_radius[camera]).nonzero(as_tuple=True)
        found_full.append(inner[pair, tile] > view.tile_radius[camera][tile])
        found_pair.append(pair + start)
        found_tile.append(tile)
        start += count
    pair, tile, full = torch.cat(found_pair), torch.cat(found_tile), torch.cat(found_full)
    camera = pairs.camera[pair]
    row = (faces.snapshot[pairs.face[pair]] * len(view.rig) + camera) * view.tiles + tile
    found = Candidates(pair, tile, full, row)
    return _visible(view, faces, pairs, found, camera)


def _visible(view: View, faces: FaceTensors, pairs: Pairs, found: Candidates, camera: Tensor) -> Candidates:
    """Drop candidates that lie wholly behind an opaque face filling their tile."""
    inverse = pairs.inverse[found.pair]
    middle = (inverse * view.tile_axis[camera, found.tile]).sum(-1)
    spread = inverse.norm(dim=-1) * view.tile_radius[camera, found.tile]
    nearest, farthest = middle + spread + 1e-5, middle - spread - 1e-5
    opaque = found.full & ~is_shaped(faces.kind[pairs.face[found.pair]])
    rows = int(found.row.max()) + 1 if len(found.row) else 0
    wall = torch.zeros(rows, device=middle.device)
    wall.scatter_reduce_(0, found.row[opaque], farthest[opaque], "amax")
    floor = torch.maximum(nearest, pairs.farthest[found.pair] + 1e-5)
    keep = floor >= wall[found.row]
    return Candidates(found.pair[keep], found.tile[keep], found.full[keep], found.row[keep])


def is_shaped(kind: Tensor) -> Tensor:
    """Whether faces of these kinds have a silhouette of their own."""
    return kind >= min(SHAPED)


def evaluate(view: View, faces: FaceTensors, pairs: Pairs, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """Distance and coverage of every pixel of every candidate, float32 [C, 64] each."""
    camera = pairs.camera[candidates.pair]
    flat_tile = camera * view.tiles + candidates.tile
    rays = view.rays.reshape(-1, 3, PIXELS)[flat_tile]
    inverse = _dot(pairs.inverse[candidates.pair], rays)
    inverse = torch.maximum(inverse, pairs.farthest[candidates.pair][:, None])
    distance = inverse.reciprocal_()
    coverage = torch.ones_like(distance)
    partial = (~candidates.full).nonzero(as_tuple=True)[0]
    pixel = view.pixel_rad.reshape(-1, PIXELS)[flat_tile]
    coverage[partial] = _edge_coverage(pairs.edges[candidates.pair[partial]], rays[partial], pixel[partial])
    shaped = is_shaped(faces.kind[pairs.face[candidates.pair]]).nonzero(as_tuple=True)[0]
    if len(shaped):
        pair = candidates.pair[shaped]
        u, v, footprint_u, footprint_v = on_face(
            pairs, pair[:, None], rays[shaped].transpose(0, 1), distance[shaped], pixel[shaped]
        )
        width, height = (s[:, None] for s in face_size(pairs, pair))
        alpha = silhouettes.alpha(
            faces.kind[pairs.face[pair]],
            faces.attributes[pairs.face[pair]],
            u,
            v,
            width,
            height,
            footprint_u,
            footprint_v,
        )
        coverage[shaped] *= alpha
    return distance, coverage


def _edge_coverage(edges: Tensor, rays: Tensor, pixel: Tensor) -> Tensor:
    """Share of each pixel inside a quad: opposite edges add up, so that a face thinner than a pixel counts as thin."""
    scale = pixel.reciprocal()
    bottom, right, top, left = (
        _dot(edges[:, k], rays).mul_(scale).add_(0.5).clamp_(0.0, 1.0) for k in range(4)
    )
    across = right.add_(left).sub_(1.0).clamp_(min=0.0)
    return bottom.add_(top).sub_(1.0).clamp_(min=0.0).mul_(across)


def _dot(vector: Tensor, rays: Tensor) -> Tensor:
    """[C, 3] . [C, 3, 64] -> [C, 64], in a fixed order of additions."""
    product = vector[:, 0:1] * rays[:, 0]
    product.addcmul_(vector[:, 1:2], rays[:, 1])
    return product.addcmul_(vector[:, 2:3], rays[:, 2])


def on_face(
    pairs: Pairs, pair: Tensor, ray: Tensor, distance: Tensor, pixel_rad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Position (u, v) on the face and the pixel's size there along u and v, in metres.

    `ray` is [3, ...]; `pair` broadcasts against `distance` [...].
    """
    right, up, normal, origin = pairs.right[pair], pairs.up[pair], pairs.normal[pair], pairs.corners[pair, 0]
    u = distance * _planar_dot(right, ray) - (right * origin).sum(-1)
    v = distance * _planar_dot(up, ray) - (up * origin).sum(-1)
    size = distance * pixel_rad
    facing = _planar_dot(normal, ray).abs().clamp_min(0.06)
    level = normal[..., 2].abs() > 0.7  # lying faces are foreshortened along v, standing ones along u
    slanted = size / facing
    return u, v, torch.where(level, size, slanted), torch.where(level, slanted, size)


def _planar_dot(vector: Tensor, ray: Tensor) -> Tensor:
    return vector[..., 0] * ray[0] + vector[..., 1] * ray[1] + vector[..., 2] * ray[2]


def face_size(pairs: Pairs, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Width of the lower edge and height of faces, metres."""
    corners = pairs.corners[pair]
    width = (corners[..., 1, :] - corners[..., 0, :]).norm(dim=-1)
    return width, ((corners[..., 3, :] - corners[..., 0, :]) * pairs.up[pair]).sum(-1)


def _resolve(
    view: View,
    faces: FaceTensors,
    pairs: Pairs,
    candidates: Candidates,
    distance: Tensor,
    coverage: Tensor,
    snapshots: int,
    layers: int,
) -> list[Layer]:
    """Nearest faces per pixel by a minimum over (distance, candidate) keys: the order of the work does not matter."""
    rows = snapshots * len(view.rig) * view.tiles
    count = len(candidates.pair)
    order = torch.arange(count, device=distance.device)[:, None]
    keys = (distance.view(torch.int32).to(torch.int64) << 32) | order
    keys = keys.masked_fill_(coverage < MIN_COVERAGE, _NOTHING)
    covered = torch.zeros(rows * PIXELS, device=distance.device)
    found: list[Layer] = []
    for depth in range(layers):
        best = torch.full((rows, PIXELS), _NOTHING, dtype=torch.int64, device=distance.device)
        best.scatter_reduce_(0, candidates.row[:, None].expand(-1, PIXELS), keys, "amin")
        flat = best.reshape(-1)
        wanted = (flat != _NOTHING) & (covered < 1 - MIN_COVERAGE) if depth else flat != _NOTHING
        pixel = wanted.nonzero(as_tuple=True)[0]
        chosen = flat[pixel] & 0xFFFFFFFF
        inside = pixel % PIXELS
        share = torch.minimum(coverage[chosen, inside], 1 - covered[pixel])
        covered[pixel] += share
        found.append(_layer(view, pairs, candidates, pixel, chosen, distance[chosen, inside], share))
        if depth + 1 < layers:
            keys = keys.masked_fill_(keys == best[candidates.row], _NOTHING)
    return found


def _layer(
    view: View,
    pairs: Pairs,
    candidates: Candidates,
    pixel: Tensor,
    chosen: Tensor,
    distance: Tensor,
    share: Tensor,
) -> Layer:
    pair = candidates.pair[chosen]
    slot = pixel % view.slots
    tile, inside = slot // PIXELS, slot % PIXELS
    flat_rays = view.rays.reshape(-1, 3, PIXELS)
    ray = torch.stack([flat_rays[tile, k, inside] for k in range(3)])
    pixel_rad = view.pixel_rad.reshape(-1)[slot]
    u, v, footprint_u, footprint_v = on_face(pairs, pair, ray, distance, pixel_rad)
    edges = torch.stack([_planar_dot(pairs.edges[pair, k], ray) for k in range(4)]).amin(0)
    return Layer(
        pixel=pixel,
        pair=pair,
        face=pairs.face[pair],
        coverage=share,
        distance=distance,
        u=u,
        v=v,
        size=torch.stack(face_size(pairs, pair)),
        footprint_u=footprint_u,
        footprint_v=footprint_v,
        edge_pixels=edges / pixel_rad,
    )


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-9)
