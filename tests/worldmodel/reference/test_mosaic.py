import numpy as np
import pytest

from worldmodel.reference.mosaic import GAP, mosaic_rows, rig_mosaic
from worldmodel.rig import load_rig


def test_cameras_lie_as_they_sit_on_the_car():
    rig = load_rig("surround7")
    rows = [[rig.names[k] for k in row] for row in mosaic_rows(rig)]
    assert rows == [
        ["front_wide", "front_narrow"],
        ["side_front_left", "side_front_right"],
        ["side_rear_left", "side_rear_right"],
        ["rear"],
    ]


@pytest.mark.parametrize("name", ["surround7", "front3", "front1", "fisheye4"])
def test_every_camera_and_the_inset_appear_whole_and_once(name):
    rig = load_rig(name).scaled(16, 32)
    values = np.arange(1, len(rig) + 2, dtype=np.uint8)
    frames = np.broadcast_to(values[:-1, None, None, None], (len(rig), 16, 32, 3))
    sheet = rig_mosaic(frames, rig, np.full((16, 32, 3), values[-1]))
    assert [(sheet[..., 0] == value).sum() for value in values] == [16 * 32] * len(values)
    assert (sheet.shape[0] + GAP) % (16 + GAP) == 0


def test_a_missing_picture_is_refused():
    rig = load_rig("front3")
    with pytest.raises(ValueError, match="expected a picture for each of the 3 cameras, got 2"):
        rig_mosaic(np.zeros((2, 128, 224, 3), np.uint8), rig)
    with pytest.raises(ValueError, match="expected an inset"):
        rig_mosaic(np.zeros((3, 128, 224, 3), np.uint8), rig, np.zeros((10, 10, 3), np.uint8))
