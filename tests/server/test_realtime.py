import numpy as np
import pytest

from server.realtime import BRAKE_MPS2, MediaClock, continue_action

DT = 1 / 12


def test_hold_repeats_the_last_row_of_the_controls() -> None:
    last = np.float32([[0, 0], [0, 0], [0, 0], [0.1, 2.0]])
    np.testing.assert_array_equal(continue_action("hold", "controls", last, DT), np.float32([[0.1, 2.0]] * 4))


def test_brake_keeps_the_steering_and_slows_down() -> None:
    last = np.float32([[0.1, 2.0]] * 4)
    np.testing.assert_array_equal(
        continue_action("brake", "controls", last, DT), np.float32([[0.1, -BRAKE_MPS2]] * 4)
    )


@pytest.mark.parametrize("policy", ["hold", "coast"])
def test_pose_deltas_continue_the_last_motion(policy: str) -> None:
    last = np.float32([[0.0, 0, 0]] * 3 + [[0.8, 0.0, 0.1]])
    np.testing.assert_array_equal(
        continue_action(policy, "pose_delta", last, DT), np.float32([[0.8, 0.0, 0.1]] * 4)
    )


def test_braking_pose_deltas_reach_a_stop_and_never_reverse() -> None:
    rows = np.float32([[0.06, 0.0, 0.01]] * 4)
    braked = continue_action("brake", "pose_delta", rows, DT)
    assert (np.diff(braked[:, 0]) <= 0).all()
    assert (braked[:, 0] >= 0).all()
    assert braked[-1, 0] == 0
    assert not continue_action("brake", "pose_delta", np.zeros((4, 3), np.float32), DT).any()


def test_a_trajectory_goes_on_along_its_last_motion() -> None:
    ahead = np.float32([[k + 1.0, 0, 0] for k in range(4)])
    np.testing.assert_allclose(continue_action("coast", "trajectory", ahead, DT), ahead, atol=1e-6)
    turning = np.float32([[0, 0, 0], [0, 0, 0], [0, 0, 0], [1.0, 0, np.pi / 2]])
    square = continue_action("hold", "trajectory", turning, DT)
    np.testing.assert_allclose(square[-1, :2], [0.0, 0.0], atol=1e-6)  # four sides of a square


def test_the_clock_never_lets_a_chunk_begin_early() -> None:
    clock = MediaClock(1 / 3)
    clock.start(10.0)
    for k in range(100):
        assert clock.due_s is not None
        assert clock.due_s >= 10.0 + k / 3 - 1e-9
        clock.began(clock.due_s + 0.01 * (k % 7))
