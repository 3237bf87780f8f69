import numpy as np
import pytest

from worldmodel.errors import ActionError
from worldmodel.scene import scene as scene_module
from worldmodel.scene.actions import ActionChunk
from worldmodel.scene.expert import Expert
from worldmodel.scene.scenario import Scenario, ScenarioError
from worldmodel.scene.scene import Scene
from worldmodel.scene.shapes import boxes_overlap
from worldmodel.snapshot import pack, unpack

ROUTES = {
    "highway": "keep_1",
    "two_way": "keep",
    "merge": "ramp",
    "exit": "exit",
    "roundabout": "second",
    "intersection": "left",
    "u_turn": "u_turn",
    "rural": "keep",
    "urban": "straight",
}
SMALL = {"highway": {"length_m": 400}, "urban": {"length_m": 250, "junctions": 2}}


def make_scenario(kind="intersection", **more):
    data = {"name": "test", "title": "Test", "group": "turning", "route": ROUTES[kind], **more}
    return Scenario.model_validate({"map": {"kind": kind, **SMALL.get(kind, {})}, **data})


def controls(steering=0.0, accel=0.0):
    return ActionChunk("controls", np.tile(np.float32([steering, accel]), (4, 1)))


def drive(scene, chunks, accel=0.3):
    return [frame for k in range(chunks) for frame in scene.step(controls(0.01 * (k % 3 - 1), accel))]


# State --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ROUTES)
def test_a_restored_scene_goes_on_bit_for_bit(kind):
    events = [{"kind": "crossing_pedestrian", "trigger": {"time_s": 1}, "at_s_m": 60}]
    scenario = make_scenario(kind, traffic={"per_km": 12, "most": 14}, events=events)
    scene = Scene(scenario, 3)
    drive(scene, 5)
    snapshot = pack(scene.state_dict())  # refuses anything but plain data and numeric arrays
    expected = drive(scene, 6)
    other = Scene(scenario, 3)
    other.load_state_dict(unpack(snapshot))
    assert pack(other.state_dict()) == snapshot
    assert drive(other, 6) == expected
    assert other.checks == scene.checks
    assert pack(other.state_dict()) == pack(scene.state_dict())


def test_the_seed_decides_the_scene():
    scenario = make_scenario("urban")
    a, b, c = Scene(scenario, 1), Scene(scenario, 1), Scene(scenario, 2)
    assert a.frame == b.frame
    assert drive(a, 4) == drive(b, 4)
    assert a.frame.agents != c.frame.agents


def test_a_fork_shares_nothing_that_changes():
    scene = Scene(make_scenario("urban"), 1)
    drive(scene, 2)
    fork, twin = scene.fork(), scene.fork()
    before = pack(scene.state_dict())
    drive(fork, 4, accel=-3.0)
    assert pack(scene.state_dict()) == before
    assert drive(scene, 4) == drive(twin, 4)


def test_frames_that_were_handed_out_stay():
    scene = Scene(make_scenario(), 1)
    first = scene.step(controls())
    kept = [(f.ego.x_m, f.agents[0].x_m) for f in first]
    drive(scene, 3)
    assert [(f.ego.x_m, f.agents[0].x_m) for f in first] == kept


def test_a_refused_action_changes_nothing():
    scene = Scene(make_scenario(), 1)
    before = pack(scene.state_dict())
    with pytest.raises(ActionError, match="expected finite actions"):
        scene.step(controls(np.nan))
    assert pack(scene.state_dict()) == before


def test_a_failure_inside_a_step_changes_nothing(monkeypatch):
    scene, twin = Scene(make_scenario(), 1), Scene(make_scenario(), 1)
    drive(scene, 2), drive(twin, 2)
    before, calls = pack(scene.state_dict()), []

    def fail_late(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(scene.pedestrians, "step", fail_late)
        with pytest.raises(RuntimeError, match="broken"):
            scene.step(controls())
    assert pack(scene.state_dict()) == before
    assert drive(scene, 3) == drive(twin, 3)


def test_frames_count_and_time_passes():
    scene = Scene(make_scenario(), 1)
    assert (scene.frame.index, len(scene.checks)) == (0, 1)
    frames = scene.step(controls())
    assert [f.index for f in frames] == [1, 2, 3, 4]
    assert frames[-1].time_s == pytest.approx(1 / 3)
    assert len(scene.checks) == 4


# Outcome ------------------------------------------------------------------------------------------------------------


def test_the_goal_is_success_and_stays_so():
    scene = Scene(make_scenario("two_way", traffic={"per_km": 0}, success={"distance_m": 20}), 0)
    while scene.outcome == "running":
        scene.step(controls(accel=1.0))
    assert (scene.outcome, scene.reason) == ("success", "goal")
    drive(scene, 6, accel=4.0)
    scene.step(controls(0.6))
    assert (scene.outcome, scene.reason) == ("success", "goal")


def test_time_runs_out():
    scene = Scene(make_scenario("two_way", traffic={"per_km": 0}, duration_s=2.0), 0)
    while scene.outcome == "running":
        scene.step(controls(accel=-4.0))
    assert (scene.outcome, scene.reason, scene.frame.index) == ("timeout", "time_limit", 24)


def test_leaving_the_road_is_failure():
    scene = Scene(make_scenario("two_way", traffic={"per_km": 0}), 0)
    for _ in range(30):
        scene.step(controls(-0.1, 1.0))
    assert (scene.outcome, scene.reason) == ("failure", "off_road")


def test_hitting_a_standing_vehicle_is_failure():
    spawns = [{"ahead_m": 30, "parked": True}]
    scene = Scene(make_scenario("two_way", traffic={"per_km": 0, "spawns": spawns}), 0)
    while scene.outcome == "running":
        scene.step(controls(accel=1.0))
    assert (scene.outcome, scene.reason) == ("failure", "collision")


# Places -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spawns", "message"),
    [
        ([{"ahead_m": 2}], r"scenario test: traffic\.spawns\.0: expected a free place"),
        ([{"ahead_m": 30}, {"ahead_m": 33}], r"traffic\.spawns\.1: expected a free place"),
        ([{"ahead_m": 30, "side": "left"}], "expected a lane on the left of the ego's, got none there"),
        ([{"lane": ["a", "b", 0], "s_m": 3}], r"expected a lane of \[.*'e\.in'.*\], got \('a', 'b', 0\)"),
        ([{"lane": ["w.in", "e.out", 0], "s_m": 2999}], r"expected s_m in \[0, \d+\], got 2999"),
        ([{"ahead_m": -500}], "expected a place on the route, got ahead_m -500"),
    ],
)
def test_spawns_without_a_free_place_are_refused(spawns, message):
    with pytest.raises(ScenarioError, match=message):
        Scene(make_scenario("two_way", traffic={"spawns": spawns}), 0)


def test_an_unknown_route_is_refused_with_those_of_the_map():
    with pytest.raises(ScenarioError, match="expected a route of keep, keep_back, got 'home'"):
        Scene(make_scenario("two_way", route="home"), 0)


def test_random_vehicles_do_not_overlap():
    for seed in range(4):
        scene = Scene(make_scenario("urban", traffic={"per_km": 40, "most": 40}), seed)
        boxes = np.array(
            [
                (a.x_m, a.y_m, a.yaw_rad, a.length_m, a.width_m)
                for a in scene.frame.agents
                if a.kind != "pedestrian"
            ]
        )
        for k in range(len(boxes)):
            assert not boxes_overlap(boxes[k], boxes[k + 1 :]).any()


def test_agents_have_unique_ids_in_a_fixed_order():
    frame = Scene(make_scenario("urban"), 2).frame
    ids = [agent.id for agent in frame.agents]
    assert len(set(ids)) == len(ids)
    assert any(agent.parked for agent in frame.agents)
    assert any(agent.kind == "pedestrian" for agent in frame.agents)


def test_nobody_starts_before_a_red_light_that_cannot_be_obeyed():
    for seed in range(8):
        scene = Scene(make_scenario(ego={"s_m": 110, "speed_mps": 10}, traffic={"per_km": 0}), seed)
        light, way = scene.route.next_light(scene.graph, scene.ego_s_m)
        assert way < 25.0
        assert scene.frame.lights[light] == "green"


def test_worlds_are_shared_between_sessions():
    scenario = make_scenario("urban")
    assert Scene(scenario, 1).world is Scene(scenario, 5).world  # both draw variant 1 of 4
    assert scene_module.lane_graph(Scene(scenario, 1).world) is Scene(scenario, 1).graph


# Behaviour ----------------------------------------------------------------------------------------------------------


def vehicles_touch(scene):
    boxes = scene.traffic.boxes()[:, :5]
    return any(boxes_overlap(boxes[k], boxes[k + 1 :]).any() for k in range(len(boxes)))


@pytest.mark.parametrize("kind", ["urban", "roundabout", "highway"])
def test_traffic_does_not_crash_around_a_standing_ego(kind):
    scene = Scene(make_scenario(kind, traffic={"per_km": 8, "most": 16}, ego={"speed_mps": 3}), 5)
    moved = 0.0
    for _ in range(40):
        frames = scene.step(controls(accel=-4.0))
        assert not vehicles_touch(scene)
        assert all(c.collision_with is None or not c.collision_at_fault for c in scene.checks)
        moved += sum(a.speed_mps for a in frames[-1].agents)
    assert moved > 0.0


def test_traffic_stops_behind_a_standing_ego():
    spawns = [{"ahead_m": -25, "speed_mps": 8}]
    scene = Scene(make_scenario("two_way", traffic={"per_km": 0, "spawns": spawns}, ego={"speed_mps": 3}), 0)
    for _ in range(30):
        scene.step(controls(accel=-4.0))
    follower = scene.frame.agents[0]
    assert follower.speed_mps < 0.1
    assert follower.braking
    assert all(checks.collision_with is None for checks in scene.checks)


def test_traffic_stops_at_red_and_goes_on_green():
    spawns = [{"lane": ["e.in", "j.e.stop", 0], "s_m": 80, "speed_mps": 10}]
    scene = Scene(
        make_scenario(traffic={"per_km": 0, "respawn": False, "spawns": spawns}, ego={"speed_mps": 0}), 0
    )
    lane = scene.graph[("e.in", "j.e.stop", 0)]
    group = scene.signals.group_of[lane.light]
    while scene.signals.state_of(group) != "red":
        scene.signals.step()
    scene.frame = scene._frame(0, scene.frame.ego)
    vehicle = scene.traffic.vehicles[0]
    while scene.signals.state_of(group) == "red":
        scene.step(controls())
        assert vehicle.plan[0] == ("e.in", "j.e.stop", 0)
        assert vehicle.s_m + vehicle.body.length_m / 2 < lane.length_m
    for _ in range(18):
        scene.step(controls())
    assert vehicle not in scene.traffic.vehicles or vehicle.plan[0] != ("e.in", "j.e.stop", 0)


def test_traffic_waits_for_a_person_on_the_road():
    spawns = [{"ahead_m": -20, "speed_mps": 8}]
    scenario = make_scenario(
        "two_way",
        traffic={"per_km": 0, "spawns": spawns},
        route="keep_back",
        ego={"speed_mps": 0, "s_m": 300},
    )
    scene = Scene(scenario, 0)
    x, y, _yaw = scene.path.pose_at(scene.ego_s_m - 6.0)
    line = np.array([(x, y), (x + 0.1, y)])
    scene.pedestrians.add_actor(line, 1.0)
    for _ in range(24):
        scene.step(controls())
    person, vehicle = scene.frame.agents[-1], scene.frame.agents[0]
    assert vehicle.speed_mps < 0.1
    assert np.hypot(person.x_m - vehicle.x_m, person.y_m - vehicle.y_m) > vehicle.length_m / 2


def test_vehicles_that_leave_are_replaced_out_of_sight():
    scene = Scene(make_scenario("urban", traffic={"per_km": 8}), 1)
    known = {v.id: v for v in scene.traffic.vehicles}
    for _ in range(90):
        scene.step(controls(accel=-4.0))
        for vehicle in scene.traffic.vehicles:
            if vehicle.id not in known:
                known[vehicle.id] = vehicle
                ego = scene.frame.ego
                assert np.hypot(*(vehicle.position - (ego.x_m, ego.y_m))) > 90.0
    assert len(known) > len(scene.traffic.vehicles)


def test_walkers_stay_off_the_road_and_crossers_reach_the_other_side():
    scene = Scene(make_scenario(traffic={"per_km": 0}, pedestrians={"walkers": 10, "crossers": 8}), 2)
    reached = set()
    for _ in range(90):
        scene.step(controls(accel=-4.0))
        reached |= {p.id for p in scene.pedestrians.people if p.role == "crosser" and p.walking}
    assert reached
    corners = [
        (a.x_m, a.y_m)
        for a, p in zip(scene.pedestrians.agents(), scene.pedestrians.people, strict=True)
        if p.role == "walker"
    ]
    assert len(corners) == 10
    assert not scene._checker._world.on_road(np.array(corners)).any()


# Events -------------------------------------------------------------------------------------------------------------


def run_expert(scene, seconds):
    expert = Expert(scene)
    while scene.frame.time_s < seconds and scene.outcome == "running":
        scene.step(expert.act())


def test_a_cut_in_ends_on_the_egos_lane():
    event = {"kind": "cut_in", "trigger": {"time_s": 2}, "side": "left", "gap_m": 15}
    scene = Scene(
        make_scenario("highway", traffic={"per_km": 0}, events=[event], ego={"s_m": 60, "speed_mps": 20}), 0
    )
    actor = scene.traffic.vehicles[0]
    assert actor.plan[0][2] == 0
    run_expert(scene, 9.0)
    assert scene._scripts[0].started_s >= 2.0
    assert actor.plan[0][2] == 1
    assert abs(scene.path.project(*actor.position).offset_m) < 1.0


def test_the_leader_brakes_hard():
    event = {"kind": "hard_brake", "trigger": {"time_gap_s": 5}, "brake_mps2": 6, "duration_s": 1.0}
    spawns = [{"ahead_m": 25, "speed_mps": 10}]
    scene = Scene(
        make_scenario(
            "two_way", traffic={"per_km": 0, "spawns": spawns}, events=[event], ego={"speed_mps": 10}
        ),
        0,
    )
    hardest = 0.0
    for _ in range(9):
        run_expert(scene, scene.frame.time_s + 0.3)
        hardest = min(hardest, scene.traffic.vehicles[0].action["acceleration"])
    assert hardest == -6.0


def test_a_pedestrian_crosses_in_front_of_the_ego():
    event = {
        "kind": "crossing_pedestrian",
        "trigger": {"ego_s_m": 10},
        "at_s_m": 60,
        "side": "right",
        "speed_mps": 2,
    }
    scene = Scene(make_scenario("two_way", traffic={"per_km": 0}, events=[event], ego={"speed_mps": 10}), 0)
    person = scene.pedestrians.agents()[0]
    before = scene.path.project(person.x_m, person.y_m).offset_m
    run_expert(scene, 8.0)
    person = scene.pedestrians.agents()[0]
    after = scene.path.project(person.x_m, person.y_m).offset_m
    assert before < -4.0
    assert after > 6.0
    assert scene.outcome == "running"


def test_a_light_turns_red_before_the_ego():
    event = {"kind": "light_change", "trigger": {"time_gap_s": 4}, "to": "red"}
    scene = Scene(make_scenario(events=[event], ego={"s_m": 30}, traffic={"per_km": 0}), 1)
    run_expert(scene, 12.0)
    assert scene._scripts[0].started_s is not None
    assert not any(c.red_light for c in scene.checks)


@pytest.mark.parametrize(
    ("kind", "event", "message"),
    [
        ("two_way", {"kind": "cut_in", "trigger": {"time_s": 1}}, r"events\.0: expected a lane on the left"),
        (
            "highway",
            {"kind": "light_change", "trigger": {"time_s": 1}},
            r"events\.0: expected a light on the route",
        ),
    ],
)
def test_an_event_that_the_map_cannot_have_is_refused(kind, event, message):
    with pytest.raises(ScenarioError, match=message):
        Scene(make_scenario(kind, events=[event]), 0)
