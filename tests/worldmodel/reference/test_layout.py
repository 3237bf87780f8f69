"""The layout against the vectors it comes from, and against the picture."""

import cv2
import numpy as np
import pytest

from worldmodel.layout import CHANNELS, INFINITY_M, LayoutRenderer
from worldmodel.layout.channels import GRID_PERIOD_M, INDEX, NEAR_M
from worldmodel.reference.renderer import ReferenceRenderer
from worldmodel.rig import load_rig
from worldmodel.scene.state import Atmosphere

FRONT, LEFT, REAR = 0, 1, 2
STRIDE = 4


@pytest.fixture(scope="module")
def full_rig():
    """Full-sized cameras: layouts of 32x56."""
    return load_rig("surround7").subset(["front_wide", "side_front_left", "rear"])


@pytest.fixture(scope="module")
def layouts(full_rig):
    return LayoutRenderer(full_rig, STRIDE)


def project(rig, camera, ego, points):
    cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    x, y, z = (np.asarray(points, dtype=float) - [ego.x_m, ego.y_m, 0]).T
    return rig.cameras[camera].project(np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=1))


def test_the_shape_follows_the_rig_the_stride_and_the_channel_table(layouts, street, frame_at):
    layout = layouts.render(street, [frame_at(0.0), frame_at(0.5)])
    assert layout.rasters.shape == (2, 3, len(CHANNELS), 32, 56)
    assert layout.depth_m.shape == (2, 3, 32, 56)
    assert layout.rasters.dtype == layout.depth_m.dtype == np.float32


def test_channels_have_distinct_names_and_bounded_values(layouts, street, frame_at, car_at):
    agents = [car_at(8, -1.75), car_at(5, 2.5, 2.0, id=2, kind="pedestrian"), car_at(-8, 1.75, np.pi, id=3)]
    layout = layouts.render(street, [frame_at(x, agents=agents) for x in (-3.0, 0.0, 12.0)])
    assert len(set(CHANNELS)) == len(CHANNELS)
    assert np.abs(layout.rasters).max() <= 1.0 + 1e-5
    assert np.isfinite(layout.rasters).all()


def test_a_stride_that_does_not_divide_the_camera_is_refused():
    with pytest.raises(ValueError, match="expected a camera size that is a multiple of 5, got 128x224"):
        LayoutRenderer(load_rig("front1"), 5)


def test_a_layout_does_not_depend_on_its_batch(full_rig, layouts, street, frame_at, car_at):
    shots = [
        (street, [frame_at(0.0, agents=[car_at(9, 0)])]),
        (street, [frame_at(4.0), frame_at(4.4, yaw_rad=0.1)]),
    ]
    together = layouts.render_batch(shots)
    one_by_one = LayoutRenderer(full_rig, STRIDE, block=1)
    for shot, layout in zip(shots, together, strict=True):
        alone = one_by_one.render(*shot)
        np.testing.assert_array_equal(alone.rasters, layout.rasters)
        np.testing.assert_array_equal(alone.depth_m, layout.depth_m)


def test_the_lane_line_is_where_its_vectors_project(full_rig, layouts, street, frame_at):
    """In every row the middle of the raster's line is within half a layout pixel of the projected line."""
    frame = frame_at()
    line = layouts.render(street, [frame]).channel("lane_line")[0, FRONT]
    points = np.stack([np.linspace(5.0, 30.0, 2000), np.zeros(2000), np.zeros(2000)], axis=1)
    uv, _, valid = project(full_rig, FRONT, frame.ego, points)
    columns, rows = (uv[valid] / STRIDE).T
    checked = 0
    for row in range(17, 31):
        expected = columns[np.abs(rows - (row + 0.5)) < 0.1]
        if len(expected):
            found = (line[row] * (np.arange(56) + 0.5)).sum() / line[row].sum()
            assert found == pytest.approx(expected.mean(), abs=0.5)
            checked += 1
    assert checked >= 6


def test_the_lane_line_in_the_picture_is_where_the_layout_says(full_rig, layouts, street, frame_at):
    frame = frame_at()
    line = layouts.render(street, [frame]).channel("lane_line")[0, FRONT]
    picture = ReferenceRenderer(full_rig).render(street, Atmosphere("cloudy"), [frame])[FRONT, 0]
    bright = picture.astype(float).mean(-1)
    for row in range(19, 31):
        middle = (line[row] * (np.arange(56) + 0.5)).sum() / line[row].sum() * STRIDE
        window = slice(int(middle) - 14, int(middle) + 15)
        strip = bright[row * STRIDE : (row + 1) * STRIDE, window].mean(0)
        paint = np.clip(strip - np.median(strip) - 8, 0, None)
        found = (paint * (np.arange(window.start, window.stop) + 0.5)).sum() / paint.sum()
        assert found == pytest.approx(middle, abs=1.5)  # picture pixels


def test_depth_of_the_ground_is_the_distance_along_the_ray(layouts, street, frame_at):
    layout = layouts.render(street, [frame_at()])
    camera = layouts.rig.cameras[FRONT]
    rays = camera.rays()
    row = 28
    np.testing.assert_allclose(
        layout.depth_m[0, FRONT, row], camera.position_m[2] / -rays[row, :, 2], rtol=1e-4
    )


def test_depth_of_a_wall_is_where_its_facade_stands(layouts, street, frame_at):
    frame = frame_at(24.0)
    layout = layouts.render(street, [frame])
    camera = layouts.rig.cameras[LEFT]
    points = np.array(camera.position_m) + layout.depth_m[0, LEFT, ..., None] * camera.rays()
    on_facade = np.abs(layout.channel("static_ny")[0, LEFT] + 1) < 0.01
    assert on_facade.sum() > 100
    np.testing.assert_allclose(points[on_facade][:, 1] + frame.ego.y_m, 9.0, atol=0.02)


def test_the_sky_is_infinitely_far(layouts, street, frame_at):
    assert layouts.render(street, [frame_at(-20.0, yaw_rad=np.pi)]).depth_m[0, FRONT, 0].max() == INFINITY_M


def test_inverse_depth_agrees_with_depth(layouts, street, frame_at):
    layout = layouts.render(street, [frame_at()])
    ground = layout.channel("road")[0] > 0.999
    expected = np.minimum(NEAR_M / layout.depth_m[0][ground], 1)
    np.testing.assert_allclose(layout.channel("inverse_depth")[0][ground], expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["car", "van", "truck", "bus", "cyclist"])
def test_box_edges_enclose_the_rendered_vehicle(full_rig, layouts, street, frame_at, car_at, kind):
    agent = car_at(9.0, 1.9, 0.4, kind=kind, height_m=1.9, length_m=5.0 if kind != "cyclist" else 1.8)
    renderer = ReferenceRenderer(full_rig)
    night = Atmosphere("fog", "night")  # hardly a shadow
    empty, drawn = (
        renderer.render(street, night, [frame_at(agents=a)])[FRONT, 0].astype(int) for a in ([], [agent])
    )
    changed = np.abs(drawn - empty).max(-1) > 12
    layout = layouts.render(street, [frame_at(agents=[agent])])
    edges = layout.channel("vehicle_edge") + layout.channel("pedestrian_edge")
    inside = layout.channel("agent_depth")[0, FRONT] > 0
    assert edges[0, FRONT][inside].max() > 0.8
    rows, columns = np.nonzero(changed)
    box = np.zeros_like(inside)
    found_rows, found_columns = np.nonzero(inside)
    box[found_rows.min() : found_rows.max() + 1, found_columns.min() : found_columns.max() + 1] = True
    assert (box[rows // STRIDE, columns // STRIDE]).mean() > 0.9  # the rest is its shadow


def test_edges_lie_on_the_outline_and_not_inside(layouts, street, frame_at, car_at):
    truck = car_at(9.0, -1.75, kind="truck", height_m=3.4, width_m=2.5, length_m=8.0)
    layout = layouts.render(street, [frame_at(agents=[truck])])
    edge, inside = layout.channel("vehicle_edge")[0, FRONT], layout.channel("agent_depth")[0, FRONT] > 0
    rows, columns = np.nonzero(inside)
    middle = (rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2
    assert edge[middle] == 0
    assert edge[middle[0], columns.min() : columns.min() + 2].max() > 0.5


def test_heading_is_relative_to_the_ego(layouts, street, frame_at, car_at):
    agents = [car_at(9.0, -1.75, 0.5)]
    layout = layouts.render(street, [frame_at(yaw_rad=0.2, agents=agents)])
    seen = layout.channel("agent_depth")[0, FRONT] > 0.3
    cos, sin = (layout.channel(name)[0, FRONT][seen].max() for name in ("heading_cos", "heading_sin"))
    assert cos == pytest.approx(np.cos(0.3), abs=1e-3)
    assert sin == pytest.approx(np.sin(0.3), abs=1e-3)


def test_braking_marks_the_vehicle_that_brakes(layouts, street, frame_at, car_at):
    for braking in (False, True):
        layout = layouts.render(street, [frame_at(agents=[car_at(9.0, -1.75, braking=braking)])])
        assert (layout.channel("braking").max() > 0.9) == braking


def test_pedestrians_have_edges_of_their_own(layouts, street, frame_at, car_at):
    walker = car_at(7.0, -1.0, kind="pedestrian", length_m=0.5, width_m=0.5, height_m=1.8)
    layout = layouts.render(street, [frame_at(agents=[walker])])
    assert layout.channel("pedestrian_edge").max() > 0.5
    assert layout.channel("vehicle_edge").max() == 0


@pytest.mark.parametrize(("state", "red", "green"), [("red", 1, 0), ("yellow", 1, 1), ("green", 0, 1)])
def test_the_signal_state_is_in_the_light_channels(layouts, street, frame_at, state, red, green):
    layout = layouts.render(street, [frame_at(8.0, light=state)])
    assert (layout.channel("light_red")[0, FRONT].max() > 0.1) == red
    assert (layout.channel("light_green")[0, FRONT].max() > 0.1) == green


def test_the_ground_grid_is_anchored_in_the_world(full_rig, layouts, street, frame_at):
    frame = frame_at(5.3, -1.2, 0.4)
    layout = layouts.render(street, [frame])
    camera = layouts.rig.cameras[FRONT]
    row, column = 29, 20
    ray = camera.rays()[row, column].astype(float)
    hit = np.array(camera.position_m) + ray * (camera.position_m[2] / -ray[2])
    cos, sin = np.cos(frame.ego.yaw_rad), np.sin(frame.ego.yaw_rad)
    x = frame.ego.x_m + cos * hit[0] - sin * hit[1]
    y = frame.ego.y_m + sin * hit[0] + cos * hit[1]
    for axis, position in zip("xy", (x, y), strict=True):
        pair = [
            layout.rasters[0, FRONT, INDEX[f"ground_{part}_{axis}"], row, column] for part in ("sin", "cos")
        ]
        phase = np.arctan2(*pair)
        expected = 2 * np.pi * position / GRID_PERIOD_M
        assert np.cos(phase - expected) > 0.999


def test_the_facade_phase_turns_once_per_window(layouts, street, frame_at):
    layout = layouts.render(street, [frame_at(24.0)])
    row = 2
    sin, cos = (layout.channel(name)[0, LEFT, row] for name in ("facade_sin", "facade_cos"))
    seen = np.hypot(sin, cos) > 0.2
    assert seen.sum() > 15
    turns = np.unwrap(np.arctan2(sin, cos)[seen])
    assert abs(turns[-1] - turns[0]) > 2 * np.pi
    assert (np.sign(np.diff(turns)) == np.sign(turns[-1] - turns[0])).mean() > 0.95


def test_what_stands_in_front_hides_paint_and_grid(layouts, street, frame_at, car_at):
    truck = car_at(9.0, -1.75, kind="truck", height_m=3.4, width_m=2.5, length_m=8.0)
    layout = layouts.render(street, [frame_at(agents=[truck])])
    inside = cv2.erode((layout.channel("agent_depth")[0, FRONT] > 0).astype(np.uint8), np.ones((3, 3))) > 0
    assert inside.sum() > 30
    for name in ("lane_line", "road", "ground_sin_x", "stop_line"):
        assert np.abs(layout.channel(name)[0, FRONT][inside]).max() < 0.05


def test_road_users_and_structures_have_their_own_color(layouts, street, frame_at, car_at):
    layout = layouts.render(street, [frame_at(agents=[car_at(9.0, -1.75, color_rgb=(204, 51, 0))])])
    color = np.stack([layout.channel(f"color_{name}")[0] for name in ("red", "green", "blue")], axis=-1)
    car = layout.channel("agent_depth")[0, FRONT]
    rear = color[FRONT][car > 0.98 * car.max()]
    np.testing.assert_allclose(rear, np.broadcast_to([0.8, 0.2, 0.0], rear.shape), atol=1e-5)
    assert color[layout.channel("road")[0] > 0.999].max() < 0.01
    walls = color[LEFT][np.abs(layout.channel("static_ny")[0, LEFT]) > 0.9999]
    known = np.array([structure.color_rgb for structure in street.structures]) / 255
    assert len(walls) > 100
    assert (np.abs(walls[:, None] - known).max(axis=-1).min(axis=1) < 1e-3).mean() > 0.7  # the rest are seams
