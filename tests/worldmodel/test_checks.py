"""Driving checks on hand-computed cases: a straight two-way road with one lane each way, and a crossing road."""

import dataclasses
import json
import math
import time

import numpy as np
import pytest
from highway_env.road.lane import StraightLane
from highway_env.road.road import RoadNetwork

from worldmodel.scene.checks import (
    STATIC,
    EpisodeChecker,
    FrameChecks,
    crosses_stop_line,
)
from worldmodel.scene.path import ReferencePath
from worldmodel.scene.state import AgentState, EgoState, LightState, SceneFrame
from worldmodel.scene.world import StaticWorld, Structure, Surface, TrafficLight

STOP_LINE = np.array([[60.0, -4.0], [60.0, 0.0]])  # across the eastbound lane, seen from the west


def road_world() -> StaticWorld:
    """Eastbound lane y in [-4, 0], westbound y in [0, 4], from x = 0 to 200; a wall stands north of it at x = 100."""
    network = RoadNetwork()
    network.add_lane("west", "east", StraightLane([0, -2], [200, -2], width=4))
    network.add_lane("east", "west", StraightLane([200, 2], [0, 2], width=4))
    halves = tuple(
        np.array([[0.0, low], [200.0, low], [200.0, low + 4], [0.0, low + 4]]) for low in (-4.0, 0.0)
    )
    return StaticWorld(
        name="straight",
        network=network,
        drivable=halves,
        surfaces=tuple(Surface("asphalt", half) for half in halves),
        markings=(),
        structures=(Structure("wall", 100.0, 5.0, 0.0, 10.0, 1.0, 2.0, (200, 200, 200)),),
        lights=(TrafficLight(60, -5, math.pi, 4, STOP_LINE, (("west", "east", 0),)),),
    )


@pytest.fixture(scope="module")
def world() -> StaticWorld:
    return road_world()


@pytest.fixture(scope="module")
def path() -> ReferencePath:
    x = np.arange(0.0, 201.0)
    points = np.stack([x, np.full_like(x, -2.0)], axis=1)
    return ReferencePath(points, np.full_like(x, 13.9), np.full_like(x, 2.0), (("west", "east", 0),))


@pytest.fixture
def checker(world: StaticWorld, path: ReferencePath) -> EpisodeChecker:
    return EpisodeChecker(world, path)


def ego(x: float = 20.0, y: float = -2.0, yaw: float = 0.0, speed: float = 10.0) -> EgoState:
    """An ego whose box has its middle at (x, y)."""
    return EgoState(x - 1.4 * math.cos(yaw), y - 1.4 * math.sin(yaw), yaw, speed)


def car(id: int, x: float, y: float, yaw: float = 0.0, speed: float = 0.0, length: float = 4.7) -> AgentState:
    return AgentState(id, "car", x, y, yaw, speed, length, 1.9, 1.5, (200, 30, 30))


def frame(state: EgoState, *agents: AgentState, light: LightState = "green", index: int = 0) -> SceneFrame:
    return SceneFrame(index, index / 12, state, agents, (light,))


def test_an_ego_in_its_lane_with_nobody_around_has_nothing_wrong(checker: EpisodeChecker) -> None:
    assert checker.check(frame(ego(y=-1.8))) == FrameChecks(
        collision_with=None,
        collision_at_fault=False,
        off_road=False,
        wrong_way=False,
        red_light=False,
        ttc_s=math.inf,
        lane_offset_m=pytest.approx(0.2),
        heading_error_rad=pytest.approx(0.0),
        route_progress_m=pytest.approx(18.6),
        route_completion=0.0,
        speed_limit_mps=pytest.approx(13.9),
    )


# --- collisions and whose fault -------------------------------------------------------------------------------------


def test_running_into_a_parked_car_is_at_fault(checker: EpisodeChecker) -> None:
    checks = checker.check(frame(ego(x=20), car(7, x=24.6, y=-2)))
    assert (checks.collision_with, checks.collision_at_fault, checks.ttc_s) == (7, True, 0.0)


def test_being_hit_from_behind_is_not_at_fault(checker: EpisodeChecker) -> None:
    checks = checker.check(frame(ego(x=20, speed=5), car(7, x=15.4, y=-2, speed=12)))
    assert (checks.collision_with, checks.collision_at_fault, checks.ttc_s) == (7, False, math.inf)


def test_backing_into_a_moving_car_is_at_fault(checker: EpisodeChecker) -> None:
    checks = checker.check(frame(ego(x=20, speed=-2), car(7, x=15.4, y=-2, speed=1)))
    assert checks.collision_at_fault


def test_a_standing_ego_is_not_at_fault_when_run_into_head_on(checker: EpisodeChecker) -> None:
    checks = checker.check(frame(ego(x=20, speed=0), car(7, x=24.6, y=-2, yaw=math.pi, speed=5)))
    assert (checks.collision_with, checks.collision_at_fault) == (7, False)


def test_hitting_a_moving_car_with_the_front_bumper_is_at_fault(checker: EpisodeChecker) -> None:
    checks = checker.check(frame(ego(x=20), car(7, x=24.6, y=-2, speed=3)))
    assert checks.collision_at_fault


@pytest.mark.parametrize(("y", "fault"), [(-1.0, False), (-0.8, True)])
def test_a_contact_at_the_side_is_at_fault_only_outside_the_own_lane(
    checker: EpisodeChecker, y: float, fault: bool
) -> None:
    # The ego is 1.9 m wide: with its middle at -1.0 its left side is at -0.05, inside the lane that ends at 0.
    checks = checker.check(frame(ego(x=20, y=y), car(7, x=20, y=0.75, yaw=math.pi, speed=8)))
    assert (checks.collision_with, checks.collision_at_fault) == (7, fault)


def test_fault_is_settled_at_the_first_contact(checker: EpisodeChecker) -> None:
    assert checker.check(frame(ego(x=20, speed=8), car(7, x=24.6, y=-2, speed=2))).collision_at_fault
    assert checker.check(frame(ego(x=20.1, speed=0), car(7, x=24.6, y=-2, speed=2))).collision_at_fault


def test_the_contact_that_is_at_fault_is_named_first(checker: EpisodeChecker) -> None:
    behind, ahead = car(1, x=15.4, y=-2, speed=12), car(9, x=24.6, y=-2)
    assert checker.check(frame(ego(x=20), behind, ahead)).collision_with == 9


def test_touching_a_wall_is_a_contact_with_static_structure(checker: EpisodeChecker) -> None:
    assert checker.check(frame(ego(x=100, y=3.5))).collision_with is None
    checks = checker.check(frame(ego(x=100, y=3.6)))
    assert (checks.collision_with, checks.collision_at_fault) == (STATIC, True)
    assert checker.check(frame(ego(x=100, y=3.0))).collision_with is None


def test_only_the_trunk_of_a_tree_and_the_post_of_a_sign_are_in_the_way(
    world: StaticWorld, path: ReferencePath
) -> None:
    tree = Structure("tree", 20.0, -4.5, 0.0, 6.0, 6.0, 8.0, (20, 90, 20))
    sign = dataclasses.replace(tree, kind="sign", x_m=40.0)
    checker = EpisodeChecker(dataclasses.replace(world, structures=(tree, sign)), path)
    assert checker.check(frame(ego(x=20, y=-3.0))).collision_with is None
    assert checker.check(frame(ego(x=20, y=-3.4))).collision_with == STATIC
    assert checker.check(frame(ego(x=40, y=-3.4))).collision_with is None


# --- road, lanes, lights --------------------------------------------------------------------------------------------


def test_leaving_the_road_by_one_corner_is_off_road(checker: EpisodeChecker) -> None:
    assert not checker.check(frame(ego(y=-3.04))).off_road
    assert checker.check(frame(ego(y=-3.04, yaw=-0.03))).off_road  # only the front right corner is out
    assert checker.check(frame(ego(y=-3.1))).off_road


def test_the_seam_between_two_drivable_polygons_is_road(checker: EpisodeChecker) -> None:
    assert not checker.check(frame(ego(y=-0.95))).off_road  # the left side runs exactly along the seam


def test_driving_in_the_opposite_lane_is_wrong_way(checker: EpisodeChecker) -> None:
    assert not checker.check(frame(ego(y=-0.1))).wrong_way
    assert checker.check(frame(ego(y=0.1))).wrong_way
    assert not checker.check(frame(ego(y=2, yaw=math.pi))).wrong_way
    assert not checker.check(frame(ego(y=2, yaw=math.pi / 2))).wrong_way  # crossing it is not
    assert not checker.check(frame(ego(y=9))).wrong_way  # nor is being in no lane at all


@pytest.mark.parametrize(("light", "crossed"), [("red", True), ("yellow", False), ("green", False)])
def test_only_crossing_the_stop_line_on_red_counts(
    checker: EpisodeChecker, light: LightState, crossed: bool
) -> None:
    # The front bumper is 2.35 m ahead of the middle: at 59.85, 60.35, 60.85 along the road.
    verdicts = [checker.check(frame(ego(x=x), light=light)).red_light for x in (57.5, 58.0, 58.5)]
    assert verdicts == [False, crossed, False]


def test_standing_before_the_stop_line_backing_over_it_or_passing_beside_it_is_fine() -> None:
    assert crosses_stop_line((59, -2), (61, -2), STOP_LINE)
    assert not crosses_stop_line((59, -2), (59.9, -2), STOP_LINE)
    assert not crosses_stop_line((61, -2), (59, -2), STOP_LINE)
    assert not crosses_stop_line((59, 2), (61, 2), STOP_LINE)


# --- time to collision ----------------------------------------------------------------------------------------------


def test_ttc_is_the_gap_over_the_closing_speed(checker: EpisodeChecker) -> None:
    # Bumper to bumper 24.7 - 4.7 = 20 m, closing at 10 - 2 = 8 m/s.
    assert checker.check(frame(ego(x=20), car(1, x=44.7, y=-2, speed=2))).ttc_s == pytest.approx(2.5)


def test_ttc_takes_the_soonest_and_ignores_who_is_behind_beside_or_too_far(checker: EpisodeChecker) -> None:
    behind, oncoming = car(1, x=10, y=-2, speed=30), car(2, x=40, y=2, yaw=math.pi, speed=10)
    assert checker.check(frame(ego(x=20), behind, oncoming)).ttc_s == math.inf
    near, far = car(3, x=44.7, y=-2, speed=2), car(4, x=34.7, y=-2, speed=8)
    assert checker.check(frame(ego(x=20), near, far)).ttc_s == pytest.approx(2.5)
    assert (
        checker.check(frame(ego(x=20), car(5, x=110, y=-2, speed=0))).ttc_s == math.inf
    )  # 8.53 s: beyond 8 s


def test_a_car_at_the_side_counts_only_while_the_ego_is_between_lanes(checker: EpisodeChecker) -> None:
    beside = car(1, x=19, y=1.6, yaw=-0.5, speed=10)
    assert checker.check(frame(ego(x=20, y=-2), beside)).ttc_s == math.inf
    assert checker.check(frame(ego(x=20, y=-0.6), beside)).ttc_s < 1.0


def test_a_standing_ego_has_no_time_to_collision(checker: EpisodeChecker) -> None:
    assert checker.check(frame(ego(speed=0), car(1, x=40, y=-2, yaw=math.pi, speed=10))).ttc_s == math.inf


# --- route ----------------------------------------------------------------------------------------------------------


def test_completion_is_the_furthest_point_between_start_and_goal(
    world: StaticWorld, path: ReferencePath
) -> None:
    checker = EpisodeChecker(world, path, start_s_m=20.0, goal_s_m=60.0)
    completed = [checker.check(frame(ego(x=x + 1.4))).route_completion for x in (20, 30, 25, 50, 65)]
    assert completed == pytest.approx([0.0, 0.25, 0.25, 0.75, 1.0])


def test_lane_offset_and_heading_error_are_signed(checker: EpisodeChecker) -> None:
    checks = checker.check(frame(EgoState(30.0, -2.5, 0.1, 10.0)))
    assert (checks.lane_offset_m, checks.heading_error_rad) == (pytest.approx(-0.5), pytest.approx(0.1))


# --- state and speed ------------------------------------------------------------------------------------------------


def test_a_checker_restored_from_json_continues_as_the_first_would(
    world: StaticWorld, path: ReferencePath
) -> None:
    def episode(k: int) -> SceneFrame:
        return frame(ego(x=50 + 0.9 * k), car(7, x=61, y=-2, speed=1.0), light="red", index=k)

    first, second = EpisodeChecker(world, path), EpisodeChecker(world, path)
    for k in range(8):
        first.check(episode(k))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    following = [(first.check(episode(k)), second.check(episode(k))) for k in range(8, 14)]
    assert any(a.red_light for a, _ in following)
    assert all(a == b for a, b in following)


def test_a_frame_with_25_agents_is_judged_within_its_share_of_a_chunk(checker: EpisodeChecker) -> None:
    agents = [car(k, x=30 + 7 * k, y=2 if k % 2 else -2, speed=5) for k in range(25)]
    times = []
    for k in range(60):
        start = time.perf_counter()
        checker.check(frame(ego(x=20 + 0.05 * k, speed=0.6), *agents))
        times.append(time.perf_counter() - start)
    assert np.median(times) < 0.003  # about 0.4 ms alone; the margin is for a busy machine
