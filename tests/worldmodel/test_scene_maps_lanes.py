"""Curves and the lanes along them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldmodel.scene.maps.curve import (
    arc_lengths,
    corner,
    half_turn,
    headings,
    offset,
    section,
    smoothed,
    trace,
)
from worldmodel.scene.maps.lanes import CurveLane, LaneOptions, make_lane

WINDING = trace((5.0, -3.0), 0.4, smoothed(np.repeat([0.02, -0.02, 0.0, 0.015, -0.01], 120), 41))
U_TURN = half_turn((0.0, 0.0, 0.3), 14.0)


@pytest.mark.parametrize("points", [WINDING, U_TURN], ids=["winding", "u-turn"])
@given(share=st.floats(0.0, 1.0), left=st.floats(-3.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_a_curve_lane_finds_back_the_coordinates_of_a_position(
    points: np.ndarray, share: float, left: float
) -> None:
    lane = CurveLane(points)
    s, across = lane.local_coordinates(lane.position(share * lane.length, left))
    assert s == pytest.approx(share * lane.length, abs=0.25)
    assert across == pytest.approx(left, abs=0.05)


@pytest.mark.parametrize("points", [WINDING, U_TURN], ids=["winding", "u-turn"])
def test_a_curve_lane_goes_on_straight_beyond_its_ends(points: np.ndarray) -> None:
    lane = CurveLane(points)
    for s in (-8.0, lane.length + 8.0):
        assert lane.local_coordinates(lane.position(s, 1.0)) == pytest.approx((s, 1.0), abs=0.1)


def test_lanes_count_lateral_positions_to_the_left() -> None:
    lane = make_lane(np.array([[0.0, 0.0], [10.0, 0.0]]), LaneOptions())
    assert lane.position(4.0, 1.5) == pytest.approx([4.0, 1.5])
    bend = make_lane(trace((0.0, 0.0), 0.0, np.full(20, 0.05)), LaneOptions())
    assert bend.position(0.0, 1.5) == pytest.approx([0.0, 1.5], abs=0.05)


@given(
    turn=st.floats(0.5, 2.2), side=st.sampled_from([-1, 1]), before=st.floats(12, 30), after=st.floats(12, 30)
)
@settings(max_examples=60, deadline=None)
def test_a_corner_joins_two_poses_without_a_kink(turn: float, side: int, before: float, after: float) -> None:
    angle = side * turn
    end = (before + after * np.cos(angle), after * np.sin(angle), angle)
    line = corner((0.0, 0.0, 0.0), end, 10.0)
    yaw, steps = headings(line), np.diff(arc_lengths(line))
    assert line[0] == pytest.approx([0.0, 0.0])
    assert line[-1] == pytest.approx(end[:2])
    assert (yaw[0], yaw[-1]) == pytest.approx((0.0, angle), abs=0.05)
    radius = 10.0 / np.tan(turn / 2)  # of the plain arc; easing makes the middle tighter
    assert (np.abs(np.diff(yaw)) / steps).max() < 1.5 / radius


def test_a_half_turn_ends_beside_its_start() -> None:
    line = half_turn((0.0, 0.0, 0.0), 13.0)
    assert line[-1] == pytest.approx([0.0, 13.0], abs=1e-6)
    assert headings(line)[-1] == pytest.approx(np.pi, abs=0.05)


def test_parallel_curves_keep_their_distance_and_sections_their_length() -> None:
    gap = np.linalg.norm(offset(WINDING, 3.5) - WINDING, axis=1)
    assert gap == pytest.approx(np.full(len(WINDING), 3.5))
    assert arc_lengths(section(WINDING, 12.3, 99.9))[-1] == pytest.approx(87.6, abs=0.01)
