"""The view from above: the ego in the middle with its heading up, others where they are."""

import dataclasses
import math

import numpy as np
import pytest
from highway_env.road.road import RoadNetwork

from worldmodel.reference.birdseye import BirdsEye, painted_pieces
from worldmodel.scene.state import AgentState, EgoState, SceneFrame
from worldmodel.scene.world import Marking, StaticWorld, Structure, Surface

GRASS, ASPHALT, RED, BUILDING = (96, 118, 74), (70, 70, 74), (250, 10, 10), (9, 9, 250)


def world() -> StaticWorld:
    """A road along x, 8 m wide, with a building north of it at x = 20."""
    road = np.array([[-200.0, -4], [200, -4], [200, 4], [-200, 4]])
    house = Structure("building", 20, 15, 0, 10, 10, 9, BUILDING)
    return StaticWorld("road", RoadNetwork(), (road,), (Surface("asphalt", road),), (), (house,))


@pytest.mark.parametrize("yaw", [0.0, math.pi])
def test_ahead_is_up_and_left_is_left(yaw: float) -> None:
    ego = EgoState(0.0, 0.0, yaw, 5.0)
    sign = 1 if yaw == 0.0 else -1
    car = AgentState(1, "truck", sign * 20, 0, 0, 0, 12, 6, 3, RED)
    picture = BirdsEye(world(), height=144, width=144, metres=72).draw(SceneFrame(0, 0.0, ego, (car,), ()))

    def at(ahead: float, left: float) -> tuple[int, ...]:
        return tuple(picture[round(144 * 0.68 - 2 * ahead), round(72 - 2 * left)].tolist())

    assert at(18.0, 1.5) == RED
    assert at(30.0, 0.0) == ASPHALT
    assert at(-10.0, 8.0) == GRASS
    assert at(20.0, 15.0) == (BUILDING if yaw == 0.0 else GRASS)
    assert at(20.0, -15.0) == GRASS


def test_dashes_and_stripes_are_painted_apart() -> None:
    line = np.array([[0.0, 0.0], [30.0, 0.0]])
    dashed = Marking("lane_line", line, 0.15, (3.0, 9.0))
    assert [(piece[0, 0], piece[-1, 0]) for piece in painted_pieces(dashed)] == [(0, 3), (12, 15), (24, 27)]
    assert len(painted_pieces(dataclasses.replace(dashed, dash_m=None))) == 1
    crossing = Marking("crossing", line[:, ::-1], 4.0)  # across a road along x: stripes along x
    stripes = painted_pieces(crossing)
    assert len(stripes) == 30
    assert all(np.ptp(stripe[:, 0]) == 4.0 and np.ptp(stripe[:, 1]) == 0.0 for stripe in stripes)
