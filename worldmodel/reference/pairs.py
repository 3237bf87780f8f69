"""(camera, face) pairs: the faces each camera may see, in coordinates that make rays cheap to test against them.

A ray from the camera hits the inside of edge k of a convex face where ray . m_k > 0, and that product is the sine of
the angle to the edge. With g = n / (n . corner), 1 / distance = ray . g. Only rays and these vectors matter, so any
camera model works and nothing special happens at the image plane.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .faces import SHAPED, Faces
from .view import View

FARTHEST_M = 320.0
SMALLEST_PIXELS = 0.35


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
    """K pairs that survive culling, sorted by camera. Vectors are in ego axes, from the camera."""

    camera: Tensor  # int64 [K]
    snapshot: Tensor  # int64 [K]
    edges: Tensor  # float32 [K, 4, 3] m_k
    inverse: Tensor  # float32 [K, 3] g
    farthest: Tensor  # float32 [K] 1 / distance of the farthest corner
    right: Tensor  # float32 [4, K] unit vector along u, and what to subtract to get u
    up: Tensor  # float32 [4, K] the same for v
    normal: Tensor  # float32 [3, K] unit
    plane: Tensor  # float32 [K] distance of the camera from the face's plane
    width: Tensor  # float32 [K] of the lower edge, metres
    height: Tensor  # float32 [K]
    lying: Tensor  # bool [K] a face that looks up
    shaped: Tensor  # bool [K] a face with a silhouette of its own
    kind: Tensor  # uint8 [K]
    color: Tensor  # float32 [3, K]
    attributes: Tensor  # float32 [5, K]
    billboard: Tensor  # bool [K]
    owner: Tensor  # int64 [K]


def to_tensors(face_sets: Sequence[Faces], poses: Tensor) -> FaceTensors:
    """Stack the faces of every snapshot and bring them into its ego frame.

    Args:
        face_sets: one per snapshot, world frame.
        poses: float32 [N, 4] x, y, cos yaw, sin yaw of the egos.
    """
    device = poses.device
    counts = torch.tensor([len(faces) for faces in face_sets], device=device)
    snapshot = torch.repeat_interleave(torch.arange(len(face_sets), device=device), counts)

    def stacked(name: str) -> Tensor:
        return torch.cat([torch.from_numpy(getattr(faces, name)) for faces in face_sets]).to(device)

    corners = stacked("corners")
    x0, y0, cos, sin = (poses[snapshot, k, None] for k in range(4))
    x, y = corners[..., 0] - x0, corners[..., 1] - y0
    turned = torch.stack([cos * x + sin * y, cos * y - sin * x, corners[..., 2]], dim=-1)
    rest = (stacked(name) for name in ("kind", "color", "attributes", "billboard", "owner"))
    return FaceTensors(turned, snapshot, *rest)


def find_pairs(view: View, faces: FaceTensors) -> Pairs:
    """Cull by distance, size, view cone and facing."""
    middle = faces.corners.mean(1)  # [N, 3]
    radius = (faces.corners - middle[:, None]).norm(dim=-1).amax(1)
    offset = middle[None] - view.position[:, None]  # [V, N, 3]
    distance = offset.norm(dim=-1)
    keep = _in_cone(view, offset, distance, radius) & (distance - radius < FARTHEST_M)
    smallest = SMALLEST_PIXELS * view.pixel_rad.amin(dim=(1, 2))[:, None]
    keep &= radius > smallest * distance
    first = faces.corners[:, 0]
    normal = torch.linalg.cross(faces.corners[:, 1] - first, faces.corners[:, 3] - first)
    facing = ((view.position[:, None] - first) * normal).sum(-1) > 1e-6
    camera, face = (keep & (facing | faces.billboard)).nonzero(as_tuple=True)
    return _pair_geometry(view, faces, camera, face)


def _in_cone(view: View, offset: Tensor, distance: Tensor, radius: Tensor) -> Tensor:
    """Whether a sphere touches the camera's cone of view, bool [V, N]."""
    along = (offset * view.axis[:, None]).sum(-1)
    across = (distance**2 - along**2).clamp_min(0).sqrt()
    sin = (1 - view.cos_angle**2).clamp_min(0).sqrt()[:, None]
    outside = across * view.cos_angle[:, None] - along * sin  # distance from the cone, negative inside
    return (outside < radius) | (distance < radius + 0.5)


def _pair_geometry(view: View, faces: FaceTensors, camera: Tensor, face: Tensor) -> Pairs:
    corners = faces.corners[face] - view.position[camera][:, None]
    billboard = faces.billboard[face]
    corners = torch.where(billboard[:, None, None], _turned_to_camera(corners), corners)
    first, lower, left = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    right = _unit(lower)
    normal = _unit(torch.linalg.cross(right, left))
    up = torch.linalg.cross(normal, right)
    plane = (normal * first).sum(-1).clamp_max(-1e-4)  # negative: the face looks at the camera
    kind = faces.kind[face]
    return Pairs(
        camera=camera,
        snapshot=faces.snapshot[face],
        edges=_unit(torch.linalg.cross(corners.roll(-1, dims=1), corners)),
        inverse=normal / plane[:, None],
        farthest=1.0 / corners.norm(dim=-1).amax(-1).clamp_min(1e-3),
        right=_axis(right, first),
        up=_axis(up, first),
        normal=normal.T.contiguous(),
        plane=-plane,
        width=lower.norm(dim=-1),
        height=(left * up).sum(-1),
        lying=normal[:, 2] > 0.7,
        shaped=kind >= min(SHAPED),
        kind=kind.to(torch.uint8),
        color=faces.color[face].T.contiguous(),
        attributes=faces.attributes[face].T.contiguous(),
        billboard=billboard,
        owner=faces.owner[face],
    )


def _axis(direction: Tensor, origin: Tensor) -> Tensor:
    """float32 [4, K]: a direction and its product with the origin."""
    return torch.cat([direction, (direction * origin).sum(-1, keepdim=True)], dim=1).T.contiguous()


def _turned_to_camera(corners: Tensor) -> Tensor:
    """Billboards about their vertical axis, so that they face the origin: [K, 4, 3]."""
    base = (corners[:, 0] + corners[:, 1]) / 2
    half = (corners[:, 1] - corners[:, 0]).norm(dim=-1) / 2
    away = base[:, :2] / base[:, :2].norm(dim=-1, keepdim=True).clamp_min(1e-3)
    right = torch.stack([away[:, 1], -away[:, 0]], dim=-1) * half[:, None]
    sign = torch.tensor([-1.0, 1.0, 1.0, -1.0], device=corners.device)
    flat = base[:, None, :2] + sign[None, :, None] * right[:, None]
    return torch.cat([flat, corners[..., 2:]], dim=-1)


def _unit(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length.clamp_min(1e-9)
