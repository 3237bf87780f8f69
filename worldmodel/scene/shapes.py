"""Oriented boxes on the ground: corners, overlap, and the time until two moving boxes touch. Pure functions.

A box is a row (x, y, yaw, length, width): middle [m], heading [rad], size along and across the heading [m].
"""

import numpy as np

_UNIT_CORNERS = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]])


def box_corners(box: np.ndarray) -> np.ndarray:
    """Corners of one box, float64 [4, 2]: front left, front right, rear right, rear left."""
    x, y, yaw, length, width = box
    forward, left = _UNIT_CORNERS[:, 0] * length, _UNIT_CORNERS[:, 1] * width
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([x + cos * forward - sin * left, y + sin * forward + cos * left], axis=1)


def boxes_overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether one box touches each of the others, by the separating axis theorem.

    Two convex shapes are apart exactly when their projections are apart on the normal of some edge; two boxes have
    four such axes (Gottschalk et al., OBBTree, 1996, in two dimensions). Boxes that only share an edge touch.

    Args:
        box: float64 [5].
        others: float64 [N, 5].

    Returns:
        bool [N].
    """
    gap, reach, _ = _project_on_axes(box, others, np.zeros((len(others), 2)))
    return np.asarray((np.abs(gap) <= reach).all(axis=0))


def time_to_overlap(
    box: np.ndarray, velocity: np.ndarray, others: np.ndarray, velocities: np.ndarray
) -> np.ndarray:
    """Seconds until one moving box touches each of the others; all keep their velocity and heading.

    Exact: on each separating axis the projections overlap during one interval of time, and the boxes touch while
    all four intervals do.

    Args:
        box: float64 [5].
        velocity: float64 [2], world m/s.
        others: float64 [N, 5].
        velocities: float64 [N, 2], world m/s.

    Returns:
        float64 [N]: 0 where they touch already, inf where they never do.
    """
    gap, reach, closing = _project_on_axes(box, others, np.asarray(velocities) - velocity)
    still = np.abs(closing) < 1e-9
    rate = np.where(still, 1.0, closing)
    first, second = (-reach - gap) / rate, (reach - gap) / rate
    apart = np.abs(gap) > reach
    enter = np.where(still, np.where(apart, np.inf, -np.inf), np.minimum(first, second)).max(axis=0)
    leave = np.where(still, np.inf, np.maximum(first, second)).min(axis=0)
    return np.where((enter <= leave) & (leave >= 0), np.maximum(enter, 0.0), np.inf)


def _project_on_axes(
    box: np.ndarray, others: np.ndarray, relative_velocity: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On the four axes of every pair: signed distance of the middles, sum of the half-sizes, relative speed.

    Each is float64 [4, N]; the axes are the box's own two, then the other's two.
    """
    x, y, yaw, length, width = box
    offset = others[:, :2] - (x, y)
    turn = others[:, 2] - yaw
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    half, half_width = others[:, 3] / 2, others[:, 4] / 2
    own, own_width = length / 2, width / 2
    reach = np.stack(
        [
            own + half * cos + half_width * sin,
            own_width + half * sin + half_width * cos,
            half + own * cos + own_width * sin,
            half_width + own * sin + own_width * cos,
        ]
    )
    own_yaw = np.full(len(others), yaw)
    return _rotate(offset, own_yaw, others[:, 2]), reach, _rotate(relative_velocity, own_yaw, others[:, 2])


def _rotate(vector: np.ndarray, yaw: np.ndarray, other_yaw: np.ndarray) -> np.ndarray:
    """World vectors [N, 2] along and across the two headings: [4, N]."""
    rows = []
    for angle in (yaw, other_yaw):
        cos, sin = np.cos(angle), np.sin(angle)
        rows += [cos * vector[:, 0] + sin * vector[:, 1], -sin * vector[:, 0] + cos * vector[:, 1]]
    return np.stack(rows)
