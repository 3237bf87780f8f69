"""How road users carry their looks along: where the points of a moving box were at an earlier moment.

Boxes are rows of numbers in the ego frame of their own moment, nearest first: x, y [m], yaw [rad] of the middle of the
box on the ground, length, width, height [m], id. Rows without a road user have id -1.
"""

import numpy as np
import torch
from torch import Tensor

from ..scene.state import EgoState, SceneFrame, pose_delta

COUNT = 12  # the nearest: those further away are a few pixels wide
COLUMNS = 7
_ID = 6
_NONE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
# A raster cell covers several points: how far outside of its box a road user's point may seem to lie.
_MARGIN_M, _MARGIN_PER_M = 0.15, 0.01
_GROUND_M = 0.12  # what is lower is road


def user_boxes(frame: SceneFrame) -> np.ndarray:
    """The boxes of a frame's road users, float32 [COUNT, COLUMNS]."""
    ego = frame.ego
    nearest = sorted(frame.agents, key=lambda a: (a.x_m - ego.x_m) ** 2 + (a.y_m - ego.y_m) ** 2)[:COUNT]
    rows = [
        (*pose_delta(ego, EgoState(a.x_m, a.y_m, a.yaw_rad, 0.0)), a.length_m, a.width_m, a.height_m, a.id)
        for a in nearest
    ]
    return np.array([*rows, *[_NONE] * (COUNT - len(rows))], np.float32)


def nobody_like(boxes: Tensor) -> Tensor:
    """As many rows as boxes [..., N, 7] have, without a road user in any."""
    return boxes.new_tensor(_NONE).expand_as(boxes)


def carried_poses(before: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Where the ego would have to be for a standing road user to look as the moved one does.

    Args:
        before: [B, N, 7] boxes at the source moment.
        boxes: [B, F, M, 7] boxes at the coming moments.

    Returns:
        [B, F, M, 3] poses (x, y, yaw) of the coming ego frames in that of the source moment, had the road user stood; and
        bool [B, F, M]: whether it was there then.
    """
    same = (boxes[..., None, _ID] == before[:, None, None, :, _ID]) & (boxes[..., None, _ID] >= 0)  # B F M N
    index = same.float().argmax(dim=-1)
    rows = torch.arange(len(before), device=before.device)[:, None, None]
    then = before[rows, index]
    yaw = then[..., 2] - boxes[..., 2]
    cos, sin, x, y = yaw.cos(), yaw.sin(), boxes[..., 0], boxes[..., 1]
    poses = torch.stack([then[..., 0] - cos * x + sin * y, then[..., 1] - sin * x - cos * y, yaw], dim=-1)
    return poses, same.any(dim=-1)


def pixel_poses(points: Tensor, poses: Tensor, before: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The pose that takes each pixel's point to the source moment: the ego's, or that of the road user it lies on.

    Args:
        points: [B, V, F, h, w, 3] in the ego frames of the coming moments.
        poses: [B, F, 3] those ego frames in that of the source moment.
        before: [B, N, 7] boxes at the source moment.
        boxes: [B, F, M, 7] at the coming moments.

    Returns:
        [B, V, F, h, w, 3], and bool [B, V, F, h, w]: False on road users that were not there yet.
    """
    carried, known = carried_poses(before, boxes)
    count = boxes.shape[2]
    which = torch.full(points.shape[:-1], count, device=points.device)  # the road user, or none
    x, y, z = (part.contiguous() for part in points.unbind(-1))
    margin = _MARGIN_M + _MARGIN_PER_M * torch.hypot(x, y)
    above, over = z > _GROUND_M, z - margin
    there = (boxes[..., _ID] >= 0).flatten(0, 1).any(dim=0).tolist()
    for k in reversed([k for k, any_ in enumerate(there) if any_]):  # the nearest has the last word
        cx, cy, yaw, length, width, height, _ = (
            value[:, None, :, None, None] for value in boxes[:, :, k].unbind(-1)
        )
        cos, sin = yaw.cos(), yaw.sin()
        dx, dy = x - cx, y - cy
        along, across = (dx * cos + dy * sin).abs_(), (dy * cos - dx * sin).abs_()
        on = (along - margin < length / 2) & (across - margin < width / 2) & (over < height) & (length > 0)
        which = torch.where(on & above, k, which)
    # Row `count` of both tables is for what stands.
    table = torch.cat([carried, poses[:, :, None]], dim=2).flatten(0, 2)
    was_there = torch.cat([known, torch.ones_like(known[..., :1])], dim=2).flatten()
    batch, frame = (torch.arange(size, device=points.device) for size in boxes.shape[:2])
    row = which + ((batch[:, None] * len(frame) + frame) * (count + 1))[:, None, :, None, None]
    return table[row], was_there[row]
