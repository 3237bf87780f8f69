"""Curves as polylines: float64 [N, 2] arrays of points, metres. Left of the driving direction is positive."""

import numpy as np


def trace(
    start: tuple[float, float], yaw_rad: float, curvature_per_m: np.ndarray, step_m: float = 1.0
) -> np.ndarray:
    """The curve with a given curvature at every step: [N] -> [N + 1, 2]. Left bends are positive."""
    turned = np.cumsum(curvature_per_m) * step_m
    heading = yaw_rad + turned - 0.5 * curvature_per_m * step_m  # at the middle of each step
    moves = step_m * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    return np.asarray(np.array(start) + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)]))


def straight(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The two-point curve [2, 2]."""
    return np.array([start, end], dtype=float)


def arc_lengths(line: np.ndarray) -> np.ndarray:
    """Distance along the curve at every point: [N, 2] -> [N]."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])


def resample(line: np.ndarray, step_m: float) -> np.ndarray:
    """The same curve with points evenly spaced about `step_m` apart: [N, 2] -> [M, 2]."""
    s = arc_lengths(line)
    even = np.linspace(0.0, s[-1], max(2, round(s[-1] / step_m) + 1))
    return np.stack([np.interp(even, s, line[:, k]) for k in (0, 1)], axis=1)


def headings(line: np.ndarray) -> np.ndarray:
    """Unwrapped heading at every point: [N, 2] -> [N] rad."""
    if len(line) == 2:
        return np.full(2, np.arctan2(*(line[1] - line[0])[::-1]))
    tangent = np.gradient(line, arc_lengths(line), axis=0, edge_order=2)  # bends begin as they go on
    return np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))


def offset(line: np.ndarray, left_m: float | np.ndarray) -> np.ndarray:
    """The parallel curve `left_m` to the left (a number or one per point): [N, 2] -> [N, 2]."""
    yaw = headings(line)
    normal = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    return np.asarray(line + np.reshape(left_m, (-1, 1)) * normal)


def section(line: np.ndarray, start_m: float, end_m: float) -> np.ndarray:
    """The part of a curve between two arc lengths: [N, 2] -> [M, 2]."""
    s = arc_lengths(line)
    inside = s[(s > start_m + 0.2) & (s < end_m - 0.2)]
    at = np.concatenate([[start_m], inside, [end_m]])
    return np.stack([np.interp(at, s, line[:, k]) for k in (0, 1)], axis=1)


def pose_at(line: np.ndarray, s_m: float, left_m: float = 0.0) -> tuple[float, float, float]:
    """x, y and yaw at an arc length and a left offset."""
    x, y, yaw = poses_at(line, np.array([s_m]), left_m)[0]
    return float(x), float(y), float(yaw)


def poses_at(line: np.ndarray, s_m: np.ndarray, left_m: float | np.ndarray = 0.0) -> np.ndarray:
    """x, y and yaw at arc lengths [N] and left offsets (a number or [N]): [N, 3]."""
    s = arc_lengths(line)
    yaw = np.interp(s_m, s, headings(line))
    x, y = (np.interp(s_m, s, line[:, k]) for k in (0, 1))
    return np.stack([x - left_m * np.sin(yaw), y + left_m * np.cos(yaw), yaw], axis=1)


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and between them a quintic whose slope and curvature vanish at both ends."""
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t**3 * (10.0 - 15.0 * t + 6.0 * t**2))


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """A moving average with a bell-shaped window, ends repeated: turns steps of curvature into easings."""
    weight = np.hanning(window + 2)[1:-1]
    padded = np.pad(values, window // 2, mode="edge")
    return np.convolve(padded, weight / weight.sum(), mode="same")[window // 2 : window // 2 + len(values)]


def corner(
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    tangent_m: float,
    step_m: float = 0.5,
    easing: float = 0.3,
) -> np.ndarray:
    """A turn from one pose (x, y, yaw) to another whose lines meet: straight, eased arc, straight.

    Args:
        start: pose before the turn.
        end: pose after the turn.
        tangent_m: how far before the meeting point of both lines the turn begins (less where there is no room).
        step_m: spacing of the points.
        easing: share of the turn's curvature that is spent on growing and falling, 0 is a plain arc.

    Returns:
        float64 [N, 2], from `start` to `end`.
    """
    a, b = np.array(start[:2]), np.array(end[:2])
    u, v = (np.array([np.cos(yaw), np.sin(yaw)]) for yaw in (start[2], end[2]))
    to_meeting, from_meeting = np.linalg.solve(np.stack([u, v], axis=1), b - a)
    tangent = min(tangent_m, to_meeting, from_meeting)
    angle = (end[2] - start[2] + np.pi) % (2 * np.pi) - np.pi
    turn = _unit_turn(angle, easing, max(16, round(3 * tangent / step_m)))
    rotation = np.array([[u[0], -u[1]], [u[1], u[0]]])
    turn = a + (to_meeting - tangent) * u + tangent * turn @ rotation.T
    lead = [a[None]] if to_meeting - tangent > 1e-6 else []
    tail = [b[None]] if from_meeting - tangent > 1e-6 else []
    return resample(np.concatenate([*lead, turn, *tail]), step_m)


def half_turn(
    start: tuple[float, float, float], gap_m: float, step_m: float = 0.5, easing: float = 0.15
) -> np.ndarray:
    """A u-turn to the left from a pose (x, y, yaw), which ends `gap_m` beside its start: float64 [N, 2]."""
    n = max(32, round(2 * gap_m / step_m))
    turn = trace((0.0, 0.0), 0.0, _eased(n, easing) * np.pi)
    turn *= gap_m / turn[-1, 1]
    cos, sin = np.cos(start[2]), np.sin(start[2])
    return resample(np.array(start[:2]) + turn @ np.array([[cos, sin], [-sin, cos]]), step_m)


def _unit_turn(angle_rad: float, easing: float, n: int) -> np.ndarray:
    """A symmetric turn from the origin along x whose tangents meet at (1, 0)."""
    turn = trace((0.0, 0.0), 0.0, angle_rad * _eased(n, easing))
    meeting = turn[-1, 0] - turn[-1, 1] / np.tan(angle_rad)
    return np.asarray(turn / meeting)


def _eased(n: int, easing: float) -> np.ndarray:
    """Curvature of a turn by one radian in `n` unit steps, growing from 0 and falling to 0 again: [n]."""
    along = (np.arange(n) + 0.5) / n
    ramp = max(easing / (1.0 + easing), 1e-6)
    shape = np.clip(np.minimum(along, 1.0 - along) / ramp, 0.0, 1.0)
    return np.asarray(shape / shape.sum())
