"""Oriented boxes: overlap against brute force and symmetry, and the exact time until two boxes touch."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from worldmodel.scene.shapes import box_corners, boxes_overlap, time_to_overlap

coordinates = st.floats(-6, 6)
angles = st.floats(-math.pi, math.pi)
sizes = st.floats(0.3, 6)
boxes = st.tuples(coordinates, coordinates, angles, sizes, sizes).map(np.array)


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(boxes_overlap(a, b[None])[0])


def clearance(a: np.ndarray, b: np.ndarray) -> float:
    """Brute force: the largest depth of a densely sampled point of `a` inside `b`; negative is a gap."""
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 41), np.linspace(-0.5, 0.5, 41))
    forward, left = u.ravel() * a[3], v.ravel() * a[4]
    x = a[0] + np.cos(a[2]) * forward - np.sin(a[2]) * left - b[0]
    y = a[1] + np.sin(a[2]) * forward + np.cos(a[2]) * left - b[1]
    along, across = np.cos(b[2]) * x + np.sin(b[2]) * y, -np.sin(b[2]) * x + np.cos(b[2]) * y
    return float(np.minimum(b[3] / 2 - np.abs(along), b[4] / 2 - np.abs(across)).max())


def test_corners_go_round_from_the_front_left() -> None:
    corners = box_corners(np.array([10.0, 0.0, math.pi / 2, 4.0, 2.0]))
    np.testing.assert_allclose(corners, [[9, 2], [11, 2], [11, -2], [9, -2]], atol=1e-12)


@pytest.mark.parametrize(("gap", "touching"), [(-0.01, True), (0.01, False)])
def test_boxes_bumper_to_bumper_overlap_only_when_closer_than_their_lengths(
    gap: float, touching: bool
) -> None:
    assert overlap(np.array([0, 0, 0.0, 4, 2]), np.array([4 + gap, 0, math.pi, 4, 2])) is touching


def test_a_corner_reaching_between_two_boxes_axes_is_found_apart() -> None:
    # The axis-aligned bounds overlap here; only the diagonal axis of the turned box separates the two.
    assert not overlap(np.array([0, 0, 0.0, 2, 2]), np.array([2.1, 2.1, math.pi / 4, 2.6, 2.6]))
    assert overlap(np.array([0, 0, 0.0, 2, 2]), np.array([1.9, 1.9, math.pi / 4, 2.6, 2.6]))


@given(a=boxes, b=boxes)
def test_overlap_is_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    assume(abs(clearance(a, b)) > 1e-6)
    assert overlap(a, b) == overlap(b, a)


@given(a=boxes, b=boxes, x=coordinates, y=coordinates, turn=angles)
def test_overlap_does_not_depend_on_where_the_pair_lies(
    a: np.ndarray, b: np.ndarray, x: float, y: float, turn: float
) -> None:
    def moved(box: np.ndarray, grow: float) -> np.ndarray:
        cos, sin = math.cos(turn), math.sin(turn)
        centre = (x + cos * box[0] - sin * box[1], y + sin * box[0] + cos * box[1])
        return np.array([*centre, box[2] + turn, box[3] * grow, box[4] * grow])

    if overlap(a, b):
        assert overlap(moved(a, 1 + 1e-6), moved(b, 1 + 1e-6))
    else:
        assert not overlap(moved(a, 1 - 1e-6), moved(b, 1 - 1e-6))


@given(a=boxes, b=boxes)
@settings(max_examples=300)
def test_overlap_agrees_with_sampled_points(a: np.ndarray, b: np.ndarray) -> None:
    depth = max(clearance(a, b), clearance(b, a))
    if depth > 1e-9:
        assert overlap(a, b)
    elif depth < -0.35:  # beyond what two grids of 41 points can miss
        assert not overlap(a, b)


def test_two_cars_closing_head_on_touch_after_gap_over_closing_speed() -> None:
    ego, other = np.array([0, 0, 0.0, 4, 2]), np.array([[34, 0, math.pi, 4, 2]])
    ttc = time_to_overlap(ego, np.array([8.0, 0]), other, np.array([[-7.0, 0]]))
    np.testing.assert_allclose(ttc, [30 / 15])


def test_boxes_that_pass_beside_each_other_or_draw_apart_never_touch() -> None:
    ego = np.array([0, 0, 0.0, 4, 2])
    others = np.array([[30, 2.1, math.pi, 4, 2], [-10, 0, 0, 4, 2], [10, 0, 0, 4, 2]])
    velocities = np.array([[-5.0, 0], [5, 0], [9, 0]])
    assert np.isinf(time_to_overlap(ego, np.array([8.0, 0]), others, velocities)).all()


@given(
    a=boxes,
    b=boxes,
    velocity=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(np.array),
    horizon=st.floats(0, 3),
)
def test_time_to_overlap_is_the_first_moment_at_which_the_moved_boxes_overlap(
    a: np.ndarray, b: np.ndarray, velocity: np.ndarray, horizon: float
) -> None:
    ttc = float(time_to_overlap(a, np.zeros(2), b[None], velocity[None])[0])

    def at(time_s: float) -> bool:
        return overlap(a, b + np.array([*(velocity * time_s), 0, 0, 0]))

    if horizon < ttc - 1e-6:
        assert not at(horizon)
    if 0 < ttc < 3:
        assert overlap(a * [1, 1, 1, 1 + 1e-6, 1 + 1e-6], b + np.array([*(velocity * ttc), 0, 1e-9, 1e-9]))
