"""What docs/evaluation.md shows is true: its examples run, its options, suites and names exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from clients.eval.commands import register
from clients.eval.suite import load_suite, suite_names
from clients.eval.testing import FakeServer
from clients.policies import EpisodeInfo, load_policy, policy_names
from clients.policies.commands import register as register_policies

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
PYTHON, YAML = (re.findall(rf"```{name}\n(.*?)```", PAGE, re.S) for name in ("python", "yaml"))


def test_the_policy_drives() -> None:
    names: dict[str, Any] = {}
    exec(PYTHON[0], names)
    policy = names["Cautious"]()
    session = FakeServer().connect().session
    seen = session.reset("clear")
    policy.reset(EpisodeInfo("clear", 0, 4, 1 / 12, {}))
    assert session.step([policy.act(seen)] * 4).chunk == 0


def test_the_python_example_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = FakeServer(scenarios=tuple(entry.scenario for entry in load_suite("smoke").scenarios))
    for module in ("runner", "harness"):
        monkeypatch.setattr(f"clients.eval.{module}.connect", server.connect)
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[1].replace("slots=4", 'slots=4, url="fake"'), {})
    said = capsys.readouterr().out
    assert "'mean': " in said
    assert re.search(r"-?\d\.\d+ \[-?\d\.\d+, -?\d\.\d+\]$", said.strip())


def test_the_yaml_examples_load(tmp_path: Path) -> None:
    policy, suite = YAML
    (tmp_path / "policy.yaml").write_text(policy)
    assert load_policy(str(tmp_path / "policy.yaml")).name == "my_vla"
    plans = load_suite(yaml.safe_load(suite)).rollouts()
    assert len(plans) == 3 + 5 + 3


def test_the_suites_are_those_that_are_shipped_with_their_counts() -> None:
    for name, worlds in re.findall(r"^\| `(\w+)` \| ([\d x]+) \|", PAGE, re.M):
        scenarios, _, repeats = worlds.partition(" x ")
        plans = load_suite(name).rollouts()
        assert len(plans) == int(scenarios) * int(repeats or 1), name
    assert all(f"| `{name}` |" in PAGE for name in suite_names())


def test_every_policy_and_option_that_is_named_exists() -> None:
    app = typer.Typer()
    register(app)
    register_policies(app)
    shown = "".join(
        CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output
        for words in (["eval"], ["eval", "compare"], ["eval", "export"], ["policy", "serve"])
    )
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)):
        assert option in shown, option
    bundled = set(policy_names()) - {"schedule", "replay", "remote"}
    for name in bundled:
        assert re.search(rf"`{name}[?`]", PAGE), name
