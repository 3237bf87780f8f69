import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.preset_files import PresetError, preset_names
from worldmodel.rig import Camera, load_rig, projection


def camera(**changes) -> Camera:
    given = {
        "name": "test",
        "model": "pinhole",
        "width": 64,
        "height": 48,
        "fx": 40.0,
        "fy": 40.0,
        "cx": 32.0,
        "cy": 24.0,
        "position_m": (1.0, 0.0, 1.5),
        "yaw_rad": 0.0,
        "pitch_rad": 0.0,
        "roll_rad": 0.0,
        "group": "front",
    }
    return Camera(**(given | changes))


@pytest.mark.parametrize("name", preset_names("rigs"))
def test_every_preset_projects_its_own_rays_onto_their_pixels(name):
    rig = load_rig(name)
    v, u = np.mgrid[0 : rig.height, 0 : rig.width] + 0.5
    for each in rig.cameras:
        points = np.array(each.position_m) + 7.0 * each.rays().reshape(-1, 3).astype(np.float64)
        uv, depth, valid = each.project(points)
        assert valid.all()
        np.testing.assert_allclose(uv, np.stack([u, v], -1).reshape(-1, 2), atol=5e-3)
        np.testing.assert_allclose(depth, 7.0, atol=1e-5)


angles = st.floats(-3.1, 3.1)


@given(
    model=st.sampled_from(["pinhole", "fisheye"]),
    focal=st.floats(15, 200),
    yaw=angles,
    pitch=st.floats(-1.2, 1.2),
    roll=angles,
    k1=st.floats(-0.05, 0.05),
)
def test_unproject_inverts_project_for_any_camera(model, focal, yaw, pitch, roll, k1):
    distortion = (k1, 0.0, 0.0, 0.0) if model == "fisheye" else (0.0,) * 4
    each = camera(
        model=model, fx=focal, fy=focal, yaw_rad=yaw, pitch_rad=pitch, roll_rad=roll, distortion=distortion
    )
    if projection.distorted(np.array(projection.largest_angle(distortion)), distortion) < 40 / focal:
        return  # the image reaches beyond what this lens can form; rig files like that are refused
    uv = np.array([[1.0, 1.0], [63.0, 47.0], [32.0, 24.0], [10.0, 40.0]])
    back, _, valid = each.project(np.array(each.position_m) + 3.0 * each.unproject(uv))
    assert valid.all()
    np.testing.assert_allclose(back, uv, atol=1e-6)


def test_a_point_straight_ahead_is_at_the_principal_point():
    uv, depth, valid = camera().project(np.array([[11.0, 0.0, 1.5]]))
    np.testing.assert_allclose(uv, [[32.0, 24.0]])
    assert depth[0] == pytest.approx(10.0)
    assert valid[0]


def test_left_is_left_and_up_is_up_in_the_image():
    uv, _, _ = camera().project(np.array([[11.0, 2.0, 1.5], [11.0, 0.0, 3.5]]))
    assert uv[0, 0] < 32
    assert uv[1, 1] < 24


@pytest.mark.parametrize(
    ("rotation", "axis", "lower"),
    [({"yaw_rad": 0.2}, 0, False), ({"pitch_rad": 0.2}, 1, False)],
)
def test_turning_the_camera_moves_the_picture_the_other_way(rotation, axis, lower):
    ahead = np.array([[11.0, 0.0, 1.5]])
    still, turned = camera().project(ahead)[0], camera(**rotation).project(ahead)[0]
    assert (turned[0, axis] < still[0, axis]) == lower


def test_a_positive_roll_lifts_the_cameras_left_side():
    uv, _, _ = camera(roll_rad=0.2).project(np.array([[11.0, 2.0, 1.5]]))
    assert uv[0, 1] > 24  # what is level on the left sinks in the picture


def test_points_behind_a_pinhole_are_not_visible():
    assert not camera().project(np.array([[-5.0, 0.0, 1.5]]))[2][0]


def test_a_fisheye_sees_behind_its_image_plane():
    wide = camera(model="fisheye", fx=16.0, fy=16.0)
    _, _, valid = wide.project(np.array([[0.8, 3.0, 1.5]]))
    assert valid[0]


def test_scaling_a_camera_scales_where_points_appear():
    point = np.array([[9.0, 1.0, 0.5]])
    half = camera().scaled(24, 32)
    np.testing.assert_allclose(half.project(point)[0] * 2, camera().project(point)[0])


def test_the_default_rig_sees_all_around_with_neighbours_on_both_sides():
    rig = load_rig("surround7")
    assert len(rig) == 7
    assert (rig.height, rig.width) == (128, 224)
    around = rig.neighbours()
    assert set(around["rear"]) == {"side_rear_left", "side_rear_right"}
    assert {"front_narrow", "side_front_left", "side_front_right"} == set(around["front_wide"])
    assert set(around["side_front_left"]) == {"front_wide", "side_rear_left"}


def test_neighbourhood_is_mutual():
    for name in preset_names("rigs"):
        around = load_rig(name).neighbours()
        assert all(one in around[other] for one in around for other in around[one])


def test_a_rig_can_be_rescaled_and_reduced():
    rig = load_rig("surround7").scaled(96, 160).subset(["rear", "front_wide"])
    assert rig.names == ("rear", "front_wide")
    assert rig.cameras[0].rays().shape == (96, 160, 3)


def test_an_unknown_camera_is_refused_with_the_list():
    with pytest.raises(KeyError, match=r"front_wide.*'nose'"):
        load_rig("surround7").subset(["nose"])


def test_an_unknown_rig_is_refused_with_the_list():
    with pytest.raises(PresetError, match="surround7"):
        load_rig("nothing")
