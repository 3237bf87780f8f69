"""Depth of coming moments from depth of the last one: what stands on the ground is put where it will be seen.

Only sessions without layout need this; with one, depth is drawn. The ground is taken as flat and everything on it as standing, but
for what is in the ego's way: the ego would run into it, so it is taken to move along.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .rays import CameraTensors, ground_depth
from .reproject import FAR_M, in_ego_frame, inverse_depth, project

GROUND_M = 0.3  # what is lower is ground
# Half of the width of the ego's way: its own, and more with the square of what it travels in a frame, as roads are built; at most.
WAY_M, WAY_PER_M, WIDEST_M, AHEAD_M = 1.0, 0.8, 5.5, 60.0
REACH = 3  # cells that a point may cover to each side
CRACK = 1  # cells to both sides within which a surface goes on
SAME = 0.8  # points belong to the surface in front down to this share of its inverse depth


@dataclass(frozen=True)
class Foresight:
    """What coming moments will show."""

    depth: Tensor  # [B, V, F, h, w] metres along the rays, FAR_M at most
    along: Tensor  # bool, the same: what moves along with the ego, so that it is seen where it was


def foreseen(depth: Tensor, poses: Tensor, cameras: CameraTensors) -> Foresight:
    """Depth at coming moments.

    Args:
        depth: [B, V, h, w] metres along the rays at the source moment, may be infinite.
        poses: [B, F, 3] coming ego poses (x, y, yaw) in the ego frame of the source moment.
        cameras: geometry of the B rigs.
    """
    batch, views, rows, columns = depth.shape
    size = (batch, views, poses.shape[1], rows, columns)
    splats = _splats(in_ego_frame(depth[:, :, None], cameras)[:, :, 0], depth, poses, cameras)
    own, others = _surface(splats.take(splats.own), size), _surface(splats.take(~splats.own), size)
    inverse, along = torch.where(own[0] > 0, own, others)
    standing = _without_cracks(inverse)
    ground = inverse_depth(ground_depth(cameras))[:, :, None]
    return Foresight(1 / torch.maximum(standing, ground), (along > 0.5) & (inverse > ground))


@dataclass(frozen=True)
class _Splats:
    """P points where they will be seen. Images are counted through: (row V + view) F + frame."""

    image: Tensor  # int64 [P]
    u: Tensor  # [P] column in raster cells
    v: Tensor  # row
    inverse: Tensor  # of the distance [1/m]
    half: Tensor  # half of a point's size in cells: what comes nearer grows, or one could look through it
    own: Tensor  # bool: seen by the camera itself
    along: Tensor  # 1 for what moves along with the ego

    def take(self, chosen: Tensor) -> "_Splats":
        return _Splats(*(value[chosen] for value in vars(self).values()))


def _splats(points: Tensor, depth: Tensor, poses: Tensor, cameras: CameraTensors) -> _Splats:
    """Points [B, V, h, w, 3] of what stands, in every camera that will see them."""
    views, rows, columns = depth.shape[1:]
    frames = poses.shape[1]
    standing = (points[..., 2] > GROUND_M) & (depth < FAR_M / 2)
    row, view, _, _ = (where := standing.nonzero()).unbind(1)
    there = points[tuple(where.T)]  # Q 3
    along = moves_along(there, poses[row])
    coming = _in_coming_frames(there, poses[row], along)  # 3 Q F
    lenses = cameras.lenses[:, row]  # LENS Q V
    u, v, distance, visible = project(coming[:, :, None], lenses[..., None])  # Q V F, the V that look
    zoom = cameras.focal.mean(-1)  # B V
    grown = (zoom[row] / zoom[row, view, None])[..., None]
    half = (grown * depth[tuple(where.T)][:, None, None] / distance.clamp_min(1e-3)).clamp(
        1, 2 * REACH + 1
    ) / 2
    hits = visible & (u > -half) & (u < columns + half) & (v > -half) & (v < rows + half)
    looking = torch.arange(views, device=u.device)[:, None]
    image = ((row * views)[:, None, None] + looking) * frames + torch.arange(frames, device=u.device)
    own = (looking == view[:, None, None]).expand_as(hits)
    both = along.float()[:, None, None].expand_as(hits)
    inverse = 1 / distance.clamp_min(0.1)
    return _Splats(*(value[hits] for value in (image, u, v, inverse, half, own, both)))


def moves_along(points: Tensor, poses: Tensor) -> Tensor:
    """Whether points [Q, 3] are in the way of an ego that takes poses [Q, F, 3]: bool [Q]."""
    x, y, _ = points.unbind(-1)
    ahead, _, yaw = poses[:, -1].unbind(-1)
    step = poses[:, -2:, :2].diff(dim=1).norm(dim=-1)[:, 0]
    beside = y - yaw / ahead.abs().clamp_min(1.0) * x * x / 2  # of an arc
    way = (WAY_M + WAY_PER_M * step * step).clamp(max=WIDEST_M)
    return (beside.abs() < way) & (x.abs() < AHEAD_M)


def _in_coming_frames(points: Tensor, poses: Tensor, along: Tensor) -> Tensor:
    """Points [Q, 3] in the ego frames of poses [Q, F, 3]: [3, Q, F]. Those that move along stay where they are."""
    x, y, z = points[:, None].unbind(-1)
    dx, dy = x - poses[..., 0], y - poses[..., 1]
    cos, sin = poses[..., 2].cos(), poses[..., 2].sin()
    moved = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx, z.expand_as(dx)])
    return torch.where(along[:, None], points.T[..., None], moved)


def _surface(splats: _Splats, size: tuple[int, ...]) -> Tensor:
    """Inverse depth of what is in front, zero where nothing is, and how much of it moves along: [2, B, V, F, h, w]."""
    offsets = range(-REACH, REACH + 1)
    cells = [_covered(splats, size[-2:], down, across) for down in offsets for across in offsets]
    cell, inverse, along, weight = (torch.cat(parts) for parts in zip(*cells, strict=True))
    nothing = inverse.new_zeros(torch.Size(size).numel())
    front = nothing.scatter_reduce(0, cell, inverse, "amax")
    weight = weight * (inverse >= SAME * front[cell])
    total, *sums = (nothing.scatter_add(0, cell, weight * value) for value in (1, inverse, along))
    return torch.stack([(of / total.clamp_min(1e-9)).view(size) for of in sums])


def _covered(splats: _Splats, size: tuple[int, ...], down: int, across: int) -> tuple[Tensor, ...]:
    """The cells so far from the points' own that they cover: which, with what inverse depth, moving along or not, and how centrally."""
    far = max(abs(down), abs(across))
    if far > 0:
        splats = splats.take(splats.half > far - 0.5)
    rows, columns = size
    row, column = splats.v.floor() + down, splats.u.floor() + across
    off = torch.maximum((row + 0.5 - splats.v).abs(), (column + 0.5 - splats.u).abs())
    inside = (off <= splats.half) & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    place = (splats.image * rows + row.long()) * columns + column.long()
    return tuple(value[inside] for value in (place, splats.inverse, splats.along, 1.1 - off / splats.half))


def _without_cracks(inverse: Tensor) -> Tensor:
    """Surfaces with the gaps closed that they have on both sides of: seen askew, their points part. [B, V, F, h, w]."""
    images, size = inverse.flatten(0, 2)[:, None], 2 * CRACK + 1
    seen = (images > 0).to(images.dtype)
    grown = F.max_pool2d(seen, size, 1, CRACK)
    closed = -F.max_pool2d(F.pad(-grown, [CRACK] * 4, value=-1.0), size, 1)
    mean = F.avg_pool2d(images, size, 1, CRACK) / F.avg_pool2d(seen, size, 1, CRACK).clamp_min(1e-6)
    return torch.where((seen == 0) & (closed > 0), mean, images)[:, 0].view_as(inverse)
