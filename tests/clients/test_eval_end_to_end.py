"""The harness against servers: over the wire, killed and resumed, with a policy behind a socket, and the expert on true worlds."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.eval import evaluate
from clients.eval.harness import Evaluation
from clients.eval.results import RunFolder
from clients.local import local_server
from clients.policies import load_policy
from clients.policies.serve import policy_server

ZEROS = {
    "name": "zeros",
    "rig": "front1",
    "repeats": 12,
    "scenarios": [{"scenario": "zero", "max_s": 3}],
}


def _has_a_line(path: Path) -> bool:
    return path.exists() and b"\n" in path.read_bytes()


def facts(run: Evaluation) -> list[Any]:
    return [(r.key, r.status, r.scores, r.outcome, r.digest) for r in run.results]


def test_a_run_that_is_killed_and_resumed_repeats_nothing_and_changes_no_score(
    zero_url: str, tmp_path: Path
) -> None:
    whole = evaluate(ZEROS, "random", tmp_path / "whole", url=zero_url, slots=3)
    assert {r.status for r in whole.results} == {"done"}
    program = (
        "import sys; from clients.eval import evaluate;"
        f"evaluate({ZEROS!r}, 'random', sys.argv[1], url=sys.argv[2], slots=2)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "cut"), zero_url])
    folder, deadline_s = RunFolder(tmp_path / "cut"), time.monotonic() + 60
    while not _has_a_line(folder.results_path) and time.monotonic() < deadline_s:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    kept = folder.results_path.read_bytes()
    finished = kept.count(b"\n")
    assert 1 <= finished < 12
    resumed = evaluate(ZEROS, "random", tmp_path / "cut", url=zero_url, slots=3, resume=True)
    assert facts(resumed) == facts(whole)
    lines = folder.results_path.read_bytes()
    assert lines.startswith(kept[: kept.rindex(b"\n") + 1])
    assert lines.count(b"\n") == 12


def test_a_policy_behind_a_socket_scores_as_it_would_at_home(zero_url: str, tmp_path: Path) -> None:
    suite = {**ZEROS, "repeats": 2}
    home = evaluate(suite, "lane_keeper", tmp_path / "home", url=zero_url, slots=2)
    with policy_server(load_policy("lane_keeper")) as url:
        away = evaluate(suite, url, tmp_path / "away", url=zero_url, slots=2)
    assert facts(home) == facts(away)


def test_the_default_rig_and_a_choice_of_cameras_reach_the_policy(zero_url: str, tmp_path: Path) -> None:
    suite = {
        "name": "choice",
        "rig": "front3",
        "options": {"cameras": ["front_wide"]},
        "scenarios": [{"scenario": "zero-short"}],
    }
    run = evaluate(suite, "idle", tmp_path, url=zero_url)
    trace = run.folder.trace(run.results[0].key)
    assert [camera["name"] for camera in trace.about["cameras"]] == ["front_wide"]
    assert run.results[0].outcome == "success"


@pytest.fixture(scope="module")
def reference_url() -> Iterator[str]:
    with local_server("reference") as url:
        yield url


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_expert_drives_true_worlds_and_their_branches_the_same_every_time(
    reference_url: str, tmp_path: Path
) -> None:
    branches = {"go_on": "policy", "brake": "constant?accel=-3", "fresh": "expert"}
    decision = {"at_s": 0.6, "for_s": 0.4, "branches": branches}
    entry = {"scenario": "highway_empty", "max_s": 1.3, "decision": decision}
    suite = {"name": "true", "rig": "front1", "scenarios": [entry]}
    one = evaluate(suite, "expert", tmp_path / "one", url=reference_url, slots=2)
    assert [r.status for r in one.results] == ["done"] * 3, one.failed
    two = evaluate(suite, "expert", tmp_path / "two", url=reference_url, slots=1)
    assert facts(one) == facts(two)
    go_on, brake, fresh = (one.folder.trace(r.key) for r in one.results)
    np.testing.assert_array_equal(
        go_on.ego, fresh.ego
    )  # an expert that takes over drives as if it always had
    assert brake.ego_column("speed_mps")[-1] < go_on.ego_column("speed_mps")[-1]
    assert (one.results[0].scores or {})["ego_progress"] > 0.8
