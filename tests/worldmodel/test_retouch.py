"""Road users that nobody saw are painted into the carried pictures, others are tinted, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.diffusion.conditions import ConditionBuilder, Request
from worldmodel.diffusion.memory import Memory
from worldmodel.layout import LayoutRenderer
from worldmodel.layout.air import Air
from worldmodel.layout.channels import CHANNELS, INDEX
from worldmodel.model.config import ModelConfig
from worldmodel.model.depth import shipped_depth
from worldmodel.model.history import History
from worldmodel.model.retouch import TINT, retouch
from worldmodel.model.road_users import user_boxes
from worldmodel.reference.renderer import ReferenceRenderer
from worldmodel.rig import load_rig
from worldmodel.scene.maps import build_map
from worldmodel.scene.maps.spec import UrbanSpec
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.scene.state import AgentState, Atmosphere, EgoState, SceneFrame

RED, BLUE = (200, 30, 30), (30, 40, 190)
CAR = (slice(4, 8), slice(6, 12))  # raster cells


def test_a_newcomer_is_painted_in_its_own_colour_and_counts_as_carried() -> None:
    history, layout, depth = _hole(RED)
    made = retouch(history, layout, depth, Air.of([Atmosphere()]))
    red, green, blue = made.pictures[0, 0, 0, :, 22, 34]  # in the middle of it
    assert red > 1.5 * green
    assert red > 1.5 * blue
    assert (made.valid[(..., *CAR)] == 1).all()
    elsewhere = torch.ones(12, 18, dtype=torch.bool)
    elsewhere[CAR[0].start - 1 : CAR[0].stop + 1, CAR[1].start - 1 : CAR[1].stop + 1] = False
    torch.testing.assert_close(made.valid[..., elsewhere], history.valid[..., elsewhere])
    pixels = elsewhere.repeat_interleave(4, 0).repeat_interleave(4, 1)
    torch.testing.assert_close(made.pictures[..., pixels], history.pictures[..., pixels])


def test_who_was_seen_is_tinted_and_keeps_its_shade() -> None:
    history, layout, depth = _hole(RED)
    pictures = history.pictures.clone()
    pictures[..., 24:28] = 0.3  # a window: one raster cell in two rows of three
    pictures[..., 36:40] = 0.3
    seen = History(pictures, torch.ones_like(history.valid))
    air = Air.of([Atmosphere()])
    made = retouch(seen, layout, depth, air)
    assert torch.equal(made.valid, seen.valid)
    before, after = pictures[0, 0, 0, :, 24], made.pictures[0, 0, 0, :, 24]
    red, green, _ = after[:, 34] - before[:, 34]
    assert red > green
    assert after[0, 26] < after[0, 30] - 0.15  # the window stays darker than the door
    assert torch.equal(made.pictures[..., :12, :], pictures[..., :12, :])
    assert torch.equal(made.pictures[..., :, :20], pictures[..., :, :20])


def test_tints_come_to_rest_near_the_own_colour() -> None:
    history, layout, depth = _hole(BLUE)
    air = Air.of([Atmosphere()])
    painted = retouch(history, layout, depth, air).pictures[0, 0, 0, :, 24, 34]
    seen = replace(history, valid=torch.ones_like(history.valid))
    away = [float((seen.pictures[0, 0, 0, :, 24, 34] - painted).abs().max())]
    for _ in range(30):
        seen = retouch(seen, layout, depth, air)
        away.append(float((seen.pictures[0, 0, 0, :, 24, 34] - painted).abs().max()))
    assert away[1] == pytest.approx((1 - TINT) * away[0], rel=0.02)
    assert away[:6] == sorted(away[:6], reverse=True)
    assert max(away[6:]) < 0.25 * away[0]  # the mean of a road user rests, its middle gives way to its edges


def test_a_picture_without_road_users_is_left_alone() -> None:
    history, layout, depth = _hole(RED)
    empty = torch.zeros_like(layout)
    assert retouch(history, empty, depth, Air.of([Atmosphere()])) is history


def test_stored_layouts_give_the_same_paint_as_drawn_ones() -> None:
    history, layout, depth = _hole(BLUE)
    air = Air.of([Atmosphere()])
    stored = (layout * 127).round().to(torch.int8)
    drawn, read = (retouch(history, given, depth, air).pictures for given in (layout, stored))
    torch.testing.assert_close(drawn, read, atol=0.02, rtol=0)


def test_each_session_is_painted_in_its_own_light() -> None:
    history, layout, depth = _hole(RED)
    day, night = Atmosphere(), Atmosphere(time_of_day="night")

    def painted(*atmospheres: Atmosphere) -> torch.Tensor:
        many = History(*(torch.cat([part] * len(atmospheres)) for part in (history.pictures, history.valid)))
        rows = [torch.cat([part] * len(atmospheres)) for part in (layout, depth)]
        return retouch(many, *rows, Air.of(atmospheres)).pictures

    both = painted(day, night)
    torch.testing.assert_close(both[:1], painted(day))
    torch.testing.assert_close(both[1:], painted(night))
    assert both[1, 0, 0, 0, 22, 34] < 0.6 * both[0, 0, 0, 0, 22, 34]


def test_far_newcomers_fade_into_the_fog() -> None:
    air = Air.of([Atmosphere(weather="fog")])
    color = torch.rand(1, 3, 2, 2)
    near, far = (air.seen(color, torch.full((1, 2, 2), distance)) for distance in (1.0, 3000.0))
    torch.testing.assert_close(far, air.haze[:, :, None, None].expand_as(far), atol=1e-3, rtol=0)
    assert (near - far).abs().max() > 0.1


@pytest.mark.parametrize("color", [RED, BLUE])
@pytest.mark.parametrize("atmosphere", [Atmosphere(), Atmosphere(weather="rain", time_of_day="dusk")])
def test_paint_is_nearer_to_the_rendered_car_than_what_was_there(
    color: tuple[int, int, int], atmosphere: Atmosphere
) -> None:
    world, rig = build_map(UrbanSpec(), 1), load_rig("front3").scaled(96, 160)
    x_m, y_m, yaw = map(float, world.routes["straight"].pose_at(40.0))
    car = AgentState(
        id=1, kind="van", x_m=x_m + 9 * np.cos(yaw), y_m=y_m + 9 * np.sin(yaw), yaw_rad=yaw, speed_mps=0.0,
        length_m=5.0, width_m=2.0, height_m=2.2, color_rgb=color,
    )  # fmt: skip
    empty = SceneFrame(0, 0.0, EgoState(x_m, y_m, yaw, 0.0), (), ("green",) * len(world.lights))
    drawn = LayoutRenderer(rig).render(world, [replace(empty, agents=(car,))])
    renderer = ReferenceRenderer(rig)
    without, with_car = (
        torch.as_tensor(renderer.render(world, atmosphere, [frame])).float().movedim(-1, 2)[None] / 255
        for frame in (empty, replace(empty, agents=(car,)))
    )
    layout = torch.as_tensor(drawn.rasters).transpose(0, 1)[None]
    depth = torch.as_tensor(drawn.depth_m).transpose(0, 1)[None]
    blind = History(without, torch.zeros(depth.shape))
    made = retouch(blind, layout, depth, Air.of([atmosphere]))
    own = (with_car - without).abs().mean(dim=3, keepdim=True).expand_as(with_car) > 0.05
    assert int(own.sum()) > 1000

    def error(pictures: torch.Tensor) -> float:
        return float((pictures - with_car)[own].abs().mean())

    assert error(made.pictures) < 0.75 * error(without)


def test_a_session_paints_who_comes_into_sight_unless_it_has_no_layout() -> None:
    scene, rig = Scene(load_scenario("highway_cruise"), 1), load_rig("front3").scaled(48, 80)
    ego = scene.frame.ego
    car = AgentState(
        id=999, kind="van", x_m=ego.x_m + 9 * np.cos(ego.yaw_rad), y_m=ego.y_m + 9 * np.sin(ego.yaw_rad),
        yaw_rad=ego.yaw_rad, speed_mps=0.0, length_m=5.0, width_m=2.0, height_m=2.2, color_rgb=RED,
    )  # fmt: skip
    config = ModelConfig("test", rig="front3", height=48, width=80)
    builder = ConditionBuilder(
        config, lambda history: history.pictures, shipped_depth(), torch.device("cpu"), torch.float32
    )
    nobody = torch.from_numpy(user_boxes(replace(scene.frame, agents=())))
    road = LayoutRenderer(rig).render(scene.world, [replace(scene.frame, agents=())])
    memory = Memory(
        0,
        ego,
        ego,
        torch.full((3, 3, 48, 80), 128, dtype=torch.uint8),
        torch.as_tensor(road.depth_m[0]),
        nobody,
    )
    frames = [replace(scene.frame, agents=(car,))] * 4
    request = Request(scene.world, Atmosphere(), rig, frames, memory, 1)

    def redness(layout: bool) -> float:
        survey = builder.survey([request], layout)
        red, green, _ = builder.history([request], survey).pictures.unbind(3)
        return float((red - green).max())

    assert redness(layout=True) > 0.2
    assert redness(layout=False) == pytest.approx(0.0, abs=1e-5)


def _hole(color: tuple[int, int, int]) -> tuple[History, torch.Tensor, torch.Tensor]:
    """A grey picture of 48x72 that knows nothing of its middle, where the layout has a car 10 m away."""
    layout = torch.zeros(1, 1, 1, len(CHANNELS), 12, 18)
    layout[(..., INDEX["heading_cos"], *CAR)] = 0.6
    layout[(..., INDEX["heading_sin"], *CAR)] = -0.8
    for name, value in zip(("color_red", "color_green", "color_blue"), color, strict=True):
        layout[(..., INDEX[name], *CAR)] = value / 255
    valid = torch.ones(1, 1, 1, 12, 18)
    valid[..., 2:10, 4:14] = 0
    return History(torch.full((1, 1, 1, 3, 48, 72), 0.5), valid), layout, torch.full((1, 1, 1, 12, 18), 10.0)
