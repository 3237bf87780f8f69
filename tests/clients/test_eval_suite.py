"""Suites: what they drive, and what is said to one that makes no sense; results folders and their lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from clients.eval.results import Result, ResultsError, RunFolder
from clients.eval.suite import SuiteError, load_suite, suite_names, world_seed
from clients.policies import load_policy
from worldmodel.scene.scenario import scenario_names

SHIPPED = ("counterfactual", "heldout", "heldout_easy", "highway", "smoke", "uturn", "urban")


def test_the_shipped_suites_name_scenarios_and_policies_that_exist() -> None:
    assert suite_names() == tuple(sorted(SHIPPED))
    for name in SHIPPED:
        suite = load_suite(name)
        assert {entry.scenario for entry in suite.scenarios} <= set(scenario_names())
        keys = [key for plan in suite.rollouts() for key in plan.keys.values()]
        assert len(set(keys)) == len(keys)
        for entry in suite.scenarios:
            for spec in (entry.decision.branches if entry.decision else {}).values():
                assert spec == "policy" or load_policy(spec)


def test_worlds_depend_on_suite_seed_scenario_and_repeat_and_on_nothing_else() -> None:
    plans = load_suite(
        {"name": "a", "repeats": 2, "scenarios": ["x", {"scenario": "y", "seeds": [5]}]}
    ).rollouts()
    assert [plan.seed for plan in plans] == [world_seed(0, "x", 0), world_seed(0, "x", 1), 5]
    other = load_suite({"name": "b", "repeats": 3, "scenarios": ["x"]}).rollouts()
    assert [plan.seed for plan in other[:2]] == [plan.seed for plan in plans[:2]]
    assert world_seed(0, "x", 0) == 735800428  # never to change: results of years refer to it
    assert len({world_seed(s, n, r) for s in range(3) for n in "xy" for r in range(5)}) == 30


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scenarios": ["x"]}, "name"),
        ({"name": "a", "scenarios": []}, "scenarios"),
        ({"name": "a", "scenario": ["x"]}, "scenario: expected one of name, title, .*got 'scenario'"),
        (
            {"name": "a", "scenarios": [{"scenario": "x", "seed": 1}]},
            "expected one of scenario, group,.*got 'seed'",
        ),
        ({"name": "a", "scenarios": ["x"], "options": {"camera": ["f"]}}, "expected one of cameras, steps"),
        ({"name": "a", "scenarios": ["x", "x"]}, "every scenario once, got x"),
        (
            {
                "name": "a",
                "scenarios": [{"scenario": "x", "decision": {"at_s": 1, "branches": {"a": "idle"}}}],
            },
            "branches",
        ),
        (
            {"name": "a", "scenarios": [{"scenario": "x", "decision": {"at": 1, "branches": {}}}]},
            "expected one of at_s, for_s, branches, got 'at'",
        ),
        ({"name": "a", "repeats": 0, "scenarios": ["x"]}, "repeats"),
    ],
)
def test_a_malformed_suite_names_the_key_and_the_valid_ones(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        load_suite(values)


def test_a_suite_that_is_not_there_or_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"expected a suite of counterfactual, .* or a YAML file, got 'smok'"
    ):
        load_suite("smok")
    with pytest.raises(SuiteError, match="does not exist"):
        load_suite("smok.yaml")
    for text in ("{", "- a", "name: [", "\x00"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(SuiteError, match=r"bad.yaml"):
            load_suite(tmp_path / "bad.yaml")


def result(key: str, **values: Any) -> Result:
    return Result(
        **({"key": key, "status": "done", "scenario": "x", "group": "g", "seed": 1, "repeat": 0} | values)
    )


ABOUT = {"suite": {"name": "a", "scenarios": ["x"]}, "policy": {"name": "idle"}, "server": {"model": "m"}}


def test_lines_come_back_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.begin(ABOUT, resume=False) == []
    for line in (result("a"), result("b", status="infrastructure_failed"), result("b", scores={"pdms": 0.5})):
        folder.append(line)
    assert folder.results() == [result("a"), result("b", scores={"pdms": 0.5})]
    assert folder.begin(ABOUT, resume=True) == folder.results()


def test_a_half_written_last_line_is_dropped_and_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(ABOUT, resume=False)
    folder.append(result("a"))
    whole = folder.results_path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        folder.results_path.write_bytes(whole + whole[:cut])
        assert folder.results() == [result("a")]
        assert folder.cut_bytes() == cut
        folder.begin(ABOUT, resume=True)
        assert folder.results_path.read_bytes() == whole


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(ABOUT, resume=False)
    for line in ("{", '{"key": "a"}', "[]"):
        folder.results_path.write_text(f"{line}\n")
        with pytest.raises(ResultsError, match=r"results.jsonl:1: expected a result"):
            folder.begin(ABOUT, resume=True)


def test_only_the_same_run_is_resumed_and_none_is_overwritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(ABOUT, resume=False)
    with pytest.raises(ResultsError, match="expected --resume"):
        folder.begin(ABOUT, resume=False)
    with pytest.raises(ResultsError, match=r"policy \(.*idle.* there, .*stop.* now\)"):
        folder.begin({**ABOUT, "policy": {"name": "stop"}}, resume=True)
    (tmp_path / "run.json").write_text(json.dumps({**ABOUT, "format": 99}))
    with pytest.raises(ResultsError, match="expected format 1, got 99"):
        folder.about()
    with pytest.raises(ResultsError, match=r"with run.json"):
        RunFolder(tmp_path / "elsewhere").about()
