import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.model.rays import CameraTensors, ground_depth, plucker
from worldmodel.model.reproject import compose, reproject
from worldmodel.rig import Rig
from worldmodel.rig.camera import Camera

FRONT = Camera(
    "front", "pinhole", 192, 128, 120.0, 120.0, 96.0, 64.0, (1.5, 0.0, 1.6), 0.0, -0.15, 0.0, "front"
)
LEFT = replace(FRONT, name="left", yaw_rad=0.7, group="side")
FISHEYE = replace(FRONT, name="fish", model="fisheye", fx=80.0, fy=80.0, distortion=(0.02, 0.0, 0.0, 0.0))


def ground_colours(cameras: CameraTensors, pose: torch.Tensor) -> torch.Tensor:
    """A smooth pattern painted on flat ground, seen from an ego pose: [V, 3, h, w]."""
    depth = ground_depth(cameras).clamp(max=500)
    points = cameras.position[:, None, None] + depth[..., None] * cameras.rays
    x = pose[0] + pose[2].cos() * points[..., 0] - pose[2].sin() * points[..., 1]
    y = pose[1] + pose[2].sin() * points[..., 0] + pose[2].cos() * points[..., 1]
    return torch.stack([0.5 + 0.5 * (0.5 * x).sin(), 0.5 + 0.5 * (0.5 * y).sin(), 0 * x], dim=1)


@pytest.mark.parametrize("cameras", [(FRONT,), (FRONT, LEFT), (FISHEYE,)])
def test_warped_ground_is_where_the_ego_motion_puts_it(cameras: tuple[Camera, ...]) -> None:
    geometry = CameraTensors.from_rig(Rig("test", cameras))
    pose = torch.tensor([1.2, 0.1, 0.06])
    depth = ground_depth(geometry)
    warped = reproject(
        ground_colours(geometry, torch.zeros(3))[None],
        depth[None],
        depth[None, :, None],
        pose[None, None],
        CameraTensors.stack([geometry]),
    )[0, :, 0]
    true = ground_colours(geometry, pose)
    near = depth[:, None] < 25  # further off the pattern is finer than a pixel
    valid = (warped[:, 3:] > 0.5) & near
    assert valid.sum() > 0.7 * near.sum()
    error = ((warped[:, :3] - true).abs() * valid).sum() / (3 * valid.sum())
    unmoved = ((ground_colours(geometry, torch.zeros(3)) - true).abs() * valid).sum() / (3 * valid.sum())
    assert error < 0.25 * unmoved


def test_standing_still_gives_the_same_picture_back() -> None:
    geometry = CameraTensors.from_rig(Rig("test", (FRONT, LEFT)))
    images, depth = torch.rand(1, 2, 3, 32, 48), ground_depth(geometry)[None]
    warped = reproject(
        images, depth, depth[:, :, None], torch.zeros(1, 1, 3), CameraTensors.stack([geometry])
    )
    torch.testing.assert_close(warped[:, :, 0, :3], images, atol=1e-4, rtol=0)
    assert (warped[:, :, 0, 3] == 1).all()


def test_what_was_hidden_behind_something_near_is_not_valid() -> None:
    geometry = CameraTensors.from_rig(Rig("test", (FRONT,)))
    far = torch.full((1, 1, 32, 48), 50.0)
    before, images = far.clone(), torch.zeros(1, 1, 3, 32, 48)
    before[..., :24] = 5.0  # a wall that has gone
    warped = reproject(images, before, far[:, :, None], torch.zeros(1, 1, 3), CameraTensors.stack([geometry]))
    assert (warped[0, 0, 0, 3, :, :23] == 0).all()
    assert (warped[0, 0, 0, 3, :, 25:] == 1).all()


def test_a_neighbouring_camera_fills_what_the_own_one_did_not_see() -> None:
    alone, pair = (CameraTensors.from_rig(Rig("test", cameras)) for cameras in ((FRONT,), (FRONT, LEFT)))
    turn = torch.tensor([[[0.0, 0.0, 0.5]]])

    def seen(geometry: CameraTensors) -> float:
        depth = torch.full((1, *geometry.rays.shape[:3]), 100.0)
        images = torch.rand(1, len(geometry.rays), 3, 32, 48)
        warped = reproject(images, depth, depth[:, :, None], turn, CameraTensors.stack([geometry]))
        return float(warped[0, 0, 0, 3].mean())

    assert seen(pair) > seen(alone) + 0.1


def test_composed_deltas_drive_a_circle_back_to_its_start() -> None:
    count = 100
    angle = 2 * math.pi / count
    deltas = torch.tensor([[math.sin(angle), 1 - math.cos(angle), angle]]).repeat(count, 1)
    poses = compose(torch.zeros(3), deltas)
    torch.testing.assert_close(poses[-1], torch.tensor([0.0, 0.0, 2 * math.pi]), atol=1e-3, rtol=0)


def test_pluecker_rays_point_along_the_view_and_their_moment_is_perpendicular() -> None:
    rays = plucker(CameraTensors.from_rig(Rig("test", (FRONT, LEFT))))
    assert rays.shape == (2, 6, 8, 12)
    assert (rays[:, :3] * rays[:, 3:]).sum(1).abs().max() < 1e-5
    middle = rays[:, :3].mean(dim=(2, 3))
    assert float(torch.atan2(middle[1, 1], middle[1, 0])) == pytest.approx(0.7, abs=0.05)
    assert np.isclose(float(torch.atan2(middle[0, 1], middle[0, 0])), 0.0, atol=0.01)
