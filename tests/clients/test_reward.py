import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.observation import Observation, StepResult
from clients.protocol.replies import EGO_COLUMNS
from clients.reward import Judge, RewardConfig, RewardError, load_reward, reward_names
from clients.reward_terms import TERMS

DT_S = 1 / 12
FRAMES = 4
QUIET = {
    "collision_with": None,
    "collision_at_fault": False,
    "off_road": False,
    "wrong_way": False,
    "red_light": False,
    "ttc_s": math.inf,
    "lane_offset_m": 0.0,
    "heading_error_rad": 0.0,
    "route_progress_m": 0.0,
    "route_completion": 0.0,
    "speed_limit_mps": 10.0,
}


def seen(kind: Any = StepResult, frames: int = FRAMES, ego: Any = None, **values: Any) -> Any:
    """A chunk in which nothing happens besides `values`: per check or ego column one value, or one per frame."""
    fields = {
        key: values.pop(key) for key in ("outcome", "reason", "terminated", "truncated") if key in values
    }
    rows = np.zeros((frames, len(EGO_COLUMNS)))
    for name in set(values) & set(EGO_COLUMNS):
        rows[:, EGO_COLUMNS.index(name)] = values.pop(name)
    metrics = {name: _each(values.get(name, quiet), frames) for name, quiet in QUIET.items()}
    assert set(values) <= set(QUIET)
    return kind("s", 0, {}, "raw", {}, rows, np.zeros((0, 8)), [], metrics, **fields)


def _each(value: Any, frames: int) -> list[Any]:
    return value if isinstance(value, list) else [value] * frames


def judge(weights: dict[str, float], ends: dict[str, Any] | None = None, **opening: Any) -> Judge:
    config = RewardConfig.model_validate({"weights": weights, "ends": ends or {}})
    return Judge(config, seen(Observation, 1, **opening), DT_S)


@pytest.mark.parametrize(
    ("term", "chunk", "expected"),
    [
        ("progress_m", {"route_progress_m": [1.0, 2.0, 3.0, 4.5]}, 4.5),
        ("completion", {"route_completion": 0.25}, 0.25),
        ("collision", {"collision_with": [None, 7, 7, None]}, 1.0),
        ("collision", {"collision_with": -1}, 1.0),
        ("collision_at_fault", {"collision_with": 7}, 0.0),
        ("collision_at_fault", {"collision_with": 7, "collision_at_fault": [False, True, False, False]}, 1.0),
        ("off_road", {"off_road": [False, True, True, True]}, 1.0),
        ("red_light", {"red_light": [True, False, False, False]}, 1.0),
        ("wrong_way", {"wrong_way": True}, 1.0),
        ("close_call", {"ttc_s": [0.5, 1.0, 1.1, math.inf]}, 0.5),
        ("lane_offset_m", {"lane_offset_m": [-1.0, 1.0, -2.0, 2.0]}, 1.5),
        ("heading_error_rad", {"heading_error_rad": -0.5}, 0.5),
        ("overspeed_mps", {"speed_mps": [9.0, 10.0, 12.0, 14.0]}, 1.5),
        ("speed_mps", {"speed_mps": [1.0, 2.0, 3.0, 4.0]}, 2.5),
        ("accel_mps2", {"accel_mps2": [-1.0, 1.0, -1.0, 1.0]}, 1.0),
        ("jerk_mps3", {"accel_mps2": [1.0, 1.0, 1.0, 1.0]}, 12.0 / 4),
        ("lateral_accel_mps2", {"speed_mps": 4.0, "yaw_rate_radps": -0.5}, 2.0),
        ("steering_rate_radps", {"steering_rad": [0.1, 0.0, 0.0, 0.0]}, 0.2 * 12 / 4),
        ("standing", {"speed_mps": [0.0, 0.05, 0.5, 5.0]}, 0.5),
        ("success", {"outcome": "success", "terminated": True}, 1.0),
        ("failure", {"outcome": "success", "terminated": True}, 0.0),
        ("step", {}, 1.0),
    ],
)
def test_every_term_follows_its_formula(term: str, chunk: dict[str, Any], expected: float) -> None:
    judged = judge({term: 2.0}).judge(seen(**chunk))
    assert judged.reward == pytest.approx(2.0 * expected)
    assert judged.terms == {term: judged.reward}


def test_every_term_is_documented_and_tested() -> None:
    import clients.reward_terms

    for term in TERMS:
        assert f"`{term}`" in (clients.reward_terms.__doc__ or "")


@given(st.lists(st.floats(-5, 20), min_size=1, max_size=6))
def test_what_is_gained_adds_up_over_chunks(gains: list[float]) -> None:
    one = judge({"progress_m": 1.0}, route_progress_m=3.0)
    at_m, total = 3.0, 0.0
    for gain in gains:
        at_m += gain
        total += one.judge(seen(route_progress_m=at_m)).reward
    assert total == pytest.approx(sum(gains), abs=1e-9)


@pytest.mark.parametrize(
    ("ends", "chunk", "reason"),
    [
        ({}, {"collision_with": 3, "collision_at_fault": True}, ""),
        ({"collision": "any"}, {"collision_with": [None, None, None, 3]}, "collision"),
        ({"collision": "at_fault"}, {"collision_with": 3}, ""),
        ({"collision": "at_fault"}, {"collision_with": 3, "collision_at_fault": True}, "collision"),
        ({"red_light": True}, {"red_light": [False, True, False, False]}, "red_light"),
        ({"off_route_m": 3.0}, {"lane_offset_m": [0.0, -3.5, 0.0, 0.0]}, "off_route"),
        ({"off_route_m": 3.0}, {"lane_offset_m": 3.0}, ""),
        ({"off_road_s": 0.3}, {"off_road": True, "speed_mps": 5.0}, "off_road"),
        ({"off_road_s": 0.3}, {"off_road": [True, True, False, True]}, ""),
        ({"wrong_way_s": 0.1}, {"wrong_way": True}, "wrong_way"),
        ({"stuck_s": 0.25}, {"speed_mps": 0.0}, "stuck"),
        ({"stuck_s": 0.5}, {"speed_mps": 0.0}, ""),
    ],
)
def test_rules_end_the_episode_with_their_reason(
    ends: dict[str, Any], chunk: dict[str, Any], reason: str
) -> None:
    judged = judge({"step": 1.0}, ends).judge(seen(**chunk))
    assert (judged.terminated, judged.reason) == (bool(reason), reason)


def test_time_runs_on_from_chunk_to_chunk_until_it_is_interrupted() -> None:
    one = judge({}, {"stuck_s": 1.0})
    assert [one.judge(seen()).terminated for _ in range(4)] == [False, False, False, True]
    one = judge({}, {"stuck_s": 1.0})
    speeds = [0.0, 0.0, 5.0, 0.0, 0.0, 0.0]
    assert not any(one.judge(seen(speed_mps=speed)).terminated for speed in speeds)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ({"terminated": True, "outcome": "failure", "reason": "collision"}, (True, "collision")),
        ({"truncated": True, "outcome": "timeout", "reason": "time_limit"}, (False, "time_limit")),
    ],
)
def test_what_the_server_decides_stands(server: dict[str, Any], expected: tuple[bool, str]) -> None:
    judged = judge({}, {"stuck_s": 0.1}).judge(seen(**server))
    assert (judged.terminated, judged.reason) == expected


def test_every_shipped_reward_loads() -> None:
    assert {"default", "smooth"} <= set(reward_names())
    for name in reward_names():
        assert load_reward(name).weights


def test_a_reward_extends_another_and_replaces_some_of_it(tmp_path: Path) -> None:
    base, own = tmp_path / "base.yaml", tmp_path / "own.yaml"
    base.write_text("extends: default\nweights: {off_road: -9}\nends: {red_light: true}\n")
    own.write_text(f"extends: {base}\nweights: {{step: -0.1}}\n")
    reward = load_reward(own)
    assert reward.weights == load_reward("default").weights | {"off_road": -9.0, "step": -0.1}
    assert reward.ends.red_light
    assert load_reward({"extends": str(own), "weights": {"step": 0.0}}).weights["step"] == 0.0


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("nope", "expected a reward of default, smooth or a YAML file, got 'nope'"),
        ("nope.yaml", "does not exist"),
        ({"weights": {"progress": 1.0}}, "expected terms of progress_m"),
        ({"weights": {"step": float("nan")}}, "weights.step"),
        ({"weights": {}, "ends": {"crash": True}}, "ends.crash: expected one of collision"),
        ({"weights": {}, "ends": {"stuck_s": -1}}, "ends.stuck_s"),
        ({"weight": {}}, "expected one of weights, ends"),
        ({}, "weights"),
        ({"extends": "default", "weights": [1]}, "weights"),
    ],
)
def test_what_is_no_reward_is_refused(reward: Any, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        load_reward(reward)


@pytest.mark.parametrize("text", ["extends: {here}\nweights: {{}}\n", "- 1\n", "weights: [}}\n"])
def test_broken_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text.format(here=path))
    with pytest.raises(RewardError, match="expected"):
        load_reward(path)
