"""What a driver may say: three action spaces, their bounds, and how each one moves the ego.

| space | one row per frame | meaning |
|---|---|---|
| `controls` | steering, accel | front-wheel angle [rad, left positive] and acceleration [m/s^2] through the bicycle |
| `trajectory` | x, y, yaw | pose at the end of each frame, in the ego frame at the start of the chunk; tracked |
| `pose_delta` | dx, dy, dyaw | motion from frame to frame, in the frame of the earlier one; exact |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import ActionError
from .clock import FRAME_DT_S, FRAMES_PER_CHUNK
from .ego import EGO_LIMITS, bicycle_step, displace
from .state import EGO_SHAPE, EgoState

ActionSpaceName = Literal["controls", "trajectory", "pose_delta"]


@dataclass(frozen=True)
class ActionChunk:
    """The ego command for one chunk.

    `values` is float32 [F, A], one row per frame:
    `controls`: steering angle [rad, left positive], acceleration [m/s^2];
    `trajectory`: x [m], y [m], yaw [rad] in the ego frame at the start of the chunk, at the end of each frame;
    `pose_delta`: dx [m], dy [m], dyaw [rad] from frame to frame, in the frame of the earlier one.
    """

    space: ActionSpaceName
    values: np.ndarray


@dataclass(frozen=True)
class ActionSpace:
    """Columns and inclusive bounds of one row, in float32. Bounds hold for every frame alike."""

    columns: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


_STEER, _BRAKE, _ACCEL = EGO_LIMITS.steering_rad, EGO_LIMITS.brake_mps2, EGO_LIMITS.accel_mps2

ACTION_SPACES: Mapping[ActionSpaceName, ActionSpace] = {
    "controls": ActionSpace(("steering", "accel"), ("rad", "m/s^2"), (-_STEER, -_BRAKE), (_STEER, _ACCEL)),
    "trajectory": ActionSpace(("x", "y", "yaw"), ("m", "m", "rad"), (-4.0, -8.0, -1.6), (20.0, 8.0, 1.6)),
    "pose_delta": ActionSpace(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1.0, -1.0, -0.4), (5.0, 1.0, 0.4)),
}


def validate(action: ActionChunk) -> None:
    """Refuse an action that is not one.

    Raises:
        ActionError: unknown space, wrong dtype or shape, a value that is not finite, a value out of bounds.
    """
    if action.space not in ACTION_SPACES:
        raise ActionError(f"expected an action space of {', '.join(ACTION_SPACES)}, got {action.space!r}")
    space, values = ACTION_SPACES[action.space], action.values
    if not isinstance(values, np.ndarray) or values.dtype != np.float32:
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise ActionError(f"expected actions of dtype float32, got {found}")
    expected = (FRAMES_PER_CHUNK, len(space.columns))
    if values.shape != expected:
        raise ActionError(f"expected {action.space} actions of shape {expected}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ActionError(f"expected finite actions, got {_first(action, ~np.isfinite(values))}")
    outside = (values < np.asarray(space.low, np.float32)) | (values > np.asarray(space.high, np.float32))
    if outside.any():
        column = int(np.argwhere(outside)[0, 1])
        bounds = f"[{space.low[column]:g}, {space.high[column]:g}] {space.units[column]}"
        raise ActionError(f"expected {space.columns[column]} in {bounds}, got {_first(action, outside)}")


def follow(ego: EgoState, action: ActionChunk) -> list[EgoState]:
    """The ego after each of the chunk's frames. The action must be valid."""
    values = action.values.astype(np.float64)
    if action.space == "trajectory":
        values = _to_world(ego, values)
    states: list[EgoState] = []
    for frame in range(FRAMES_PER_CHUNK):
        now = states[-1] if states else ego
        if action.space == "controls":
            states.append(bicycle_step(now, *values[frame].tolist()))
        elif action.space == "pose_delta":
            states.append(displace(now, values[frame]))
        else:
            states.append(bicycle_step(now, *_track(now, values[frame:])))
    return states


def _track(ego: EgoState, poses: np.ndarray) -> tuple[float, float]:
    """Steering and acceleration towards the coming world poses [n, 3], the first of which is due in one frame.

    Speed: cover the way to the next pose in one frame, on average. Steering: pure pursuit of the last pose,
    prolonged to a look-ahead of at least 4 m so that it stays calm at walking pace (Coulter 1992).
    """
    local = _to_ego(ego, poses)
    accel = (local[0, 0] / FRAME_DT_S - ego.speed_mps) / FRAME_DT_S
    x, y, yaw = local[-1]
    beyond = max(0.0, 4.0 - float(np.hypot(x, y)))
    x, y = x + beyond * np.cos(yaw), y + beyond * np.sin(yaw)
    curvature = 2.0 * y / (x * x + y * y)
    return float(np.arctan(EGO_SHAPE.wheelbase_m * curvature)), float(accel)


def _to_world(ego: EgoState, poses: np.ndarray) -> np.ndarray:
    """Ego-frame poses [n, 3] in the world frame."""
    cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    x, y, yaw = poses.T
    return np.stack([ego.x_m + cos * x - sin * y, ego.y_m + sin * x + cos * y, ego.yaw_rad + yaw], axis=1)


def _to_ego(ego: EgoState, poses: np.ndarray) -> np.ndarray:
    """World poses [n, 3] in the ego frame."""
    cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
    x, y, yaw = poses[:, 0] - ego.x_m, poses[:, 1] - ego.y_m, poses[:, 2] - ego.yaw_rad
    return np.stack([cos * x + sin * y, -sin * x + cos * y, (yaw + np.pi) % (2 * np.pi) - np.pi], axis=1)


def _first(action: ActionChunk, wrong: np.ndarray) -> str:
    frame, column = (int(k) for k in np.argwhere(wrong)[0])
    name = ACTION_SPACES[action.space].columns[column]
    return f"{action.values[frame, column]:g} ({name} of frame {frame})"
