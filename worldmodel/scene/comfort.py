"""How smooth a drive is: accelerations, jerks and yaw motion against the bounds of nuPlan. Pure functions."""

import math
from dataclasses import dataclass

import numpy as np

_WINDOW_FRAMES = 9  # 0.75 s at 12 FPS; nuPlan smooths over 8 samples at 10 Hz


@dataclass(frozen=True)
class ComfortBounds:
    """The largest magnitudes that count as comfortable, from nuPlan's *ego is comfortable* (human driving)."""

    min_lon_accel_mps2: float = -4.05
    max_lon_accel_mps2: float = 2.40
    max_lat_accel_mps2: float = 4.89
    max_yaw_rate_radps: float = 0.95
    max_yaw_accel_radps2: float = 1.93
    max_lon_jerk_mps3: float = 4.13
    max_jerk_mps3: float = 8.37


BOUNDS = ComfortBounds()


@dataclass(frozen=True)
class Motion:
    """What a passenger feels, smoothed, at every frame; each float64 [N]."""

    lon_accel_mps2: np.ndarray
    lat_accel_mps2: np.ndarray
    yaw_rate_radps: np.ndarray
    yaw_accel_radps2: np.ndarray
    lon_jerk_mps3: np.ndarray
    jerk_mps3: np.ndarray


def comfortable(speed_mps: np.ndarray, yaw_rad: np.ndarray, dt_s: float) -> np.ndarray:
    """Whether each frame of a drive lies within all of `BOUNDS`.

    Args:
        speed_mps: float64 [N], along the heading.
        yaw_rad: float64 [N].
        dt_s: time between frames.

    Returns:
        bool [N].
    """
    motion = motion_of(speed_mps, yaw_rad, dt_s)
    return np.asarray(
        (motion.lon_accel_mps2 > BOUNDS.min_lon_accel_mps2)
        & (motion.lon_accel_mps2 < BOUNDS.max_lon_accel_mps2)
        & (np.abs(motion.lat_accel_mps2) < BOUNDS.max_lat_accel_mps2)
        & (np.abs(motion.yaw_rate_radps) < BOUNDS.max_yaw_rate_radps)
        & (np.abs(motion.yaw_accel_radps2) < BOUNDS.max_yaw_accel_radps2)
        & (np.abs(motion.lon_jerk_mps3) < BOUNDS.max_lon_jerk_mps3)
        & (np.abs(motion.jerk_mps3) < BOUNDS.max_jerk_mps3)
    )


def motion_of(speed_mps: np.ndarray, yaw_rad: np.ndarray, dt_s: float) -> Motion:
    """Accelerations, jerks and yaw motion from speeds and yaws at the frames.

    As in nuPlan: derivatives by Savitzky-Golay, longitudinal jerk as the derivative of the longitudinal
    acceleration, `jerk` as the derivative of the acceleration's magnitude. The lateral acceleration is speed times
    yaw rate, which holds for the rear axle of a car whose wheels do not slip.
    """
    yaw = np.unwrap(yaw_rad)
    lon_accel = smooth_derivative(speed_mps, dt_s, order=2)
    yaw_rate = smooth_derivative(yaw, dt_s, order=2)
    lat_accel = np.asarray(speed_mps) * yaw_rate
    return Motion(
        lon_accel_mps2=lon_accel,
        lat_accel_mps2=lat_accel,
        yaw_rate_radps=yaw_rate,
        yaw_accel_radps2=smooth_derivative(yaw, dt_s, order=3, derivative=2),
        lon_jerk_mps3=smooth_derivative(lon_accel, dt_s, order=2),
        jerk_mps3=smooth_derivative(np.hypot(lon_accel, lat_accel), dt_s, order=2),
    )


def smooth_derivative(values: np.ndarray, dt_s: float, order: int, derivative: int = 1) -> np.ndarray:
    """A derivative by the filter of Savitzky and Golay (1964): of the polynomial fitted to the frames around.

    Frames near the ends use the first or the last full window. Fewer frames than the polynomial needs give zeros.

    Args:
        values: float64 [N].
        dt_s: time between values.
        order: degree of the polynomial.
        derivative: which derivative.

    Returns:
        float64 [N].
    """
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    width = min(_WINDOW_FRAMES, count - (count + 1) % 2)  # odd
    if width <= order:
        return np.zeros(count)
    offsets = np.arange(width) - width // 2
    fit = np.linalg.pinv(np.vander(offsets, order + 1, increasing=True).astype(np.float64))
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    coefficients = windows @ fit.T  # [N - width + 1, order + 1]
    frame = np.arange(count) - width // 2
    window = np.clip(frame, 0, count - width)
    powers = range(derivative, order + 1)
    terms = [
        math.perm(k, derivative) * coefficients[window, k] * (frame - window) ** (k - derivative)
        for k in powers
    ]
    return np.asarray(np.sum(terms, axis=0) / dt_s**derivative)
