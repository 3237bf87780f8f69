"""Comfort: derivatives of motions whose acceleration and jerk are known, against nuPlan's bounds."""

import numpy as np
import pytest

from worldmodel.scene.comfort import comfortable, motion_of, smooth_derivative

DT = 1 / 12
TIME = np.arange(60) * DT
STRAIGHT = np.zeros(60)


@pytest.mark.parametrize("derivative", [1, 2])
def test_derivatives_of_a_cubic_are_exact_up_to_the_ends(derivative: int) -> None:
    polynomial = np.polynomial.Polynomial([3.0, -2.0, 0.5, 0.25])
    found = smooth_derivative(polynomial(TIME), DT, order=3, derivative=derivative)
    np.testing.assert_allclose(found, polynomial.deriv(derivative)(TIME), atol=1e-6)


def test_a_known_jerk_is_recovered() -> None:
    motion = motion_of(2.0 + 1.5 * TIME**2, STRAIGHT, DT)  # acceleration 3 t, jerk 3
    np.testing.assert_allclose(motion.lon_accel_mps2, 3 * TIME, atol=1e-6)
    np.testing.assert_allclose(motion.lon_jerk_mps3, 3.0, atol=1e-6)


def test_a_constant_turn_has_lateral_acceleration_speed_times_yaw_rate() -> None:
    motion = motion_of(np.full(60, 8.0), 3.0 + 0.5 * TIME, DT)
    np.testing.assert_allclose(motion.lat_accel_mps2, 4.0, atol=1e-6)
    np.testing.assert_allclose(motion.yaw_accel_radps2, 0.0, atol=1e-6)


def test_a_yaw_that_wraps_is_not_a_spin() -> None:
    yaw = (np.pi - 0.2 + 0.2 * TIME + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(motion_of(np.full(60, 8.0), yaw, DT).yaw_rate_radps, 0.2, atol=1e-6)


@pytest.mark.parametrize(
    ("speed", "yaw", "fine"),
    [
        (10 + 2.3 * TIME, STRAIGHT, True),
        (10 + 2.5 * TIME, STRAIGHT, False),  # accelerates harder than 2.40
        (30 - 4.0 * TIME, STRAIGHT, True),
        (30 - 4.2 * TIME, STRAIGHT, False),  # brakes harder than 4.05
        (np.full(60, 9.0), 0.5 * TIME, True),
        (np.full(60, 10.0), 0.5 * TIME, False),  # lateral 5.0 > 4.89
        (np.full(60, 1.0), 0.9 * TIME, True),
        (np.full(60, 1.0), 1.0 * TIME, False),  # yaw rate > 0.95
        (np.full(60, 1.0), 0.9 * TIME**2 / 10, True),
        (np.full(60, 1.0), 1.0 * (TIME - 2.5) ** 2, False),  # yaw acceleration 2.0 > 1.93
    ],
)
def test_each_bound_of_nuplan_separates(speed: np.ndarray, yaw: np.ndarray, fine: bool) -> None:
    assert comfortable(speed, yaw, DT).all() == fine


@pytest.mark.parametrize(("jerk", "fine"), [(4.0, True), (4.3, False)])
def test_the_jerk_bound_separates(jerk: float, fine: bool) -> None:
    time = np.arange(13) * DT  # one second, so that the acceleration stays within its own bounds
    speed = 20 - 2.1 * time + jerk * time**2 / 2
    assert comfortable(speed, np.zeros(13), DT).all() == fine


@pytest.mark.parametrize("frames", [1, 2])
def test_a_drive_too_short_to_judge_is_comfortable(frames: int) -> None:
    assert comfortable(np.array([0.0, 9.0, 0.0])[:frames], np.zeros(frames), DT).all()
