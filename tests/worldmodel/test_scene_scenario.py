import json
from pathlib import Path

import pytest

from worldmodel.preset_files import PresetError
from worldmodel.scene.conditions import draw_conditions
from worldmodel.scene.scenario import (
    Scenario,
    ScenarioError,
    load_scenario,
    scenario_json_schema,
    scenario_names,
)

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = "name: mine\ntitle: Mine\ngroup: highway\nmap: {kind: highway}\nroute: keep_1\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_minimal_file_is_enough(file):
    scenario = load_scenario(file(MINIMAL))
    assert scenario.map.kind == "highway"
    assert scenario.duration_s == 40.0


def test_a_scenario_survives_json(file):
    for name in scenario_names():
        scenario = load_scenario(name)
        assert Scenario.model_validate(json.loads(scenario.model_dump_json())) == scenario


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("foo: 3\n", r"mine\.yaml: expected a key of duration_s, ego, events, .* in the scenario, got 'foo'"),
        ("traffic: {density: 3}\n", "expected a key of lane_changes, .*per_km.* in traffic, got 'density'"),
        ("traffic: {spawns: [{ahed_m: 3}]}\n", r"expected a key of ahead_m, .* in traffic\.spawns\.0, got 'ahed_m'"),
        ("events: [{kind: cut_in, trigger: {at: 3}}]\n", "expected a key of ego_s_m, time_gap_s, time_s in .*, got 'at'"),
        ("events: [{kind: flood}]\n", "'cut_in', 'hard_brake', 'crossing_pedestrian', 'light_change'"),
        ("events: [{kind: hard_brake, trigger: {time_s: 1, ego_s_m: 2}}]\n", r"expected one of .*, got \['time_s', 'ego_s_m'\]"),
        ("weather: hail\n", "weather: Input should be 'clear', 'cloudy', 'rain' or 'fog', got 'hail'"),
        ("ego: {speed_mps: [9, 3]}\n", r"ego\.speed_mps: expected low <= high, got \[9, 3\]"),
        ("traffic: {spawns: [{kind: car}]}\n", "expected either ahead_m, or lane and s_m"),
        ("traffic: {per_km: .nan}\n", "per_km"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_is_refused_with_what_would_be(file, more, message):
    with pytest.raises(ScenarioError, match=message):
        load_scenario(file(MINIMAL + more))


def test_an_unknown_map_key_lists_those_of_its_kind(file):
    with pytest.raises(ScenarioError, match=r"expected a key of .*median_m.* in map\.highway, got 'lane'"):
        load_scenario(file(MINIMAL.replace("{kind: highway}", "{kind: highway, lane: 3}")))


def test_files_that_are_no_yaml_mapping_are_refused(file):
    with pytest.raises(ScenarioError, match="expected a mapping of scenario keys, got list"):
        load_scenario(file("- 1\n- 2\n"))
    with pytest.raises(ScenarioError, match="expected YAML"):
        load_scenario(file("a: [1\n"))


def test_an_unknown_preset_lists_the_catalogue():
    with pytest.raises(PresetError, match=r"expected one of the scenarios country_road, .*, got 'moon'"):
        load_scenario("moon")


def test_the_published_schema_is_fresh():
    published = (ROOT / "docs" / "schemas" / "scenario.json").read_text()
    assert published == scenario_json_schema(), "run: roadloop scenarios schema docs/schemas/scenario.json"


def test_the_catalogue_covers_groups_maps_and_conditions():
    scenarios = [load_scenario(name) for name in scenario_names()]
    assert [s.name for s in scenarios] == list(scenario_names())
    assert len(scenarios) >= 24
    for group in ("urban_street", "highway", "turning"):
        chosen = [s for s in scenarios if s.group == group]
        assert len(chosen) >= 7
        assert 0.2 <= sum(s.split == "heldout" for s in chosen) / len(chosen) <= 0.5
    assert len({s.map.kind for s in scenarios}) == 9
    assert {event.kind for s in scenarios for event in s.events} == {
        "cut_in",
        "hard_brake",
        "crossing_pedestrian",
        "light_change",
    }
    assert {s.weather for s in scenarios} == {"clear", "cloudy", "rain", "fog"}
    assert {s.time_of_day for s in scenarios} == {"day", "dusk", "night"}


def test_conditions_are_drawn_from_the_seed(file):
    text = MINIMAL + "randomise: {weather: [rain, fog], per_km: [2, 9], map_variants: 3}\n"
    scenario = load_scenario(file(text))
    drawn = [draw_conditions(scenario, seed) for seed in range(20)]
    assert drawn == [draw_conditions(scenario, seed) for seed in range(20)]
    assert {c.atmosphere.weather for c in drawn} == {"rain", "fog"}
    assert {c.map_seed for c in drawn} == {0, 1, 2}
    assert all(2 <= c.per_km <= 9 for c in drawn)
    assert len({c.start_s_m for c in drawn}) == 20


def test_fixing_one_condition_leaves_the_others(file):
    free = load_scenario(file(MINIMAL + "randomise: {weather: [rain, fog]}\n"))
    fixed = load_scenario(file(MINIMAL))
    for seed in range(5):
        assert draw_conditions(free, seed).start_s_m == draw_conditions(fixed, seed).start_s_m
