"""How the ego moves: a kinematic bicycle about the rear axle, integrated along exact arcs."""

from dataclasses import dataclass, replace

import numpy as np

from .clock import FRAME_DT_S
from .state import EGO_SHAPE, EgoState


@dataclass(frozen=True)
class EgoLimits:
    """What the vehicle can do, whatever it is told."""

    steering_rad: float = 0.6
    steering_rate_radps: float = 1.2
    accel_mps2: float = 4.0
    brake_mps2: float = 8.0
    speed_mps: float = 45.0


EGO_LIMITS = EgoLimits()


def bicycle_step(ego: EgoState, steering_rad: float, accel_mps2: float, dt_s: float = FRAME_DT_S) -> EgoState:
    """The ego after one frame of constant acceleration, with the front wheel turning towards `steering_rad`.

    The rear axle follows the arc of the mean steering angle of the frame: curvature = tan(steering) / wheelbase,
    and its chord is exact. Commands beyond `EGO_LIMITS` are cut to them. Braking stops the vehicle at zero: only a
    `pose_delta` makes it drive backwards (kinematic bicycle, rear-axle reference: Rajamani, Vehicle Dynamics and
    Control, 2.2).
    """
    steering = _turn_wheel(ego.steering_rad, steering_rad, dt_s)
    speed, distance = _change_speed(ego.speed_mps, accel_mps2, dt_s)
    curvature = np.tan(0.5 * (ego.steering_rad + steering)) / EGO_SHAPE.wheelbase_m
    turn = distance * curvature
    chord = distance * _sinc(0.5 * turn)
    return EgoState(
        x_m=float(ego.x_m + chord * np.cos(ego.yaw_rad + 0.5 * turn)),
        y_m=float(ego.y_m + chord * np.sin(ego.yaw_rad + 0.5 * turn)),
        yaw_rad=wrap_angle(ego.yaw_rad + turn),
        speed_mps=speed,
        accel_mps2=(speed - ego.speed_mps) / dt_s,
        steering_rad=steering,
        yaw_rate_radps=float(turn / dt_s),
    )


def displace(ego: EgoState, delta: np.ndarray, dt_s: float = FRAME_DT_S) -> EgoState:
    """The ego after an exact motion `delta` [3] = dx, dy [m], dyaw [rad] in its own frame: no limits, no dynamics.

    Speed is the arc length over the frame, negative backwards; steering is that of a bicycle on the same arc.
    """
    dx, dy, turn = (float(value) for value in delta)
    cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    chord = dx * np.cos(0.5 * turn) + dy * np.sin(0.5 * turn)
    arc = float(chord / _sinc(0.5 * turn))
    steering = (
        np.arctan2(EGO_SHAPE.wheelbase_m * turn, abs(arc)) * (1 if arc >= 0 else -1) if abs(arc) > 0.01 else 0
    )
    return replace(
        ego,
        x_m=float(ego.x_m + cos * dx - sin * dy),
        y_m=float(ego.y_m + sin * dx + cos * dy),
        yaw_rad=wrap_angle(ego.yaw_rad + turn),
        speed_mps=arc / dt_s,
        accel_mps2=(arc / dt_s - ego.speed_mps) / dt_s,
        steering_rad=float(np.clip(steering, -EGO_LIMITS.steering_rad, EGO_LIMITS.steering_rad)),
        yaw_rate_radps=turn / dt_s,
    )


def wrap_angle(angle_rad: float) -> float:
    """The same angle in [-pi, pi)."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)


# One number at a time: NumPy's own clip and sinc, made for arrays, took two thirds of a step. Sine, cosine and tangent stay NumPy's,
# whose last bit is not that of `math` on every machine.


def _turn_wheel(now_rad: float, wanted_rad: float, dt_s: float) -> float:
    most = EGO_LIMITS.steering_rate_radps * dt_s
    wanted = _clip(wanted_rad, -EGO_LIMITS.steering_rad, EGO_LIMITS.steering_rad)
    return now_rad + _clip(wanted - now_rad, -most, most)


def _change_speed(speed_mps: float, accel_mps2: float, dt_s: float) -> tuple[float, float]:
    """(speed after, distance covered). Speed does not pass through zero, nor fall further below it."""
    accel = _clip(accel_mps2, -EGO_LIMITS.brake_mps2, EGO_LIMITS.accel_mps2)
    after = min(speed_mps + accel * dt_s, max(EGO_LIMITS.speed_mps, speed_mps))
    if after >= 0 or speed_mps < 0:
        after = max(after, min(speed_mps, 0.0))
        return after, 0.5 * (speed_mps + after) * dt_s
    return 0.0, 0.5 * speed_mps**2 / -accel


def _clip(value: float, low: float, high: float) -> float:
    return float(min(max(value, low), high))


def _sinc(angle_rad: float) -> float:
    """sin(x) / x, 1 at 0."""
    x = np.pi * (angle_rad / np.pi)  # as `np.sinc` rounds
    return float(np.sin(x) / x) if x else 1.0
