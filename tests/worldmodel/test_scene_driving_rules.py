"""Lanes, corridors, car following, lights and right of way: the rules that traffic and expert share."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.scene.corridor import Boxes, gaps
from worldmodel.scene.idm import MILD_MPS2, IdmParameters, follow_accel, free_term, stop_accel
from worldmodel.scene.lane_graph import lane_graph
from worldmodel.scene.maps import HighwaySpec, IntersectionSpec, MergeSpec, RoundaboutSpec, build_map
from worldmodel.scene.randomness import generator_state, load_generator, make_generator
from worldmodel.scene.right_of_way import Mover, settle, travel_time_s, yields
from worldmodel.scene.signals import Signals
from worldmodel.scene.traffic import must_stop

IDM = IdmParameters()


@pytest.fixture(scope="module")
def crossroads():
    world = build_map(IntersectionSpec(signalised=False), 0)
    return lane_graph(world)


def straight_path(length=60, step=1.0):
    x = np.arange(0.0, length, step)
    return np.stack([x, np.zeros_like(x)], axis=1)[None], x[None]


def box(x, y, yaw=0.0, length=4.0, width=2.0, speed=5.0):
    return Boxes.of(np.array([[x, y, yaw, length, width, speed]]))


# Corridors ----------------------------------------------------------------------------------------------------------


@given(st.floats(6.0, 50.0))
def test_the_gap_to_a_leader_ends_at_its_rear_bumper(x):
    points, s = straight_path()
    gap, speed = gaps(points, s, np.array([1.2]), box(x, 0.3))
    assert gap[0, 0] == pytest.approx(x - 2.0, abs=1e-6)
    assert speed[0, 0] == pytest.approx(5.0)


def test_who_crosses_has_no_speed_along_the_path():
    points, s = straight_path()
    gap, speed = gaps(points, s, np.array([1.2]), box(20.0, 1.0, yaw=math.pi / 2))
    assert gap[0, 0] == pytest.approx(19.0)
    assert speed[0, 0] == pytest.approx(0.0, abs=1e-9)


def test_the_next_lane_is_not_in_the_way():
    points, s = straight_path()
    assert np.isinf(gaps(points, s, np.array([1.25]), box(20.0, 3.5))[0]).all()


# Following ----------------------------------------------------------------------------------------------------------


def test_an_empty_road_is_driven_at_the_wanted_speed():
    assert free_term(0.0, 10.0, IDM) == IDM.accel_mps2
    assert free_term(10.0, 10.0, IDM) == pytest.approx(0.0)
    assert free_term(30.0, 10.0, IDM) == -IDM.brake_mps2


def test_a_cut_in_at_the_same_speed_is_braked_for_mildly():
    assert float(follow_accel(0.0, 25.0, 8.0, 25.0, IDM)) >= -MILD_MPS2


@given(st.floats(2.0, 30.0), st.floats(0.0, 30.0))
def test_following_never_collides(speed, leader):
    gap = 5.0 + 1.3 * speed + max(speed - leader, 0.0) ** 2 / 8.0
    for _ in range(300):
        accel = max(float(follow_accel(1.0, speed, gap, leader, IDM)), -8.0)
        gap += (leader - speed) / 12
        speed = max(speed + accel / 12, 0.0)
        assert gap > 0.0


@given(st.floats(1.0, 15.0), st.floats(1.2, 2.0))
def test_a_stop_ends_before_the_line(speed, room):
    way = room * speed**2 / (2 * 2.2) + 1.0
    for _ in range(400):
        accel = min(stop_accel(speed, way, 2.2), 0.0)
        assert accel > -4.0
        way -= speed / 12
        speed = max(speed + accel / 12, 0.0)
    assert way > -0.3
    assert speed < 0.5 or way > 1.0


def test_far_from_a_line_nothing_is_limited():
    assert stop_accel(5.0, 100.0, 2.0) == math.inf


# Lanes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [HighwaySpec(length_m=300), RoundaboutSpec(), IntersectionSpec()])
def test_walking_along_a_lane_agrees_with_searching_it(spec):
    graph = lane_graph(build_map(spec, 1))
    for info in list(graph.lanes.values())[:12]:
        for s in np.linspace(0.0, info.length_m, 7):
            x, y = info.lane.position(s, 0.6)
            found, left = info.project(float(x), float(y), min(s + 5.0, info.length_m))
            assert (found, left) == (pytest.approx(s, abs=0.3), pytest.approx(0.6, abs=0.05))


def test_the_nearest_lane_has_the_right_direction():
    graph = lane_graph(build_map(HighwaySpec(length_m=300, curvature=0.0), 0))
    for index, info in graph.lanes.items():
        x, y = info.lane.position(150.0, 0.0)
        assert graph.nearest(x, y, info.lane.heading_at(150.0)) == index


def test_an_acceleration_lane_is_known_to_end():
    graph = lane_graph(build_map(MergeSpec(), 0))
    assert [i for i, info in graph.lanes.items() if info.dead_end] == [("merge.start", "merge.end", 2)]


def test_crossing_turns_conflict_and_followers_do_not(crossroads):
    through = crossroads[("j.w.stop", "j.e.go", 0)]
    others = {c.other for c in through.conflicts}
    assert ("j.s.stop", "j.n.go", 0) in others
    assert ("j.e.stop", "j.s.go", 0) in others  # oncoming, turning left
    assert ("j.e.stop", "j.w.go", 0) not in others  # oncoming, straight on
    assert ("j.e.go", "e.out", 0) not in others


# Right of way -------------------------------------------------------------------------------------------------------


def mover(id, lane, gap, speed=8.0, **more):
    return Mover(id, [(lane, gap)], speed, 4.5, set(), **more)


MAJOR, MINOR, LEFT = ("j.w.stop", "j.e.go", 0), ("j.s.stop", "j.n.go", 0), ("j.e.stop", "j.s.go", 0)


def test_the_minor_street_waits_for_the_major_one(crossroads):
    assert yields(crossroads[MINOR], crossroads[MAJOR]) == 1
    minor, major = mover(1, MINOR, 5.0, 2.0), mover(2, MAJOR, 20.0, 10.0)
    settle(crossroads, [minor, major])
    assert minor.hold_m < 5.0
    assert major.hold_m == math.inf
    assert MAJOR in major.cleared


def test_a_left_turn_waits_for_oncoming_traffic(crossroads):
    left, oncoming = mover(1, LEFT, 6.0, 4.0), mover(2, MAJOR, 15.0, 10.0)
    settle(crossroads, [left, oncoming])
    assert left.hold_m < 6.0


def test_a_gap_that_is_long_enough_is_taken(crossroads):
    minor, major = mover(1, MINOR, 3.0, 3.0), mover(2, MAJOR, 150.0, 10.0)
    settle(crossroads, [minor, major])
    assert MINOR in minor.cleared


def test_clearance_is_not_taken_away(crossroads):
    minor, major = mover(1, MINOR, 4.0, 3.0), mover(2, MAJOR, 12.0, 8.0)
    minor.cleared.add(MINOR)
    settle(crossroads, [minor, major])
    assert MINOR in minor.cleared
    assert MAJOR not in major.cleared


def test_of_two_without_right_of_way_one_goes(crossroads):
    opposite = ("j.n.stop", "j.s.go", 0), ("j.s.stop", "j.w.go", 0)
    pair = [mover(k, lane, 3.0, 1.0) for k, lane in enumerate(opposite)]
    settle(crossroads, pair)
    assert sum(bool(m.cleared) for m in pair) == 1


def test_who_stands_although_it_may_go_is_passed(crossroads):
    major = mover(1, MAJOR, 5.0, 0.0, waited_s=3.0, asks=False)
    minor = mover(2, MINOR, 2.0, 0.0)
    settle(crossroads, [minor, major])
    assert MINOR in minor.cleared


def test_nobody_enters_a_junction_that_cannot_be_left(crossroads):
    blocked = mover(1, MAJOR, 3.0, 5.0, free_m=10.0)
    settle(crossroads, [blocked])
    assert blocked.hold_m < 3.0


@given(st.floats(0.0, 200.0), st.floats(0.0, 20.0))
def test_more_speed_means_less_time(distance, speed):
    assert travel_time_s(distance, speed, 14.0) >= travel_time_s(distance, speed + 1.0, 14.0) - 1e-9


# Lights -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def signals():
    return Signals.of(build_map(IntersectionSpec(), 0), make_generator(3, "signals"))


def test_crossing_groups_are_never_open_together(signals):
    seen = set()
    for _ in range(int(12 * signals.cycle_s) + 1):
        states = [signals.state_of(group) for group in signals.groups]
        assert states.count("red") >= len(states) - 1
        seen.update(states)
        signals.step()
    assert seen == {"red", "yellow", "green"}


def test_yellow_comes_between_green_and_red(signals):
    shown = []
    for _ in range(int(24 * signals.cycle_s)):
        state = signals.state_of(0)
        if not shown or shown[-1] != state:
            shown.append(state)
        signals.step()
    assert all(
        b == {"green": "yellow", "yellow": "red", "red": "green"}[a] for a, b in itertools.pairwise(shown)
    )


def test_a_forced_red_starts_with_yellow_and_a_forced_green_lets_others_finish(signals):
    while signals.state_of(0) != "green":
        signals.step()
    signals.turn(0, "red")
    assert signals.state_of(0) == "yellow"
    while signals.state_of(1) != "green":
        signals.step()
    signals.turn(0, "green")
    assert (signals.state_of(0), signals.state_of(1)) == ("red", "yellow")
    for _ in range(12 * 5):
        signals.step()
    assert signals.state_of(0) == "green"


def test_red_lasts_as_long_as_it_says(signals):
    while signals.state_of(1) != "red":
        signals.step()
    left = signals.red_for_s(1)
    for _ in range(math.ceil(12 * left)):
        signals.step()
    assert signals.state_of(1) == "green"


def test_red_stops_and_yellow_stops_who_can():
    world = build_map(IntersectionSpec(), 0)
    graph = lane_graph(world)
    light = 0
    lane = world.lights[light].lanes[0]
    lights = ["green"] * len(world.lights)
    assert not must_stop(graph, lane, 20.0, 10.0, lights)
    lights[light] = "yellow"
    assert must_stop(graph, lane, 40.0, 10.0, lights)
    assert not must_stop(graph, lane, 10.0, 10.0, lights)
    assert not must_stop(graph, lane, 2.0, 0.0, lights, waited_s=5.0)  # clears the junction
    lights[light] = "red"
    assert must_stop(graph, lane, 10.0, 10.0, lights)
    assert must_stop(graph, lane, 2.0, 0.0, lights, waited_s=5.0)


# Randomness ---------------------------------------------------------------------------------------------------------


def test_a_generator_goes_on_from_its_state():
    generator = make_generator(5, "traffic")
    generator.integers(7)
    copy = load_generator(generator_state(generator))
    assert np.array_equal(generator.uniform(size=9), copy.uniform(size=9))
    assert generator.integers(1000) == copy.integers(1000)


def test_streams_of_one_seed_differ():
    assert make_generator(1, "a").uniform() != make_generator(1, "b").uniform()
