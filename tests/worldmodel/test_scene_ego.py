import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.scene.clock import FRAME_DT_S
from worldmodel.scene.ego import EGO_LIMITS, bicycle_step, displace
from worldmodel.scene.state import EGO_SHAPE, EgoState, pose_delta


def at(speed_mps=0.0, steering_rad=0.0, yaw_rad=0.0):
    return EgoState(0.0, 0.0, yaw_rad, speed_mps, steering_rad=steering_rad)


def test_driving_straight_covers_speed_times_time():
    after = bicycle_step(at(12.0), 0.0, 0.0, 0.5)
    assert (after.x_m, after.y_m, after.yaw_rad, after.speed_mps) == (6.0, 0.0, 0.0, 12.0)


def test_acceleration_covers_half_a_t_squared():
    after = bicycle_step(at(10.0), 0.0, 2.0, 0.5)
    assert after.x_m == pytest.approx(10.0 * 0.5 + 0.5 * 2.0 * 0.25)
    assert after.speed_mps == pytest.approx(11.0)
    assert after.accel_mps2 == pytest.approx(2.0)


def test_braking_stops_at_zero_after_v_squared_over_2a():
    after = bicycle_step(at(2.0), 0.0, -8.0, 1.0)
    assert after.speed_mps == 0.0
    assert after.x_m == pytest.approx(2.0**2 / (2 * 8.0))
    assert bicycle_step(after, 0.0, -8.0, 1.0).x_m == after.x_m


def test_a_quarter_turn_of_a_circle_ends_a_radius_ahead_and_a_radius_left():
    steering = math.atan(EGO_SHAPE.wheelbase_m / 10.0)  # radius 10 m
    ego = at(10.0 * math.pi / 2, steering)  # a quarter of the circle per second
    after = bicycle_step(ego, steering, 0.0, 1.0)
    assert (after.x_m, after.y_m) == (pytest.approx(10.0), pytest.approx(10.0))
    assert after.yaw_rad == pytest.approx(math.pi / 2)
    assert after.yaw_rate_radps == pytest.approx(math.pi / 2)


def test_small_steps_and_one_large_step_meet_on_the_same_arc():
    ego = fine = at(8.0, 0.2)
    for _ in range(50):
        fine = bicycle_step(fine, 0.2, 0.0, 0.02)
    coarse = bicycle_step(ego, 0.2, 0.0, 1.0)
    assert np.allclose((fine.x_m, fine.y_m, fine.yaw_rad), (coarse.x_m, coarse.y_m, coarse.yaw_rad))


def test_the_front_wheel_turns_no_faster_than_its_limit():
    after = bicycle_step(at(5.0), 0.6, 0.0)
    assert after.steering_rad == pytest.approx(EGO_LIMITS.steering_rate_radps * FRAME_DT_S)


def test_braking_does_not_speed_up_a_vehicle_that_rolls_backwards():
    backwards = displace(at(), np.array([-0.2, 0.0, 0.0]))
    assert backwards.speed_mps == pytest.approx(-2.4)
    assert bicycle_step(backwards, 0.0, -8.0).speed_mps == pytest.approx(-2.4)
    assert bicycle_step(backwards, 0.0, 4.0).speed_mps > -2.4


@given(
    st.floats(-0.6, 0.6),
    st.floats(-8.0, 4.0),
    st.floats(0.0, 40.0),
    st.floats(-3.1, 3.1),
)
def test_a_bicycle_step_is_reproduced_by_its_own_pose_delta(steering, accel, speed, yaw):
    before = at(speed, 0.0, yaw)
    after = bicycle_step(before, steering, accel)
    moved = displace(before, pose_delta(before, after))
    assert np.allclose((moved.x_m, moved.y_m), (after.x_m, after.y_m), atol=1e-9)
    assert math.cos(moved.yaw_rad - after.yaw_rad) == pytest.approx(1.0)
    assert moved.speed_mps == pytest.approx(0.5 * (before.speed_mps + after.speed_mps), abs=0.35)


@given(st.floats(-9, 9), st.floats(-99, 99), st.floats(0, 40))
def test_no_command_takes_the_vehicle_beyond_its_limits(steering, accel, speed):
    after = bicycle_step(at(speed), steering, accel)
    assert abs(after.steering_rad) <= EGO_LIMITS.steering_rad
    assert -EGO_LIMITS.brake_mps2 - 1e-9 <= after.accel_mps2 <= EGO_LIMITS.accel_mps2 + 1e-9
    assert 0.0 <= after.speed_mps <= EGO_LIMITS.speed_mps
