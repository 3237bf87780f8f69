import json

import pytest
import typer
from typer.testing import CliRunner

from worldmodel.commands import scenarios
from worldmodel.scene.scenario import scenario_json_schema, scenario_names

GOOD = """
name: short
title: A short drive
group: highway
map: {kind: two_way, length_m: 300}
route: keep
traffic: {per_km: 0}
duration_s: 20
success: {distance_m: 60}
"""


@pytest.fixture
def run():
    app = typer.Typer()
    scenarios.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["scenarios", *map(str, arguments)])


@pytest.fixture
def short(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(GOOD)
    return path


def test_list_shows_the_catalogue(run):
    result = run("list")
    assert result.exit_code == 0
    assert all(name in result.output for name in scenario_names())


def test_validate_says_what_is_wrong_and_where(run, short, tmp_path):
    assert run("validate", short).output == f"{short}: fine\n"
    broken = tmp_path / "broken.yaml"
    broken.write_text(GOOD + "wether: rain\n")
    result = run("validate", short, broken)
    assert result.exit_code == 2
    assert f"error: {broken}: expected a key of" in result.output
    assert "got 'wether'" in result.output


def test_validate_builds_the_scene(run, tmp_path):
    clash = tmp_path / "clash.yaml"
    clash.write_text(GOOD.replace("per_km: 0", "spawns: [{ahead_m: 1}]"))
    result = run("validate", clash)
    assert result.exit_code == 2
    assert "traffic.spawns.0: expected a free place" in result.output


def test_schema_is_printed_or_written(run, tmp_path):
    assert json.loads(run("schema").output)["title"] == "Scenario"
    assert run("schema", tmp_path / "deep" / "schema.json").exit_code == 0
    assert (tmp_path / "deep" / "schema.json").read_text() == scenario_json_schema()


def test_expert_writes_a_table_of_scores(run, short, tmp_path):
    page = tmp_path / "page.md"
    result = run("expert", short, "--seeds", 2, "--processes", 1, "--out", page)
    assert result.exit_code == 0, result.output
    assert "2 of 2 drives (100.0%) without a violation" in result.output
    text = page.read_text()
    assert "roadloop scenarios expert --seeds 2" in text
    assert f"| {short} | highway | train | 1.00 | 1.00 |" in text
    assert text.count("| none |") == 1


def test_expert_refuses_an_unknown_scenario(run):
    result = run("expert", "moon", "--processes", 1)
    assert result.exit_code == 2
    assert "expected one of the scenarios" in result.output
