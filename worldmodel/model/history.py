"""Carried pictures: what the last committed frames show of the coming ones, at full resolution.

Exact ego motion, the depth of the layout and the boxes of road users say where every coming pixel was. That is worked out
at raster resolution, where depth is known, and refined to pixels; `reproject` is the naive path beside it, which
needs depth at every pixel and takes road users as standing.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import RASTER_STRIDE
from .folding import cell_means, fold
from .rays import CameraTensors
from .reproject import in_ego_frame, inverse_depth, look, moved
from .road_users import pixel_poses


@dataclass(frozen=True)
class Moment:
    """The last committed frames: where history is carried from."""

    images: Tensor  # float [B, V, 3, H, W] in [0, 1]
    depth: Tensor  # [B, V, h, w] metres along the rays, may be infinite
    boxes: Tensor | None = None  # [B, N, 7] road users, see `road_users`; None: all stand


@dataclass(frozen=True)
class History:
    """The same seen from where the ego will be. More axes may lead, or fewer."""

    pictures: Tensor  # [B, V, F, 3, H, W]; where nobody saw it, the camera's own image as it was
    valid: Tensor  # float [B, V, F, h, w]: 1 where the pictures show the coming thing

    @cached_property
    def cells(self) -> Tensor:
        """The pictures in [-1, 1], folded to raster cells, all views in a row: [B V, F 48, h, w]. Made once."""
        frames, colours, rows, columns = self.pictures.shape[-4:]
        return fold(self.pictures.reshape(-1, frames * colours, rows, columns) * 2 - 1)

    @property
    def raster(self) -> Tensor:
        """Colour at raster resolution, zero where unknown, and validity: [B, V, F, 4, h, w]."""
        valid = self.valid[..., None, :, :]
        means = cell_means(self.cells) / 2 + 0.5
        colour = means.reshape(*self.valid.shape[:-2], 3, *self.valid.shape[-2:])
        return torch.cat([colour * valid, valid], dim=-3)


def carry(
    moment: Moment, depth: Tensor, poses: Tensor, cameras: CameraTensors, boxes: Tensor | None = None
) -> History:
    """Carry pictures into coming moments.

    Args:
        moment: the source.
        depth: [B, V, F, h, w] metres along the rays at the coming moments, may be infinite.
        poses: [B, F, 3] coming ego poses (x, y, yaw) in the ego frame of the source moment.
        cameras: geometry of the B rigs.
        boxes: [B, F, N, 7] road users at the coming moments; None: all stand.
    """
    away, camera, seen = trace(moment, depth, poses, cameras, boxes)
    pictures = _sample(moment.images, _refined(away, camera, seen), camera)
    return History(pictures, seen.to(moment.images.dtype))


def trace(
    moment: Moment, depth: Tensor, poses: Tensor, cameras: CameraTensors, boxes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the content of every coming raster cell was.

    Returns:
        Displacement [B, V, F, 2, h, w] in (columns, rows) of raster cells, zero where unknown; the camera that saw it, int64
        [B, V, F, h, w], its own where unknown; and bool [B, V, F, h, w], whether anyone did.
    """
    points = in_ego_frame(depth, cameras)
    if boxes is None or moment.boxes is None:
        seen = torch.zeros(depth.shape, dtype=torch.bool, device=depth.device)
        open_ = ~seen
        points = moved(points, poses[:, None, :, None, None])
    else:
        pixel, open_ = pixel_poses(points, poses, moment.boxes, boxes)
        points = moved(points, pixel)
        seen = torch.zeros_like(open_)
    own = _centres(depth)  # 2 h w
    views = torch.arange(depth.shape[1], device=depth.device)[None, :, None, None, None]
    camera = views.expand(depth.shape).clone()
    away = depth.new_zeros(*depth.shape[:3], 2, *depth.shape[3:])
    inverse = inverse_depth(moment.depth)[:, :, None]
    for candidate in cameras.sources.unbind(-1):  # B V
        _, place, there = look(inverse, points, candidate, cameras)
        taken = there & open_ & ~seen
        away = torch.where(taken[:, :, :, None], place - own, away)
        camera = torch.where(taken, candidate[:, :, None, None, None], camera)
        seen = seen | taken
    return away, camera, seen


def _refined(away: Tensor, camera: Tensor, seen: Tensor) -> Tensor:
    """Displacements of pixels, still in raster cells: linear inside of every cell, with its slope limited (minmod).

    The flatter of both neighbours decides, so edges between things stay where they are.
    """
    source = (camera + 1) * seen  # 0 where unknown
    whole = _enlarged(away)
    for axis, offsets in (
        (-1, _offsets(away.shape[-1], away)),
        (-2, _offsets(away.shape[-2], away)[:, None]),
    ):
        step = away.diff(dim=axis)
        joined = (source.diff(dim=axis) == 0)[:, :, :, None]
        whole = whole + _enlarged(_limited(step, joined, axis)) * offsets
    return whole


def _limited(step: Tensor, joined: Tensor, axis: int) -> Tensor:
    """Slopes of cells from the differences to both neighbours; a neighbour that another camera saw has no say."""
    edge = step.narrow(axis, 0, 1)
    no, unknown = torch.zeros_like(edge), torch.zeros_like(joined.narrow(axis, 0, 1))
    before, after = torch.cat([no, step], axis), torch.cat([step, no], axis)
    has_before, has_after = torch.cat([unknown, joined], axis), torch.cat([joined, unknown], axis)
    before, after = (
        torch.where(has_before, before, after * has_after),
        torch.where(has_after, after, before * has_before),
    )
    flatter = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(before * after > 0, flatter, 0.0)


def _offsets(cells: int, like: Tensor) -> Tensor:
    """Where pixels lie in their cell, from its middle, in cells: [cells * RASTER_STRIDE]."""
    inside = (torch.arange(RASTER_STRIDE, device=like.device, dtype=like.dtype) + 0.5) / RASTER_STRIDE - 0.5
    return inside.repeat(cells)


def _sample(images: Tensor, away: Tensor, camera: Tensor) -> Tensor:
    """Pictures [B, V, F, 3, H, W] from images [B, V, 3, H, W], all cameras of a rig below each other."""
    (batch, views, _, rows, columns), frames = images.shape, away.shape[2]
    place = (_centres(away[..., 0, :, :]) / RASTER_STRIDE + away) * RASTER_STRIDE  # B V F 2 H W, in pixels
    x = 2 * place[:, :, :, 0] / columns - 1
    # Half a pixel inside of its own image, or the camera below would shine through.
    y = place[:, :, :, 1].clamp(0.5, rows - 0.5) + rows * _enlarged(camera)
    grid = torch.stack([x, 2 * y / (views * rows) - 1], dim=-1)  # B V F H W 2
    atlas = images.transpose(1, 2).flatten(2, 3)  # B 3 (V H) W
    pictures = F.grid_sample(
        atlas, grid.reshape(batch, -1, columns, 2), padding_mode="border", align_corners=False
    )
    return pictures.unflatten(2, (views, frames, rows)).movedim(1, 3)


def _centres(like: Tensor) -> Tensor:
    """Centres (column, row) of cells [2, h, w] for tensors [..., h, w]."""
    rows, columns = (torch.arange(size, device=like.device) + 0.5 for size in like.shape[-2:])
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([column, row])


def _enlarged(value: Tensor) -> Tensor:
    """Every cell as RASTER_STRIDE x RASTER_STRIDE pixels."""
    return value.repeat_interleave(RASTER_STRIDE, -1).repeat_interleave(RASTER_STRIDE, -2)
