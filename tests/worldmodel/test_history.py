"""Carried pictures at full resolution, held against the naive path that knows the depth of every pixel."""

from dataclasses import replace

import pytest
import torch

from worldmodel.model.config import RASTER_STRIDE
from worldmodel.model.history import History, Moment, carry, trace
from worldmodel.model.rays import CameraTensors, ground_depth
from worldmodel.model.reproject import reproject
from worldmodel.model.road_users import COLUMNS
from worldmodel.rig import Rig
from worldmodel.rig.camera import Camera

FRONT = Camera(
    "front", "pinhole", 192, 128, 120.0, 120.0, 96.0, 64.0, (1.5, 0.0, 1.6), 0.0, -0.15, 0.0, "front"
)
LEFT = replace(FRONT, name="left", yaw_rad=0.7, group="side")
FISHEYE = replace(FRONT, name="fish", model="fisheye", fx=80.0, fy=80.0, distortion=(0.02, 0.0, 0.0, 0.0))
POSE = torch.tensor([[[1.2, 0.1, 0.06]]])


def geometries(*cameras: Camera) -> tuple[CameraTensors, CameraTensors]:
    """At raster resolution, and at that of the pictures."""
    rig = Rig("test", cameras)
    fine = rig.scaled(rig.height * RASTER_STRIDE, rig.width * RASTER_STRIDE)
    return CameraTensors.from_rig(rig), CameraTensors.from_rig(fine)


def stripes(cameras: CameraTensors) -> torch.Tensor:
    """A pattern painted on flat ground, [1, V, 3, h, w]."""
    points = cameras.position[:, None, None] + ground_depth(cameras).clamp(max=500)[..., None] * cameras.rays
    x, y = points[..., 0], points[..., 1]
    return torch.stack([0.5 + 0.5 * (2 * x).sin(), 0.5 + 0.5 * (2 * y).sin(), 0 * x], dim=1)[None]


@pytest.mark.parametrize("cameras", [(FRONT,), (FRONT, LEFT), (FISHEYE,)])
def test_pictures_are_carried_as_the_naive_path_warps_them(cameras: tuple[Camera, ...]) -> None:
    coarse, fine = geometries(*cameras)
    images = stripes(fine)
    depth, pixel_depth = ground_depth(coarse)[None], ground_depth(fine)[None]
    made = carry(Moment(images, depth), depth[:, :, None], POSE, CameraTensors.stack([coarse]))
    naive = reproject(images, pixel_depth, pixel_depth[:, :, None], POSE, CameraTensors.stack([fine]))
    assert made.pictures.shape == (1, len(cameras), 1, 3, 128, 192)
    valid = made.valid.repeat_interleave(RASTER_STRIDE, -1).repeat_interleave(RASTER_STRIDE, -2)
    both = (valid[:, :, :, None] * naive[:, :, :, 3:]) * (pixel_depth < 25)[:, :, None, None]
    assert both.sum() > 0.7 * (pixel_depth < 25).sum()
    away = ((made.pictures - naive[:, :, :, :3]).abs() * both).sum() / (3 * both.sum())
    unmoved = ((images[:, :, None] - naive[:, :, :, :3]).abs() * both).sum() / (3 * both.sum())
    assert away < 0.05 * unmoved


@pytest.mark.parametrize("cameras", [(FRONT,), (FRONT, LEFT), (FISHEYE, LEFT, FRONT)])
def test_points_are_found_where_the_dense_search_finds_them(cameras: tuple[Camera, ...]) -> None:
    coarse, _ = geometries(*cameras)
    rigs = CameraTensors.stack([coarse, coarse])
    ground = ground_depth(coarse)[None].expand(2, -1, -1, -1).clamp(max=60.0)
    before = torch.where(
        torch.rand(ground.shape, generator=torch.Generator().manual_seed(0)) < 0.2, 7.0, ground
    )
    poses = torch.cat([POSE, -2 * POSE])  # of two sessions
    depth = ground[:, :, None]
    away, camera, seen = trace(
        Moment(torch.zeros(2, len(cameras), 3, 1, 1), before), depth, poses, rigs, None
    )
    rays = rigs.rays.movedim(-1, 2)  # something to recognise what was looked at by
    naive = reproject(rays, before, depth, poses, rigs)
    assert 0.3 < seen.float().mean() < 1
    torch.testing.assert_close(seen.float(), naive[:, :, :, 3])
    row, column = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    grid = (away + torch.stack([column, row])) * torch.tensor([2 / 48, 2 / 32])[:, None, None] - 1
    sources = rays[torch.arange(2)[:, None, None, None, None], camera]  # B V F h w 3 h w
    b, v, f, y, x = seen.nonzero()[::7].unbind(1)
    found = torch.nn.functional.grid_sample(
        sources[b, v, f, y, x],
        grid[b, v, f, :, y, x][:, None, None],
        padding_mode="border",
        align_corners=False,
    )[:, :, 0, 0]
    torch.testing.assert_close(found, naive[b, v, f, :3, y, x], atol=1e-4, rtol=0)


def test_standing_still_gives_every_pixel_back() -> None:
    coarse, _ = geometries(FRONT, LEFT)
    images, depth = torch.rand(1, 2, 3, 128, 192), ground_depth(coarse)[None]
    made = carry(
        Moment(images, depth), depth[:, :, None], torch.zeros(1, 1, 3), CameraTensors.stack([coarse])
    )
    torch.testing.assert_close(made.pictures[:, :, 0], images, atol=1e-3, rtol=0)
    assert (made.valid == 1).all()


def test_what_nobody_saw_keeps_the_old_picture_and_is_marked() -> None:
    coarse, _ = geometries(FRONT)
    far = torch.full((1, 1, 32, 48), 50.0)
    before = far.clone()
    before[..., :24] = 5.0  # a wall that has gone
    images = torch.rand(1, 1, 3, 128, 192)
    made = carry(Moment(images, before), far[:, :, None], torch.zeros(1, 1, 3), CameraTensors.stack([coarse]))
    assert (made.valid[..., :23] == 0).all()
    torch.testing.assert_close(made.pictures[:, :, 0], images, atol=1e-3, rtol=0)
    assert (made.raster[:, :, :, :, :, :23] == 0).all()


def test_a_car_that_drives_ahead_at_the_same_speed_keeps_its_picture() -> None:
    coarse, _ = geometries(FRONT)
    depth = ground_depth(coarse)[None].clamp(max=60.0)
    car = (slice(None), slice(None), slice(12, 16), slice(20, 28))
    wall = depth.clone()
    wall[car] = 10.0
    box = torch.full((1, 1, COLUMNS), -1.0)
    box[0, 0] = torch.tensor([12.5, 0.0, 0.0, 4.0, 6.0, 4.0, 7.0])
    rigs = CameraTensors.stack([coarse])
    ahead = torch.tensor([[[2.0, 0.0, 0.0]]])
    images = torch.rand(1, 1, 3, 128, 192)

    def away(boxes: torch.Tensor | None) -> torch.Tensor:
        moment = Moment(images, wall, boxes)
        coming = None if boxes is None else boxes[:, None]
        displacement, _, seen = trace(moment, wall[:, :, None], ahead, rigs, coming)
        return (displacement.abs().amax(dim=3) + 1e3 * ~seen)[:, :, 0][car]

    assert float(away(box)[..., 1:-1, 1:-1].max()) < 1e-3
    assert float(away(None)[..., 1:-1, 1:-1].min()) > 0.1


def test_raster_is_the_mean_of_a_cell() -> None:
    pictures = torch.rand(1, 1, 2, 3, 8, 12)
    made = History(pictures, torch.ones(1, 1, 2, 2, 3)).raster
    assert made.shape == (1, 1, 2, 4, 2, 3)
    torch.testing.assert_close(made[0, 0, 1, :3, 1, 2], pictures[0, 0, 1, :, 4:, 8:].mean(dim=(1, 2)))
