"""Depth of coming moments, foreseen from the last one, against what the layout's renderer draws there."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodel.layout import LayoutRenderer
from worldmodel.model import foresight
from worldmodel.model.foresight import foreseen, moves_along
from worldmodel.model.history import Moment, carry
from worldmodel.model.rays import CameraTensors, ground_depth
from worldmodel.model.reproject import agree, inverse_depth
from worldmodel.rig import Rig, load_rig
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.scene.state import EgoState, pose_delta

STAY = torch.zeros(1, 2, 3)


@cache
def rig() -> Rig:
    return load_rig("surround7").scaled(96, 160)


@cache
def cameras() -> CameraTensors:
    return CameraTensors.stack([CameraTensors.from_rig(rig())])


def drawn(metres: float, turned: float = 0.0) -> tuple[Tensor, Tensor]:
    """Depth [1, V, h, w] that a street without road users shows so far ahead, and the pose [3] there."""
    scene = Scene(load_scenario("urban_cruise"), 1)
    start = scene.frame.ego
    x, y = metres * np.cos(start.yaw_rad), metres * np.sin(start.yaw_rad)
    ego: EgoState = replace(start, x_m=start.x_m + x, y_m=start.y_m + y, yaw_rad=start.yaw_rad + turned)
    layout = LayoutRenderer(rig()).render(scene.world, [replace(scene.frame, ego=ego, agents=())])
    return torch.as_tensor(layout.depth_m).float().transpose(0, 1)[None, :, 0], torch.tensor(
        pose_delta(start, ego), dtype=torch.float32
    )


def agreement(made: Tensor, true: Tensor) -> float:
    return float(agree(inverse_depth(made), true.clamp(max=1000)).float().mean())


def test_standing_still_leaves_depth_as_it_is() -> None:
    here, _ = drawn(0.0)
    made = foreseen(here, STAY, cameras()).depth
    assert made.shape == (1, 7, 2, 24, 40)
    assert agreement(made, here[:, :, None].expand_as(made)) > 0.95


@pytest.mark.parametrize(("metres", "turned"), [(2.0, 0.0), (5.0, 0.1), (8.0, 0.0)])
def test_what_stands_is_foreseen_where_it_will_be_seen(metres: float, turned: float) -> None:
    here, _ = drawn(0.0)
    there, pose = drawn(metres, turned)
    _, before = drawn(metres - 0.5, turned)
    made = foreseen(here, torch.stack([before, pose])[None], cameras()).depth[:, :, 1]
    flat = ground_depth(cameras())
    assert agreement(made, there) > 0.75
    assert agreement(made, there) > agreement(flat, there) + 0.1
    assert agreement(made, there) > agreement(here, there) - 0.02


def test_flat_ground_stays_flat_ground() -> None:
    flat = ground_depth(cameras())
    made = foreseen(flat, torch.tensor([[[3.0, 0.2, 0.1]] * 2]), cameras()).depth
    expected = 1 / inverse_depth(flat)[:, :, None].expand_as(made)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=0)


def test_what_is_in_the_way_moves_along_and_what_is_beside_it_stands() -> None:
    points = torch.tensor([[20.0, 0.5, 1.0], [20.0, 4.0, 1.0], [80.0, 0.0, 1.0], [20.0, 2.0, 1.0]])
    straight = torch.tensor([[[0.2, 0.0, 0.0], [0.4, 0.0, 0.0]]]).expand(4, -1, -1)
    assert moves_along(points, straight).tolist() == [True, False, False, False]
    fast = straight * torch.tensor([8.0, 1.0, 1.0])
    assert moves_along(points, fast).tolist() == [True, False, False, True]
    left = torch.tensor([[[1.0, 0.0, 0.01], [2.0, 0.0, 0.04]]]).expand(4, -1, -1)  # an arc: 4 m left in 20 m
    assert moves_along(points, left)[:2].tolist() == [False, True]


def test_a_lead_car_keeps_its_distance_and_its_looks() -> None:
    ahead = ground_depth(cameras()).clone()
    car = (slice(0, 1), 0, slice(8, 12), slice(18, 22))  # in the front camera, above the ground
    ahead[car] = 15.0
    poses = torch.tensor([[[4.0, 0.0, 0.0], [5.0, 0.0, 0.0]]])
    made = foreseen(ahead, poses, cameras())
    assert ((made.depth[0, 0, 1, 8:12, 18:22] - 15.0).abs() < 0.5).all()
    assert made.along[0, 0, 1, 8:12, 18:22].all()
    assert made.along[0, 0].sum() < 2 * 30  # the car and its rim in two frames, nothing else
    images = torch.rand(1, 7, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    moment = Moment(images, ahead)
    seen = carry(moment, made.depth, poses, cameras(), along=made.along)
    standing = carry(moment, made.depth, poses, cameras())
    pixels = (0, 0, slice(None), slice(36, 44), slice(76, 84))  # inside of the car
    torch.testing.assert_close(seen.pictures[:, :, 1][pixels], images[pixels], atol=1e-3, rtol=0)
    assert (seen.valid[0, 0, 1, 8:12, 18:22] == 1).all()
    assert (standing.valid[0, 0, 1, 8:12, 18:22] == 0).all()


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    here, _ = drawn(0.0)
    both = CameraTensors.stack([CameraTensors.from_rig(rig())] * 2)
    poses = torch.tensor([[[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [[0.5, 0.1, 0.05], [1.0, 0.2, 0.1]]])
    depths = torch.cat([here, here.flip(-1)])
    together = foreseen(depths, poses, both).depth
    for row in range(2):
        alone = foreseen(depths[row : row + 1], poses[row : row + 1], cameras()).depth
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-6, atol=0)


def test_cells_show_what_a_loop_over_points_finds_in_front() -> None:
    generator = torch.Generator().manual_seed(3)
    count, size = 60, (1, 1, 2, 6, 8)

    def some(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    splats = foresight._Splats(
        torch.randint(2, (count,), generator=generator),
        some(-1, 9),
        some(-1, 7),
        some(0.02, 0.5),
        some(0.5, 3.4),
        torch.ones(count, dtype=torch.bool),
        torch.randint(2, (count,), generator=generator).float(),
    )
    made = foresight._surface(splats, size)[:, 0, 0]
    naive = torch.zeros(2, 2, 6, 8)
    for frame, row, column in np.ndindex(2, 6, 8):
        here = [
            (float(inverse), float(along), 1.1 - off / float(half))
            for image, u, v, inverse, half, _, along in zip(*vars(splats).values(), strict=True)
            if image == frame
            and (off := max(abs(column + 0.5 - float(u)), abs(row + 0.5 - float(v)))) <= float(half)
        ]
        front = max((inverse for inverse, _, _ in here), default=0.0)
        near = [one for one in here if one[0] >= foresight.SAME * front]
        for value in (0, 1) if near else ():
            total = sum(weight for *_, weight in near)
            naive[value, frame, row, column] = sum(one[value] * one[2] for one in near) / total
    assert (naive > 0).any()
    torch.testing.assert_close(made, naive, rtol=1e-4, atol=1e-6)
