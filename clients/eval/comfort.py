"""How smooth a drive is, against the bounds of nuPlan. The same formulas as `worldmodel.scene.comfort`, which a test holds equal."""

import math

import numpy as np

WINDOW_FRAMES = 9  # 0.75 s at 12 FPS
LON_ACCEL_MPS2 = (-4.05, 2.40)
LAT_ACCEL_MPS2, YAW_RATE_RADPS, YAW_ACCEL_RADPS2, LON_JERK_MPS3, JERK_MPS3 = 4.89, 0.95, 1.93, 4.13, 8.37


def comfortable(speed_mps: np.ndarray, yaw_rad: np.ndarray, dt_s: float) -> np.ndarray:
    """Whether each frame lies within all bounds: bool [N]. Speeds [m/s] and yaws [rad] are float64 [N]."""
    yaw = np.unwrap(yaw_rad)
    along = smooth_derivative(speed_mps, dt_s, 2)
    rate = smooth_derivative(yaw, dt_s, 2)
    across = np.asarray(speed_mps) * rate
    return np.asarray(
        (along > LON_ACCEL_MPS2[0])
        & (along < LON_ACCEL_MPS2[1])
        & (np.abs(across) < LAT_ACCEL_MPS2)
        & (np.abs(rate) < YAW_RATE_RADPS)
        & (np.abs(smooth_derivative(yaw, dt_s, 3, 2)) < YAW_ACCEL_RADPS2)
        & (np.abs(smooth_derivative(along, dt_s, 2)) < LON_JERK_MPS3)
        & (np.abs(smooth_derivative(np.hypot(along, across), dt_s, 2)) < JERK_MPS3)
    )


def smooth_derivative(values: np.ndarray, dt_s: float, order: int, derivative: int = 1) -> np.ndarray:
    """Of the polynomial of that order fitted to the frames around (Savitzky and Golay 1964): float64 [N].

    Near the ends the first or last full window counts; fewer frames than the polynomial needs give zeros.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    width = min(WINDOW_FRAMES, count - (count + 1) % 2)  # odd
    if width <= order:
        return np.zeros(count)
    offsets = np.arange(width) - width // 2
    fit = np.linalg.pinv(np.vander(offsets, order + 1, increasing=True).astype(np.float64))
    coefficients = (
        np.lib.stride_tricks.sliding_window_view(values, width) @ fit.T
    )  # [N - width + 1, order + 1]
    centre = np.arange(count) - width // 2
    window = np.clip(centre, 0, count - width)
    terms = [
        math.perm(k, derivative) * coefficients[window, k] * (centre - window) ** (k - derivative)
        for k in range(derivative, order + 1)
    ]
    return np.asarray(np.sum(terms, axis=0) / dt_s**derivative)
