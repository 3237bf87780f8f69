import numpy as np
import pytest

from worldmodel.scene.actions import validate
from worldmodel.scene.expert import DriverStyle, Expert
from worldmodel.scene.scenario import Scenario, load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.scene.trial import run_trial


def make_scene(kind="two_way", route="keep", seed=0, **more):
    data = {"name": "test", "title": "Test", "group": "highway", "map": {"kind": kind}, "route": route}
    return Scene(Scenario.model_validate({**data, "traffic": {"per_km": 0}, **more}), seed)


def drive(scene, seconds, style=None):
    """Frames and checks of an expert's drive."""
    expert, frames, checks = Expert(scene, style), [], []
    while scene.frame.time_s < seconds and scene.outcome == "running":
        action = expert.act()
        validate(action)
        frames += scene.step(action)
        checks += scene.checks
    return frames, checks


@pytest.mark.parametrize(
    ("scenario", "seed"),
    [
        ("urban_light_turns_red", 0),
        ("highway_cut_in", 1),
        ("merge_ramp", 0),
        ("roundabout_straight", 0),
        ("u_turn", 1),
    ],
)
def test_the_expert_arrives_without_a_violation(scenario, seed):
    trial = run_trial(scenario, seed)
    assert trial.scores.outcome == "success"
    assert trial.violations == ()
    assert trial.scores.driving_score == 1.0


def test_it_keeps_to_the_middle_of_a_winding_road_at_a_comfortable_pace():
    frames, checks = drive(make_scene("rural", ego={"s_m": 40, "speed_mps": 10}), 20.0)
    assert max(abs(c.lane_offset_m) for c in checks) < 0.35
    assert max(abs(f.ego.speed_mps * f.ego.yaw_rate_radps) for f in frames) < 3.2
    assert all(f.ego.speed_mps <= c.speed_limit_mps + 0.8 for f, c in zip(frames, checks, strict=True))


def test_it_stops_behind_a_standing_vehicle_and_stays_comfortable():
    spawns = [{"ahead_m": 90, "parked": True}]
    frames, _ = drive(make_scene(traffic={"per_km": 0, "spawns": spawns}, ego={"speed_mps": 14}), 16.0)
    last = frames[-1]
    gap = last.agents[0].x_m - last.ego.x_m - 3.75 - last.agents[0].length_m / 2
    assert last.ego.speed_mps < 0.1
    assert 2.0 < gap < 6.0
    assert min(f.ego.accel_mps2 for f in frames) > -4.05
    assert np.abs(np.diff([f.ego.accel_mps2 for f in frames])).max() * 12 < 25  # the last jerk, to a stand


def test_it_does_nothing_to_the_scene_and_remembers_nothing():
    scene = Scene(load_scenario("left_turn_lights"), 2)
    veteran, state = Expert(scene), scene.state_dict()
    first = veteran.act()
    assert np.array_equal(first.values, veteran.act().values)
    assert str(scene.state_dict()) == str(state)
    for _ in range(12):
        scene.step(veteran.act())
    assert np.array_equal(Expert(scene.fork()).act().values, veteran.act().values)


def test_styles_change_the_drive():
    scene = make_scene(ego={"speed_mps": 15})
    frames, checks = drive(scene, 8.0, DriverStyle(offset_m=-0.8, speed_share=0.6))
    assert checks[-1].lane_offset_m == pytest.approx(-0.8, abs=0.1)
    assert frames[-1].ego.speed_mps == pytest.approx(0.6 * checks[-1].speed_limit_mps, rel=0.05)


def test_a_blind_driver_hits_what_the_expert_stops_for():
    more = {"traffic": {"per_km": 0, "spawns": [{"ahead_m": 60, "parked": True}]}, "ego": {"speed_mps": 14}}
    scene = make_scene(**more)
    drive(scene, 10.0, DriverStyle(sees=False))
    assert (scene.outcome, scene.reason) == ("failure", "collision")
