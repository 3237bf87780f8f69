import pytest
import yaml

from worldmodel.rig import RigError, load_rig, parse_rig

CAMERA = {"name": "front", "hfov_deg": 90, "position_m": [1.7, 0.0, 1.4]}


def write(path, *cameras, **extra):
    file = path / "rig.yaml"
    file.write_text(
        yaml.safe_dump({"name": "mine", "cameras": [CAMERA | camera for camera in cameras], **extra})
    )
    return file


def test_a_rig_file_is_read_by_its_path(tmp_path):
    rig = load_rig(str(write(tmp_path, {}, {"name": "back", "yaw_deg": 180})))
    assert rig.names == ("front", "back")
    assert rig.cameras[0].fx == pytest.approx(112.0)
    assert rig.cameras[0].cx == 112.0


def test_focal_lengths_may_be_given_instead_of_a_field_of_view(tmp_path):
    rig = parse_rig(write(tmp_path, {"hfov_deg": None, "fx": 100.0, "fy": 90.0, "cy": 50.0}))
    assert (rig.cameras[0].fx, rig.cameras[0].fy, rig.cameras[0].cy) == (100.0, 90.0, 50.0)


def test_a_fisheye_field_of_view_counts_its_distortion(tmp_path):
    camera = {"model": "fisheye", "hfov_deg": 180, "distortion": [-0.02, 0, 0, 0]}
    rig = parse_rig(write(tmp_path, camera))
    ray = rig.cameras[0].rays()[64, 0]
    assert abs(ray[0]) < 0.02  # the left edge looks straight to the left
    assert ray[1] > 0.99


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"hfov_deg": 175}, "expected hfov_deg of at most 160 for a pinhole, got 175"),
        (
            {"hfov_deg": None, "fx": 5.0, "fy": 5.0},
            "expected a field of view of at most 160 degrees, got 175",
        ),
        ({"hfov_deg": None, "fx": -5.0, "fy": 5.0}, "cameras.0.fx.*greater than 0"),
        ({"hfov_deg": None}, "expected either hfov_deg or fx and fy, got neither"),
        ({"fx": 100.0, "fy": 100.0}, "expected either hfov_deg or fx and fy, got hfov_deg and fx and fy"),
        ({"hfov_deg": None, "fx": 100.0}, "expected both fx and fy, got fx"),
        ({"width": 0}, "cameras.0.width.*got 0"),
        ({"cx": 400.0}, "expected a principal point inside the image"),
        ({"position_m": [0, 0, -1]}, "expected a camera at least 0.1 m above the ground"),
        ({"distortion": [0.1, 0, 0, 0]}, "expected no distortion for a pinhole"),
        (
            {"model": "fisheye", "hfov_deg": 190, "distortion": [-0.3, 0, 0, 0]},
            "expected a distortion that grows up to the image corner",
        ),
        ({"model": "cylinder"}, "cameras.0.model.*'pinhole' or 'fisheye'"),
        ({"zoom": 2}, "cameras.0.zoom: expected one of name, model, .*got an unknown key"),
        ({"yaw_deg": float("nan")}, "cameras.0.yaw_deg"),
    ],
)
def test_an_impossible_camera_is_refused(tmp_path, camera, message):
    with pytest.raises(RigError, match=message):
        parse_rig(write(tmp_path, camera))


def test_cameras_of_one_name_are_refused(tmp_path):
    with pytest.raises(RigError, match="expected distinct camera names, got front"):
        parse_rig(write(tmp_path, {}, {}))


def test_cameras_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(RigError, match="expected cameras of one size, got 64x224, 128x224"):
        parse_rig(write(tmp_path, {}, {"name": "b", "height": 64}))


def test_a_rig_without_cameras_is_refused(tmp_path):
    with pytest.raises(RigError, match="cameras"):
        parse_rig(write(tmp_path))


def test_an_unknown_key_of_the_rig_is_refused_with_the_list(tmp_path):
    with pytest.raises(
        RigError, match="colour: expected one of name, description, cameras, got an unknown key"
    ):
        parse_rig(write(tmp_path, {}, colour="red"))


def test_what_is_no_yaml_is_refused(tmp_path):
    file = tmp_path / "rig.yaml"
    file.write_text("name: [unclosed")
    with pytest.raises(RigError, match="expected a YAML file"):
        parse_rig(file)


def test_one_wrong_camera_is_one_complaint(tmp_path):
    with pytest.raises(RigError) as refused:
        parse_rig(write(tmp_path, {"hfov_deg": 175}))
    assert (
        str(refused.value) == "rig.yaml: cameras.0: expected hfov_deg of at most 160 for a pinhole, got 175"
    )
