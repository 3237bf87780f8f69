import numpy as np
import pytest

from worldmodel.errors import ActionError
from worldmodel.scene.actions import ACTION_SPACES, ActionChunk, follow, validate
from worldmodel.scene.clock import FRAME_DT_S
from worldmodel.scene.ego import bicycle_step
from worldmodel.scene.state import EgoState, pose_delta

EGO = EgoState(3.0, -2.0, 0.7, 8.0)


def chunk(space, rows):
    return ActionChunk(space, np.asarray(rows, np.float32))


def poses_of(states):
    return np.array([(s.x_m, s.y_m, s.yaw_rad) for s in states])


@pytest.mark.parametrize("space", ACTION_SPACES)
def test_the_bounds_themselves_are_valid(space):
    for row in (ACTION_SPACES[space].low, ACTION_SPACES[space].high):
        validate(chunk(space, [row] * 4))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (ActionChunk("teleport", np.zeros((4, 2), np.float32)), "expected an action space of controls, .* got 'teleport'"),
        (ActionChunk("controls", np.zeros((4, 2))), "expected actions of dtype float32, got float64"),
        (ActionChunk("controls", [[0.0, 0.0]] * 4), "expected actions of dtype float32, got list"),
        (chunk("controls", np.zeros((4, 3))), r"expected controls actions of shape \(4, 2\), got \(4, 3\)"),
        (chunk("pose_delta", np.zeros((3, 3))), r"expected pose_delta actions of shape \(4, 3\), got \(3, 3\)"),
        (chunk("controls", [[0, 0], [0, np.nan], [0, 0], [0, 0]]), r"expected finite actions, got nan \(accel of frame 1\)"),
        (chunk("controls", [[0, 0]] * 3 + [[np.inf, 0]]), r"expected finite actions, got inf \(steering of frame 3\)"),
        (chunk("controls", [[0.61, 0]] * 4), r"expected steering in \[-0.6, 0.6\] rad, got 0.61"),
        (chunk("trajectory", [[0, 9, 0]] * 4), r"expected y in \[-8, 8\] m, got 9"),
        (chunk("pose_delta", [[0, 0, 0.5]] * 4), r"expected dyaw in \[-0.4, 0.4\] rad, got 0.5"),
    ],
)  # fmt: skip
def test_what_is_no_action_is_refused(action, message):
    with pytest.raises(ActionError, match=message):
        validate(action)


def test_controls_are_the_bicycle_frame_by_frame():
    states = follow(EGO, chunk("controls", [[0.1, 1.0]] * 4))
    expected = EGO
    for state in states:
        expected = bicycle_step(expected, float(np.float32(0.1)), 1.0)
        assert state == expected


def test_pose_deltas_are_reached_exactly():
    deltas = np.float32([[0.7, 0.01, 0.02], [0.6, 0.0, -0.02], [-0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    before = EGO
    for delta, after in zip(deltas, follow(EGO, ActionChunk("pose_delta", deltas)), strict=True):
        assert np.allclose(pose_delta(before, after), delta, atol=1e-9)
        before = after
    assert before.speed_mps == 0.0


def test_a_trajectory_that_the_vehicle_can_drive_is_tracked_closely():
    ego, worst = EGO, 0.0
    for chunk_index in range(12):
        wanted = follow(ego, chunk("controls", [[0.15 if chunk_index < 6 else -0.1, 0.8]] * 4))
        local = np.array([pose_delta(ego, s) for s in wanted])
        got = follow(ego, chunk("trajectory", local))
        worst = max(worst, np.abs(poses_of(got)[:, :2] - poses_of(wanted)[:, :2]).max())
        ego = got[-1]
    assert worst < 0.25


def test_a_trajectory_that_stays_put_stops_the_vehicle():
    ego = EGO
    for _ in range(6):
        ego = follow(ego, chunk("trajectory", np.zeros((4, 3))))[-1]
    assert ego.speed_mps == 0.0


def test_tracking_walking_pace_does_not_wiggle():
    ego, wheel = EgoState(0, 0, 0, 1.0), []
    path = np.stack([np.arange(1, 5) * FRAME_DT_S, np.full(4, 0.05), np.zeros(4)], axis=1)
    for _ in range(10):
        states = follow(ego, chunk("trajectory", path))
        wheel += [s.steering_rad for s in states]
        ego = states[-1]
    assert np.abs(wheel).max() < 0.1
