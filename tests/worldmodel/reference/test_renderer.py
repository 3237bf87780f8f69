from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.reference.renderer import ReferenceRenderer
from worldmodel.scene.state import Atmosphere

DAY = Atmosphere()
FRONT, LEFT, REAR = 0, 1, 2


@pytest.fixture(scope="module")
def renderer(rig):
    return ReferenceRenderer(rig)


def project(rig, camera, ego, points):
    """Pixel (column, row) of world points."""
    cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    x, y, z = (np.asarray(points, dtype=float) - [ego.x_m, ego.y_m, 0]).T
    uv, _, valid = rig.cameras[camera].project(np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=1))
    return uv[valid].astype(int)


def box_pixels(rig, camera, ego, agent, part=slice(None)):
    """A mask around a vehicle's projected corners."""
    half = np.array([agent.length_m / 2, agent.width_m / 2])
    corners = [
        [agent.x_m + i * half[0], agent.y_m + j * half[1], k * agent.height_m]
        for i in (-1, 1)
        for j in (-1, 1)
        for k in (0, 1)
    ]
    uv = project(rig, camera, ego, corners)
    mask = np.zeros((rig.height, rig.width), bool)
    (left, top), (right, bottom) = uv.min(0), uv.max(0)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def test_frames_have_the_shape_of_the_contract(renderer, street, frame_at):
    frames = renderer.render(street, DAY, [frame_at(0.0), frame_at(0.5)])
    assert frames.shape == (3, 2, 64, 112, 3)
    assert frames.dtype == np.uint8
    assert frames.flags.c_contiguous


def test_the_same_scene_gives_the_same_bytes(rig, renderer, street, frame_at, car_at):
    frames = [frame_at(k, agents=[car_at(14, -1.75), car_at(8, 1.75, np.pi, id=2)]) for k in (0.0, 0.4)]
    again = ReferenceRenderer(rig).render(street, DAY, frames)
    np.testing.assert_array_equal(renderer.render(street, DAY, frames), again)


def test_a_scene_does_not_depend_on_what_is_rendered_with_it(rig, street, frame_at, car_at):
    night = Atmosphere("rain", "night")
    shots = [
        (street, DAY, [frame_at(0.0), frame_at(1.0)]),
        (replace(street, name="other"), night, [frame_at(3.0, agents=[car_at(14, -1.75)])]),
        (street, DAY, [frame_at(9.0, yaw_rad=0.3, light="green")]),
    ]
    together = ReferenceRenderer(rig, block=4).render_batch(shots)
    for shot, frames in zip(shots, together, strict=True):
        np.testing.assert_array_equal(ReferenceRenderer(rig, block=1).render(*shot), frames)


def test_nothing_to_render_is_refused(renderer, street):
    with pytest.raises(ValueError, match="expected at least one frame"):
        renderer.render_batch([(street, DAY, [])])


def test_driving_on_moves_near_paint_more_than_far_and_no_sky(rig, renderer, street, frame_at):
    def stop_line_row(x_m):
        """The brightest row in the middle of the ego's lane, near the stop line."""
        frame = frame_at(x_m)
        picture = renderer.render(street, DAY, [frame])[FRONT, 0].astype(float).sum(-1)
        ((u, v),) = project(rig, FRONT, frame.ego, [[17.0, -1.75, 0.0]])
        return v - 3 + int(np.argmax(picture[v - 3 : v + 4, u]))

    assert stop_line_row(9.0) - stop_line_row(8.0) > stop_line_row(-7.0) - stop_line_row(-8.0)
    away = [frame_at(x, yaw_rad=np.pi) for x in (-20.0, -21.0)]
    before, after = renderer.render(street, DAY, away)[FRONT]
    np.testing.assert_array_equal(before[0], after[0])


def test_turning_left_moves_everything_to_the_right(renderer, street, frame_at):
    still, turned = renderer.render(street, DAY, [frame_at(), frame_at(yaw_rad=0.1)])[FRONT, :, :30].astype(
        float
    )

    def error(shift):
        return np.abs(still[:, : -shift or None] - turned[:, shift:]).mean()

    assert min(range(12), key=error) in (3, 4, 5, 6)  # 0.1 rad of 47 pixels per radian


def test_lane_paint_is_where_its_vectors_project(rig, renderer, street, frame_at):
    frame = frame_at()
    picture = renderer.render(street, DAY, [frame])[FRONT, 0].astype(float).sum(-1)
    for x in np.arange(5.0, 14.0):
        (on,), (beside,), (other,) = (project(rig, FRONT, frame.ego, [[x, y, 0.0]]) for y in (0.0, -0.8, 0.8))
        line = picture[on[1], on[0] - 1 : on[0] + 2].max()
        assert line > picture[beside[1], beside[0]] + 40
        assert line > picture[other[1], other[0]] + 40


def test_brake_lamps_brighten(rig, renderer, street, frame_at, car_at):
    car = car_at(9.0, -1.75)
    pictures = [
        renderer.render(street, DAY, [frame_at(agents=[replace(car, braking=braking)])])[FRONT, 0].astype(int)
        for braking in (False, True)
    ]
    mask = box_pixels(rig, FRONT, frame_at().ego, car)
    redder = (pictures[1] - pictures[0])[..., 0]
    assert redder[mask].max() > 60
    assert (redder[~mask] == 0).all()


def test_the_signal_shows_its_state(rig, renderer, street, frame_at):
    light = street.lights[0]
    head = [[light.x_m, light.y_m, light.height_m - 0.2]]
    colours = {}
    for state in ("red", "yellow", "green"):
        frame = frame_at(8.0, light=state)
        picture = renderer.render(street, DAY, [frame])[FRONT, 0].astype(int)
        ((u, v),) = project(rig, FRONT, frame.ego, head)
        colours[state] = picture[v - 2 : v + 7, u - 2 : u + 3]
    red, yellow, green = (colours[state] for state in ("red", "yellow", "green"))
    assert (red[..., 0] - red[..., 1]).max() > (green[..., 0] - green[..., 1]).max() + 40
    assert (green[..., 1] - green[..., 0]).max() > (red[..., 1] - red[..., 0]).max() + 40
    assert not np.array_equal(yellow, red)


@pytest.mark.parametrize("kind", ["car", "van", "truck", "bus", "pedestrian", "cyclist"])
def test_every_kind_of_road_user_is_drawn_inside_its_box(rig, renderer, street, frame_at, car_at, kind):
    size = {"pedestrian": (0.75, 0.75, 1.8), "cyclist": (1.8, 0.8, 1.8)}.get(kind, (5.0, 2.0, 2.0))
    agent = car_at(13.0, -1.75, kind=kind, length_m=size[0], width_m=size[1], height_m=size[2])
    overcast = Atmosphere("cloudy")
    empty, with_agent = (
        renderer.render(street, overcast, [frame_at(agents=agents)])[FRONT, 0].astype(int)
        for agents in ([], [agent])
    )
    changed = np.abs(with_agent - empty).max(-1) > 8
    mask = box_pixels(rig, FRONT, frame_at().ego, agent)
    assert changed[mask].mean() > 0.3
    grown = np.pad(mask, 2)[2:-2, 2:-2]
    rows, columns = np.nonzero(mask)
    grown[rows.min() - 1 :, max(0, columns.min() - 6) : columns.max() + 7] = (
        True  # its shadow lies on the ground
    )
    assert not changed[~grown].any()


def test_legs_swing_as_a_pedestrian_walks(renderer, street, frame_at, car_at):
    walker = car_at(6.0, -1.2, np.pi / 2, kind="pedestrian", length_m=0.5, width_m=0.5, height_m=1.8)
    stepped = replace(walker, y_m=-1.2 + 0.375)
    first, same, second = (
        renderer.render(street, DAY, [frame_at(y_m=y, agents=[agent])])[FRONT, 0]
        for y, agent in ((-1.75, walker), (-1.75, walker), (-1.375, stepped))
    )
    np.testing.assert_array_equal(first, same)
    assert (first != second)[30:].any()


def brightness(renderer, street, frame, atmosphere):
    return renderer.render(street, atmosphere, [frame]).astype(float).mean()


def test_it_gets_darker_from_day_over_dusk_to_night(renderer, street, frame_at):
    day, dusk, night = (
        brightness(renderer, street, frame_at(), Atmosphere(time_of_day=t)) for t in ("day", "dusk", "night")
    )
    assert day > 1.2 * dusk > 1.2 * night


def test_fog_hides_what_is_far_and_leaves_what_is_near(rig, renderer, street, frame_at, car_at):
    black = {"color_rgb": (0, 0, 0), "height_m": 3.0, "width_m": 2.5}
    darkest = {}
    for weather in ("cloudy", "fog"):
        for distance in (9.0, 65.0):
            car = car_at(distance, -1.75, **black)
            picture = renderer.render(street, Atmosphere(weather), [frame_at(agents=[car])])[FRONT, 0]
            darkest[weather, distance] = picture[box_pixels(rig, FRONT, frame_at().ego, car)].min()
    assert darkest["fog", 65.0] > darkest["cloudy", 65.0] + 60
    assert darkest["fog", 9.0] < darkest["cloudy", 9.0] + 60


def test_rain_darkens_the_road(renderer, street, frame_at):
    dry, wet = (renderer.render(street, Atmosphere(w), [frame_at()])[FRONT, 0] for w in ("cloudy", "rain"))
    assert wet[-10:].mean() < 0.8 * dry[-10:].mean()


def test_the_sun_throws_shadows_that_clouds_do_not(renderer, street, frame_at):
    """The house on the left stands between the sun and the road."""
    ratio = {}
    for weather in ("clear", "cloudy"):
        atmosphere = Atmosphere(weather, sun_azimuth_rad=1.57, sun_elevation_rad=0.5)
        frames = [frame_at(-25.0), frame_at(26.0)]
        lit, shaded = (
            renderer.render(street, atmosphere, frames)[LEFT, :, -16:].astype(float).mean(axis=(1, 2, 3))
        )
        ratio[weather] = shaded / lit
    assert ratio["clear"] < 0.85 * ratio["cloudy"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_draws_the_same_picture_up_to_rounding(rig, street, frame_at, car_at):
    frames = [frame_at(k, agents=[car_at(14, -1.75)]) for k in (0.0, 0.5)]
    for atmosphere in (DAY, Atmosphere("rain", "night")):
        cpu, gpu = (
            ReferenceRenderer(rig, device).render(street, atmosphere, frames) for device in ("cpu", "cuda")
        )
        off = np.abs(cpu.astype(int) - gpu.astype(int)).max(-1) > 2
        assert off.mean() < 0.003
