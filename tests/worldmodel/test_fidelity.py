"""The measures of fidelity tell right from wrong on pictures whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.fidelity import motion_energy, psnr, recover_ego_motion, ssim
from worldmodel.layout import LayoutRenderer, standing_depth
from worldmodel.reference.renderer import ReferenceRenderer
from worldmodel.rig import load_rig
from worldmodel.scene.actions import ActionChunk
from worldmodel.scene.maps import build_map
from worldmodel.scene.maps.spec import UrbanSpec
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.scene.state import AgentState, Atmosphere, EgoState, SceneFrame, pose_delta


@given(st.integers(1, 60))
def test_psnr_of_a_constant_error_is_its_logarithm(error: int) -> None:
    reference = torch.full((2, 16, 16, 3), 100)
    expected = 20 * math.log10(255 / error)
    torch.testing.assert_close(
        psnr(reference + error, reference), torch.full((2,), expected), rtol=1e-4, atol=1e-4
    )


def test_equal_pictures_have_the_highest_scores() -> None:
    picture = torch.randint(0, 256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(0))
    assert psnr(picture, picture).eq(100).all()
    torch.testing.assert_close(ssim(picture, picture), torch.ones(3))


def test_ssim_falls_with_noise_and_with_blur() -> None:
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255
    noisy = picture + 40 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    flat = picture.mean(dim=(1, 2), keepdim=True).expand_as(picture)
    assert 0 < ssim(flat, picture) < ssim(noisy, picture) < 1


def test_a_frozen_picture_has_no_motion_energy() -> None:
    picture = torch.randint(0, 256, (2, 1, 8, 8, 3)).expand(2, 4, 8, 8, 3)
    assert motion_energy(picture) == 0
    assert motion_energy(torch.stack([torch.zeros(1, 8, 8, 3), torch.full((1, 8, 8, 3), 10.0)], dim=1)) == 10


@pytest.mark.parametrize(("forward_m", "yaw_rad"), [(0.8, 0.0), (0.5, 0.04), (1.2, -0.02)])
def test_ego_motion_is_read_back_from_rendered_frames(forward_m: float, yaw_rad: float) -> None:
    world = build_map(UrbanSpec(), 1)
    rig = load_rig("front3").scaled(64, 112)
    start = world.routes["straight"].pose_at(40.0)
    frames = [_frame(k, *map(float, start), forward_m * k, yaw_rad * k, len(world.lights)) for k in range(2)]
    pictures = torch.as_tensor(ReferenceRenderer(rig).render(world, Atmosphere(), frames))
    depth_m = torch.as_tensor(LayoutRenderer(rig, stride=1).render(world, frames).depth_m)
    moved = recover_ego_motion(pictures, depth_m, rig)
    assert moved.forward_m.item() == pytest.approx(forward_m, rel=0.05)
    assert moved.yaw_rad.item() == pytest.approx(yaw_rad, abs=0.003)
    frozen = recover_ego_motion(pictures[:, :1].expand_as(pictures), depth_m[:1].expand_as(depth_m), rig)
    assert abs(frozen.forward_m.item()) < 0.05


def test_a_truck_that_drives_ahead_does_not_say_that_the_ego_stands() -> None:
    rig = load_rig("front3").scaled(64, 112)
    scene = Scene(load_scenario("country_road"), 3)
    frames = [scene.frame, *scene.step(ActionChunk("controls", np.zeros((4, 2), np.float32)))][-2:]
    frames = [replace(frame, agents=(_truck_ahead(frame.ego),)) for frame in frames]
    pictures = torch.as_tensor(ReferenceRenderer(rig).render(scene.world, scene.atmosphere, frames))
    layouts = LayoutRenderer(rig, stride=1)
    depth_m = torch.as_tensor(standing_depth(layouts, scene.world, frames))
    assert 0.05 < float(depth_m.isnan().float().mean()) < 0.5
    wanted = pose_delta(frames[0].ego, frames[1].ego)[0]
    assert recover_ego_motion(pictures, depth_m, rig).forward_m.item() == pytest.approx(wanted, rel=0.05)
    with_truck = torch.as_tensor(layouts.render(scene.world, frames).depth_m)
    assert abs(recover_ego_motion(pictures, with_truck, rig).forward_m.item()) < 0.1  # what it is good for


def test_head_lamps_and_a_smooth_road_do_not_hide_how_fast_it_goes() -> None:
    rig = load_rig("surround7").scaled(96, 160)
    scene = Scene(load_scenario("highway_night"), 1)
    action = ActionChunk("controls", np.zeros((4, 2), np.float32))
    frames = [scene.frame, *scene.step(action)][-2:]
    pictures = torch.as_tensor(ReferenceRenderer(rig).render(scene.world, scene.atmosphere, frames))
    depth_m = torch.as_tensor(LayoutRenderer(rig, stride=1).render(scene.world, frames).depth_m)
    wanted = pose_delta(frames[0].ego, frames[1].ego)
    assert wanted[0] > 1.0
    assert recover_ego_motion(pictures, depth_m, rig).forward_m.item() == pytest.approx(wanted[0], rel=0.05)


def test_moving_detail_outweighs_soft_shades_that_stand() -> None:
    """What generated pictures look like: which of two motions explains them better shows at full resolution only."""
    rig = load_rig("front3").scaled(64, 112)
    scene = Scene(load_scenario("rural_bends"), 1)
    frames = [scene.frame, *scene.step(ActionChunk("controls", np.zeros((4, 2), np.float32)))][-2:]
    pictures = torch.as_tensor(ReferenceRenderer(rig).render(scene.world, scene.atmosphere, frames)).float()
    depth_m = torch.as_tensor(LayoutRenderer(rig, stride=1).render(scene.world, frames).depth_m)
    soft = _blurred(pictures)
    wanted = pose_delta(frames[0].ego, frames[1].ego)[0]
    detail_moves = soft[:, :1] + pictures - soft
    assert recover_ego_motion(detail_moves, depth_m, rig).forward_m.item() == pytest.approx(wanted, rel=0.05)


def _blurred(pictures: torch.Tensor) -> torch.Tensor:
    """Mean of 5x5 pixels, [V, F, H, W, 3]."""
    images = F.pad(pictures.movedim(-1, 2).flatten(0, 1), (2, 2, 2, 2), mode="replicate")
    return F.avg_pool2d(images, 5, stride=1).unflatten(0, pictures.shape[:2]).movedim(2, -1)


def _truck_ahead(ego: EgoState) -> AgentState:
    """Close before the ego and as fast: it fills the picture and does not move in it."""
    away_m = 7.5
    x_m, y_m = ego.x_m + away_m * np.cos(ego.yaw_rad), ego.y_m + away_m * np.sin(ego.yaw_rad)
    return AgentState(
        id=1, kind="truck", x_m=x_m, y_m=y_m, yaw_rad=ego.yaw_rad, speed_mps=ego.speed_mps, length_m=8.0, width_m=2.5,
        height_m=3.5, color_rgb=(150, 40, 40),
    )  # fmt: skip


def _frame(
    index: int, x_m: float, y_m: float, yaw_rad: float, travel_m: float, turn_rad: float, lights: int
) -> SceneFrame:
    """The ego after an arc of `travel_m` that turns it by `turn_rad`, in an empty street."""
    chord = travel_m * math.sin(turn_rad / 2) / (turn_rad / 2) if turn_rad else travel_m
    middle = yaw_rad + turn_rad / 2
    x_m, y_m = x_m + chord * math.cos(middle), y_m + chord * math.sin(middle)
    ego = EgoState(x_m, y_m, yaw_rad + turn_rad, 0.0)
    return SceneFrame(index, index / 12, ego, (), ("green",) * lights)
