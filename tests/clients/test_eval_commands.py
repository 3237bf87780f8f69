"""`roadloop eval` and `roadloop policy` as somebody types them: what they say, what they write, how they exit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from clients.errors import ConnectionLostError
from clients.eval.commands import register
from clients.eval.testing import FakeServer
from clients.policies.commands import register as register_policies
from clients.protocol import ErrorCode, ProtocolError

SUITE = "name: two\nrepeats: 2\nscenarios: [clear, blocked]\n"


@pytest.fixture
def suite(tmp_path: Path) -> str:
    (tmp_path / "two.yaml").write_text(SUITE)
    return str(tmp_path / "two.yaml")


def call(*words: str | Path) -> Result:
    app = typer.Typer()
    register(app)
    register_policies(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def evaluate(suite: str, out: Path, *words: str | Path, policy: str = "constant?accel=1") -> Result:
    return call("eval", "--suite", suite, "--policy", policy, "--out", out, "--url", "fake", *words)


def test_a_run_says_what_came_out_and_writes_the_page(world: FakeServer, suite: str, tmp_path: Path) -> None:
    ran = evaluate(suite, tmp_path / "a", "--slots", "2")
    assert ran.exit_code == 0, ran.output
    for words in ("Driving score", "4 done", "slots were busy", "report.html"):
        assert words in ran.output
    assert (tmp_path / "a/report.html").exists()
    assert json.loads((tmp_path / "a/summary.json").read_text())["counts"] == {"done": 4}


def test_runs_are_resumed_scored_again_compared_and_exported(
    world: FakeServer, suite: str, tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert evaluate(suite, a).exit_code == 0
    assert evaluate(suite, b, policy="idle").exit_code == 0
    driven = len(world.steps)
    refused = evaluate(suite, a)
    assert (refused.exit_code, "--resume" in refused.output) == (2, True)
    assert evaluate(suite, a, "--resume").exit_code == 0
    before = (a / "results.jsonl").read_text()
    assert call("eval", "--out", a, "--redo-scores").exit_code == 0
    assert len(world.steps) == driven
    assert (a / "results.jsonl").read_text() == before
    compared = call("eval", "compare", a, b, "--html", tmp_path / "c.html")
    assert compared.exit_code == 0, compared.output
    assert "4 shared rollouts" in compared.output
    assert (tmp_path / "c.html").exists()
    assert call("eval", "report", a, "--out", tmp_path / "p.html").exit_code == 0
    exported = call("eval", "export", a, tmp_path / "tables")
    assert "rollouts.parquet" in exported.output
    assert call("eval", "export", a, tmp_path / "x", "--format", "rosbag").exit_code == 2


def test_options_on_the_command_line_replace_those_of_the_suite(
    world: FakeServer, suite: str, tmp_path: Path
) -> None:
    ran = evaluate(
        suite, tmp_path / "a", "--repeats", "1", "--rig", "front1", "--camera", "front", "--tier", "fast"
    )
    assert ran.exit_code == 0, ran.output
    about = json.loads((tmp_path / "a/run.json").read_text())["suite"]
    assert (about["rig"], about["repeats"], about["options"]) == (
        "front1",
        1,
        {"cameras": ["front"], "tier": "fast"},
    )
    assert "2 done" in ran.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--suite", "nope", "--policy", "idle"], "expected a suite of counterfactual"),
        (["--suite", "smoke", "--policy", "nope"], "expected a policy of"),
        (["--suite", "smoke"], "expected --suite and --policy"),
        (["--redo-scores"], "expected --out with --redo-scores"),
        (["--suite", "smoke", "--policy", "no.module:P", "--url", "fake"], "no.module"),
        (["compare", "nowhere", "nowhere"], "expected the folder of a run"),
        (["report", "nowhere"], "expected the folder of a run"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(
    world: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = call("eval", *words)
    assert ran.exit_code == 2, ran.output
    assert ran.output.count("error: ") == 1
    assert said in ran.output


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConnectionLostError("expected a server at fake: refused"), 1, "expected a server at fake"),
        (ProtocolError(ErrorCode.UNAUTHENTICATED, "expected a token"), 2, "expected a token"),
        (ProtocolError(ErrorCode.CAPACITY, "expected a free slot"), 1, "expected a free slot"),
        (ProtocolError(ErrorCode.UNSUPPORTED, "expected protocol 1, got 9"), 2, "expected protocol 1, got 9"),
    ],
)
def test_a_server_that_is_gone_or_says_no(
    monkeypatch: pytest.MonkeyPatch, suite: str, tmp_path: Path, error: Exception, code: int, said: str
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("clients.eval.harness.connect", refuses)
    ran = evaluate(suite, tmp_path / "a")
    assert (ran.exit_code, said in ran.output) == (code, True), ran.output
    assert not (tmp_path / "a").exists()


def test_failed_rollouts_are_listed_and_exit_code_one(
    world: FakeServer, suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = evaluate(suite, tmp_path / "a", policy="constant?accel=99")
    assert ran.exit_code == 1
    assert "4 policy failed" in ran.output
    assert "accel in [-8, 4], got 99" in ran.output
    world.scenarios = ("clear",)
    refused = evaluate(suite, tmp_path / "b")
    assert (refused.exit_code, "expected a scenario of clear" in refused.output) == (2, True)


def test_the_suites_and_policies_are_listed() -> None:
    assert "counterfactual" in call("eval", "suites").output
    assert "lane_keeper" in call("policy", "list").output
    assert call("policy", "serve", "nope").exit_code == 2


def test_the_base_install_reaches_the_help_quickly_and_without_heavy_libraries() -> None:
    probe = (
        "import sys, time; began = time.perf_counter(); import clients.eval.commands, clients.policies.commands, clients.cli;"
        "heavy = ('numpy', 'torch', 'pyarrow', 'mcap', 'av', 'cv2', 'pydantic', 'websockets');"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_a_library_of_the_extra_that_is_absent_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from clients.extras import MissingExtraError, need

    with pytest.raises(
        MissingExtraError, match=r"videos: expected the module .*pip install 'roadloop\[eval\]'"
    ):
        need("no_such_module_of_anybody", "eval", "videos")
