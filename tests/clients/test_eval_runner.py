"""The runner, on worlds in this process: nothing lost, nothing twice, the same scores every time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.eval import evaluate, rescore
from clients.eval.harness import Evaluation
from clients.eval.results import Result, ResultsError, RunFolder
from clients.eval.runner import RunError
from clients.eval.testing import FakeServer
from clients.protocol import ErrorCode, ProtocolError

Use = Callable[[FakeServer], FakeServer]
SUITE = {"name": "two", "repeats": 4, "scenarios": ["clear", {"scenario": "blocked", "group": "hard"}]}
FORK = {
    "name": "fork",
    "repeats": 2,
    "scenarios": [
        {
            "scenario": "blocked",
            "decision": {
                "at_s": 1.0,
                "for_s": 1.0,
                "branches": {"brake": "constant?accel=-4", "self": "policy", "idle": "idle"},
            },
        }
    ],
}


def run(out: Path, policy: Any = "constant?accel=1", suite: Any = SUITE, **values: Any) -> Evaluation:
    return evaluate(suite, policy, out, url="fake", **({"slots": 3, "retry_pause_s": 0.01} | values))


def facts(results: list[Result]) -> list[Any]:
    return [(r.key, r.status, r.scores, r.outcome, r.digest) for r in results]


def test_every_rollout_is_driven_scored_and_kept(world: FakeServer, tmp_path: Path) -> None:
    run_ = run(tmp_path)
    assert [r.status for r in run_.results] == ["done"] * 8
    assert {r.outcome for r in run_.results if r.scenario == "clear"} == {"success"}
    hard = [r for r in run_.results if r.group == "hard"]
    assert {(r.outcome, (r.scores or {})["no_collision"]) for r in hard} == {("failure", 0.0)}
    assert run_.summary["groups"]["hard"]["pdms"]["mean"] == 0.0
    trace = run_.folder.trace(run_.results[0].key)
    assert trace.about["scenario"] == "clear"
    assert len(trace.ego) == 1 + 4 * len(trace.step_ms)
    assert world.open == 0


def test_two_runs_give_the_same_scores_whatever_the_slots(world: FakeServer, tmp_path: Path) -> None:
    one = run(tmp_path / "a", policy="random", slots=1)
    many = run(tmp_path / "b", policy="random", slots=5)
    assert facts(one.results) == facts(many.results)
    assert len({r.digest for r in one.results}) == 8


def test_a_run_that_was_killed_goes_on_and_repeats_nothing(world: FakeServer, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    world.steps.clear()
    driven_before = 0

    def dies(result: Result) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", slots=1, on_result=dies)
    folder = RunFolder(tmp_path / "cut")
    finished = {(r.scenario, r.seed) for r in folder.results()}
    assert 1 <= len(finished) < 8
    with folder.results_path.open("ab") as file:
        file.write(b'{"key": "half a li')
    driven_before = len(world.steps)
    resumed = run(tmp_path / "cut", resume=True)
    assert facts(resumed.results) == facts(whole.results)
    assert resumed.cut_bytes == 18
    assert not finished & {(scenario, seed) for scenario, seed, _ in world.steps[driven_before:]}
    again = run(tmp_path / "cut", resume=True)
    assert facts(again.results) == facts(whole.results)


def test_a_suite_may_end_a_rollout_early(world: FakeServer, tmp_path: Path) -> None:
    run_ = run(tmp_path, "stop", {"name": "one", "scenarios": [{"scenario": "clear", "max_s": 2.0}]})
    assert (run_.results[0].outcome, (run_.results[0].scores or {})["duration_s"]) == ("running", 2.0)


def test_a_server_with_fewer_slots_is_driven_with_those(use: Use, tmp_path: Path) -> None:
    server = FakeServer(slots=2)
    use(server)
    assert [r.status for r in run(tmp_path / "a", slots=6).results] == ["done"] * 8
    assert server.most_open == 2
    use(FakeServer(slots=0))
    with pytest.raises(RunError, match="takes no session"):
        run(tmp_path / "b")


def test_work_that_a_slot_without_room_gives_back_is_done_by_a_later_one(
    monkeypatch: pytest.MonkeyPatch, use: Use, tmp_path: Path
) -> None:
    server, asked, done = FakeServer(), [], threading.Event()
    use(server)

    def connect(*arguments: Any, **values: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:  # is told that there is no room when everybody else is already through
            done.wait(10)
            raise ProtocolError(ErrorCode.CAPACITY, "full")
        return server.connect(*arguments, **values)

    monkeypatch.setattr("clients.eval.runner.connect", connect)
    suite = {"name": "two", "repeats": 2, "scenarios": ["clear"]}
    run_ = run(tmp_path, suite=suite, slots=2, on_result=lambda result: done.set())
    assert [r.status for r in run_.results] == ["done"] * 2


def test_a_fork_drives_every_branch_as_if_it_had_been_driven_alone(world: FakeServer, tmp_path: Path) -> None:
    both = run(tmp_path / "both", suite=FORK)
    assert [r.branch for r in both.results] == ["brake", "self", "idle"] * 2
    assert world.open == 0
    traces = {r.key: both.folder.trace(r.key) for r in both.results}
    for world_key in {r.world for r in both.results}:
        mine = [traces[f"{world_key}.{branch}"] for branch in ("brake", "self", "idle")]
        for trace in mine[1:]:
            np.testing.assert_array_equal(trace.ego[:13], mine[0].ego[:13])
            assert (trace.ego[13:17] != mine[0].ego[13:17]).any()
        np.testing.assert_array_equal(mine[0].actions[3:6, :, 1], -4.0)
        np.testing.assert_array_equal(mine[0].actions[6:, :, 1], 1.0)  # then the policy has the wheel again
    plain = run(tmp_path / "plain", suite={"name": "fork", "repeats": 2, "scenarios": ["blocked"]})
    assert [r.digest for r in plain.results] == [r.digest for r in both.results if r.branch == "self"]


def test_a_branch_is_resumed_alone_and_one_whose_moment_never_comes_is_told_apart(
    world: FakeServer, tmp_path: Path
) -> None:
    both = run(tmp_path / "a", suite=FORK)
    folder = both.folder
    folder.replace([r for r in both.results if r.branch != "idle"])
    resumed = run(tmp_path / "a", suite=FORK, resume=True)
    assert facts(resumed.results) == facts(both.results)
    late = {"name": "late", "scenarios": [FORK["scenarios"][0] | {"decision": {**_decision(), "at_s": 60.0}}]}
    ended = run(tmp_path / "b", suite=late)
    assert {r.status for r in ended.results} == {"not_reached"}
    assert not ended.failed


def _decision() -> dict[str, Any]:
    return FORK["scenarios"][0]["decision"]  # type: ignore[index, no-any-return]


def test_scores_are_made_anew_without_driving(world: FakeServer, tmp_path: Path) -> None:
    before = run(tmp_path)
    folder = before.folder
    folder.replace([Result(**{**vars(r), "scores": {"pdms": -1.0}}) for r in before.results])
    world.steps.clear()
    after = rescore(tmp_path)
    assert facts(after.results) == facts(before.results)
    assert not world.steps
    folder.trace_path(before.results[0].key).unlink()
    with pytest.raises(ValueError, match="expected a trace"):
        rescore(tmp_path)


def test_progress_is_measured_against_a_reference_run_if_there_is_one(
    world: FakeServer, tmp_path: Path
) -> None:
    fast = run(tmp_path / "fast", "constant?accel=2")
    slow = run(tmp_path / "slow", "idle", reference=tmp_path / "fast")
    scores = [(r.scores or {}) for r in slow.results if r.scenario == "clear"]
    assert all(s["ego_progress"] < 0.95 and s["ade_m"] > 1 for s in scores)
    again = rescore(tmp_path / "fast", reference=tmp_path / "fast")
    assert all((r.scores or {})["ade_m"] == 0 for r in again.results)
    assert facts(rescore(tmp_path / "fast").results) == facts(fast.results)
    with pytest.raises(ResultsError, match=r"drove every world, got none of clear\.4\.\d+ and 1 more"):
        run(tmp_path / "more", "idle", {**SUITE, "repeats": 5}, reference=tmp_path / "fast")


def test_slots_are_busy_while_there_is_work(use: Use, tmp_path: Path) -> None:
    server = FakeServer(trouble=lambda *_: time.sleep(0.01))
    use(server)
    run_ = run(tmp_path, suite={"name": "many", "repeats": 8, "scenarios": ["clear"]}, slots=4)
    assert run_.busy.share >= 0.95
    assert server.most_open == 4
