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
from .reproject import agree, in_ego_frame, inverse_depth, moved, project
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
        return fold(self.pictures.reshape(-1, frames * colours, rows, columns), 2.0, -1.0)

    @cached_property
    def means(self) -> Tensor:
        """Of each of the cells: [B V, F 3, h, w]."""
        return cell_means(self.cells)

    @property
    def raster(self) -> Tensor:
        """Colour at raster resolution, zero where unknown, and validity: [B, V, F, 4, h, w]."""
        valid = self.valid[..., None, :, :]
        colour = (self.means / 2 + 0.5).reshape(*self.valid.shape[:-2], 3, *self.valid.shape[-2:])
        return torch.cat([colour * valid, valid], dim=-3)


def carry(
    moment: Moment,
    depth: Tensor,
    poses: Tensor,
    cameras: CameraTensors,
    boxes: Tensor | None = None,
    along: Tensor | None = None,
) -> History:
    """Carry pictures into coming moments.

    Args:
        moment: the source.
        depth: [B, V, F, h, w] metres along the rays at the coming moments, may be infinite.
        poses: [B, F, 3] coming ego poses (x, y, yaw) in the ego frame of the source moment.
        cameras: geometry of the B rigs.
        boxes: [B, F, N, 7] road users at the coming moments; None: all stand.
        along: bool [B, V, F, h, w], what moves along with the ego; None: nothing does.
    """
    away, camera, seen = trace(moment, depth, poses, cameras, boxes, along)
    pictures = _sample(moment.images, _refined(away, camera, seen), camera)
    return History(pictures, seen.to(moment.images.dtype))


def trace(
    moment: Moment,
    depth: Tensor,
    poses: Tensor,
    cameras: CameraTensors,
    boxes: Tensor | None,
    along: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the content of every coming raster cell was.

    Returns:
        Displacement [B, V, F, 2, h, w] in (columns, rows) of raster cells, zero where unknown; the camera that saw it, int64
        [B, V, F, h, w], its own where unknown; and bool [B, V, F, h, w], whether anyone did.
    """
    points = in_ego_frame(depth, cameras)
    if boxes is None or moment.boxes is None:
        open_ = torch.ones(depth.shape, dtype=torch.bool, device=depth.device)
        there = moved(points, poses[:, None, :, None, None])
    else:
        pixel, open_ = pixel_poses(points, poses, moment.boxes, boxes)
        there = moved(points, pixel)
    if along is not None:
        there = torch.where(along[..., None], points, there)
    return _search(there, open_, moment.depth, cameras)


def _search(
    points: Tensor, open_: Tensor, seen_depth: Tensor, cameras: CameraTensors
) -> tuple[Tensor, Tensor, Tensor]:
    """Look for points [B, V, F, h, w, 3] in one camera after another, for those that are open and not found yet; see `trace`."""
    shape = points.shape[:-1]
    own = _centres(open_)[:, None].expand(2, shape[:3].numel(), *shape[3:]).flatten(1)  # 2 P
    view = torch.arange(shape[:2].numel(), device=points.device)  # of all rigs in a row
    view = view.repeat_interleave(shape[2:].numel())  # P
    place, camera = own.clone(), view.clone()
    seen = torch.zeros_like(view, dtype=torch.bool)
    points, lenses = points.flatten(0, -2).T.contiguous(), cameras.lenses.flatten(1)
    inverse = inverse_depth(seen_depth).flatten(0, 1)
    first = torch.arange(shape[0], device=points.device)[:, None] * shape[1]  # B 1
    wanted = open_.flatten().nonzero()[:, 0]
    for candidate in (cameras.sources + first[..., None]).flatten(0, 1).unbind(-1):
        source = candidate.index_select(0, view.index_select(0, wanted))
        found, there = _find(inverse, points.index_select(1, wanted), source, lenses)
        hits = wanted[found]
        place[:, hits], camera[hits], seen[hits] = there, source[found], True
        wanted = wanted[~seen[wanted]]
    away = (place - own).unflatten(1, shape).movedim(0, 3)
    return away, camera.view(shape) % shape[1], seen.view(shape)


def _find(inverse: Tensor, points: Tensor, source: Tensor, lenses: Tensor) -> tuple[Tensor, Tensor]:
    """Look for points in one camera each; `look` does it for all points of all cameras.

    Args:
        inverse: [N, h, w] depths that cameras saw [1/m].
        points: [3, P] in the ego frame of the source moment.
        source: int64 [P], the camera to look in.
        lenses: [LENS, N] of the cameras.

    Returns:
        Indices [K] of the points that were seen, and where: [2, K] column and row in raster cells.
    """
    u, v, distance, visible = project(points, lenses.index_select(1, source))
    rows, columns = inverse.shape[-2:]
    inside = (visible & (u >= 0) & (u <= columns) & (v >= 0) & (v <= rows)).nonzero()[:, 0]
    u, v, distance, source = (value.index_select(0, inside) for value in (u, v, distance, source))
    seen = agree(_between(inverse, source, u, v), distance)
    return inside[seen], torch.stack([u[seen], v[seen]])


def _between(images: Tensor, which: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Values of images [N, h, w] between the centres of their cells, bilinear: [K] of image `which`, column u and row v."""
    rows, columns = images.shape[-2:]
    x, y = (u - 0.5).clamp(0, columns - 1), (v - 0.5).clamp(0, rows - 1)
    left, top = x.long(), y.long()
    right = (left + 1).clamp(max=columns - 1)
    line = (which * rows + top) * columns
    below = line + (top + 1 < rows) * columns
    upper, lower = (
        torch.lerp(torch.take(images, start + left), torch.take(images, start + right), x - left)
        for start in (line, below)
    )
    return torch.lerp(upper, lower, y - top)


def _refined(away: Tensor, camera: Tensor, seen: Tensor) -> Tensor:
    """Displacements of pixels, still in raster cells: linear inside of every cell, with its slope limited (minmod).

    The flatter of both neighbours decides, so edges between things stay where they are.

    Returns:
        [B, V, F, 2, h, S, w, S], the S x S pixels of each raster cell inside of it.
    """
    source = (camera + 1) * seen  # 0 where unknown
    across, down = (
        _limited(away.diff(dim=axis), (source.diff(dim=axis) == 0)[:, :, :, None], axis) for axis in (-1, -2)
    )
    inside = _inside(away)
    rows = torch.addcmul(_per_cell(away), _per_cell(across), inside)  # B V F 2 h 1 w S
    return torch.addcmul(rows, _per_cell(down), inside[:, None, None])


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


def _inside(like: Tensor) -> Tensor:
    """Where pixels lie in their cell, from its middle, in cells: [S]."""
    return (torch.arange(RASTER_STRIDE, device=like.device, dtype=like.dtype) + 0.5) / RASTER_STRIDE - 0.5


def _per_cell(value: Tensor) -> Tensor:
    """Cells [..., h, w] with an axis for the pixels inside of them after each of theirs: [..., h, 1, w, 1]."""
    return value[..., :, None, :, None]


def _sample(images: Tensor, away: Tensor, camera: Tensor) -> Tensor:
    """Pictures [B, V, F, 3, H, W] from images [B, V, 3, H, W], all cameras of a rig below each other.

    `away` is [B, V, F, 2, h, S, w, S], see `_refined`; `camera` [B, V, F, h, w].
    """
    (batch, views, _, rows, columns), frames = images.shape, away.shape[2]
    column, row = (
        place.unflatten(0, away.shape[4:6]).unflatten(2, away.shape[6:]) for place in _centres(images)
    )  # of pixels, h S w S
    grid = away.new_empty(*away.shape[:3], *away.shape[4:], 2)
    x, y = grid.unbind(-1)  # from -1 to 1 over the image
    torch.add(2 * column / columns - 1, away[:, :, :, 0], alpha=2 * RASTER_STRIDE / columns, out=x)
    # Half a pixel inside of its own image, or the camera below would shine through.
    below = torch.add(row, away[:, :, :, 1], alpha=RASTER_STRIDE).clamp_(0.5, rows - 0.5)
    torch.add(below, _per_cell(camera), alpha=rows, out=y).mul_(2 / (views * rows)).sub_(1)
    atlas = images.transpose(1, 2).flatten(2, 3)  # B 3 (V H) W
    pictures = F.grid_sample(
        atlas, grid.view(batch, -1, columns, 2), padding_mode="border", align_corners=False
    )
    return pictures.unflatten(2, (views, frames, rows)).movedim(1, 3)


def _centres(like: Tensor) -> Tensor:
    """Centres (column, row) of cells [2, h, w] for tensors [..., h, w]."""
    rows, columns = (torch.arange(size, device=like.device) + 0.5 for size in like.shape[-2:])
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([column, row])
