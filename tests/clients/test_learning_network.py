import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from clients.learning.accelerations import HIGH, LOW, WHEELBASE_M, eased, from_controls, to_controls
from clients.learning.network import CAMERAS, OF_THE_LANE, SIZE, VisionNetwork, WeightsError, scaled
from clients.learning.torch_network import TorchNetwork
from worldmodel.scene.state import EGO_SHAPE


@pytest.fixture
def network() -> TorchNetwork:
    torch.manual_seed(0)
    return TorchNetwork()


def moments(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, len(CAMERAS), 2, *SIZE, 3), dtype=np.uint8)
    return images, rng.uniform([0, -1, -0.1, 5], [30, 1, 0.1, 33], (count, 4)).astype(np.float32)


def test_numpy_and_torch_give_the_same_answers(network: TorchNetwork) -> None:
    images, numbers = moments(3)
    with torch.no_grad():
        expected = network(torch.from_numpy(images), torch.from_numpy(scaled(numbers))).numpy()
    got = [network.numpy()(image, number) for image, number in zip(images, numbers, strict=True)]
    assert np.allclose(got, expected, atol=1e-5)
    assert np.abs(expected - expected[0]).max() > 1e-3


def test_a_saved_network_is_the_same_one(network: TorchNetwork, tmp_path) -> None:
    network.save(tmp_path / "a.safetensors")
    other = TorchNetwork()
    other.load(tmp_path / "a.safetensors")
    images, numbers = moments(1)
    loaded = VisionNetwork.load(tmp_path / "a.safetensors")
    assert np.array_equal(loaded(images[0], numbers[0]), network.numpy()(images[0], numbers[0]))
    assert np.array_equal(other.numpy()(images[0], numbers[0]), network.numpy()(images[0], numbers[0]))
    assert len(loaded.digest) == 64


def test_who_is_not_told_where_the_lane_is_gets_the_rest() -> None:
    told = scaled(np.array([10.0, 0.5, 0.1, 14.0], np.float32))
    untold = scaled(np.array([10.0, np.nan, np.nan, 14.0], np.float32))
    lane = np.isin(np.arange(len(told)), OF_THE_LANE)
    assert (told[lane] != 0).all()
    assert (untold[lane] == 0).all()
    assert np.array_equal(untold[~lane], told[~lane])


def test_it_is_small(network: TorchNetwork) -> None:
    assert sum(values.numel() for values in network.parameters()) < 1_000_000


def test_files_that_hold_no_network_are_refused(tmp_path) -> None:
    (tmp_path / "text").write_text("no weights")
    save_file({"action.bias": np.zeros(2, np.float32)}, tmp_path / "other")
    for name, message in (("missing", "No such file"), ("text", "text"), ("other", "expected the tensors")):
        with pytest.raises(WeightsError, match=message):
            VisionNetwork.load(tmp_path / name)


def test_a_file_that_is_not_as_it_was_written_is_refused(network: TorchNetwork, tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    network.save(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"expected digest .* corrupted"):
        VisionNetwork.load(path)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    save_file(weights, path)  # says nothing of itself
    with pytest.raises(WeightsError, match="expected digest none"):
        VisionNetwork.load(path)


def test_the_wheelbase_is_the_cars() -> None:
    assert EGO_SHAPE.wheelbase_m == WHEELBASE_M


@given(st.floats(-5, 5), st.floats(-8, 4), st.floats(0, 45))
def test_accelerations_become_controls_and_back(across: float, along: float, speed: float) -> None:
    wanted = np.array([across, along], np.float32)
    controls = to_controls(wanted, speed)
    assert abs(controls[0]) <= 0.6
    if abs(controls[0]) < 0.6:
        assert np.allclose(from_controls(controls, speed), wanted, atol=1e-3)


def test_accelerations_beyond_the_cars_are_cut() -> None:
    controls = to_controls(np.array([[-99.0, -99.0], [99.0, 99.0]]), np.array([10.0, 10.0]))
    assert np.allclose(controls[:, 1], [LOW[1], HIGH[1]])
    assert np.allclose(from_controls(controls, 10.0), [LOW, HIGH], atol=1e-4)


@given(st.floats(-0.6, 0.6), st.floats(-8, 4), st.floats(-0.6, 0.6), st.floats(-8, 4))
def test_easing_approaches_and_never_passes(steering: float, accel: float, now: float, pulls: float) -> None:
    rows = eased(np.array([steering, accel]), now, pulls, 4, 1 / 12)
    assert rows.shape == (4, 2)
    for column, (start, end) in enumerate(((now, steering), (pulls, accel))):
        gaps = np.abs(np.array([start, *rows[:, column]]) - end)
        assert (np.diff(gaps) <= 1e-6).all()
    if accel > -3.7:
        assert np.abs(np.diff([pulls, *rows[:, 1]])).max() <= 3.6 / 12 + 1e-5
