"""What the network says, and how it moves the car: accelerations to the left and forwards, in m/s^2.

A steering angle of 0.01 rad is nothing in a street and a lane change on a highway; an acceleration to the left is the same to the tyres
and to the passengers at any speed, and of the size of those forwards. So both weigh the same in a loss and in exploration noise.
"""

import numpy as np

WHEELBASE_M = 2.8
SLOW_MPS = 4.0  # below this the steering angle no longer grows
STEERING_RAD = 0.6
LOW, HIGH = np.array([-5.0, -8.0], np.float32), np.array([5.0, 4.0], np.float32)
JERK_MPS3, BRAKING_JERK_MPS3 = 3.6, 20.0  # the first one is comfortable; who must brake hard may
HARD_MPS2 = -3.7
STEERING_RATE_RADPS = 0.4


def to_controls(accelerations: np.ndarray, speed_mps: np.ndarray | float) -> np.ndarray:
    """Steering angle [rad, left positive] and acceleration [m/s^2], within the car's bounds: float32 [..., 2]."""
    across, along = np.moveaxis(np.clip(accelerations, LOW, HIGH), -1, 0)
    steering = np.arctan(across * WHEELBASE_M / np.maximum(speed_mps, SLOW_MPS) ** 2)
    parts = np.clip(steering, -STEERING_RAD, STEERING_RAD), along
    return np.stack(parts, axis=-1).astype(np.float32)


def from_controls(controls: np.ndarray, speed_mps: np.ndarray | float) -> np.ndarray:
    """The inverse, where the bounds allow: float32 [..., 2]."""
    steering, along = np.moveaxis(controls, -1, 0)
    across = np.tan(steering) * np.maximum(speed_mps, SLOW_MPS) ** 2 / WHEELBASE_M
    accelerations: np.ndarray = np.clip(np.stack([across, along], axis=-1), LOW, HIGH)
    return accelerations.astype(np.float32)


def eased(
    controls: np.ndarray, steering_rad: float, accel_mps2: float, frames: int, dt_s: float
) -> np.ndarray:
    """One row per frame from where steering and acceleration are towards the controls, gently: float32 [F, 2]."""
    start = np.array(
        [np.clip(steering_rad, -STEERING_RAD, STEERING_RAD), np.clip(accel_mps2, LOW[1], HIGH[1])]
    )
    jerk = BRAKING_JERK_MPS3 if controls[1] < HARD_MPS2 else JERK_MPS3
    step = np.array([STEERING_RATE_RADPS, jerk]) * dt_s
    ahead = np.arange(1, frames + 1)[:, None]
    rows: np.ndarray = start + np.clip(controls - start, -ahead * step, ahead * step)
    return rows.astype(np.float32)
