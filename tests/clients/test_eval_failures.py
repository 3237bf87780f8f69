"""What goes wrong in a run: told apart, never counted as a zero, nothing lost."""

import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.errors import ConnectionLostError, ReplyTimeoutError
from clients.eval import evaluate
from clients.eval.drive import Limits
from clients.eval.harness import Evaluation
from clients.eval.results import Result, ResultsError, RunFolder
from clients.eval.runner import RunError
from clients.eval.suite import SuiteError
from clients.eval.testing import FakeServer, FakeSession
from clients.policies import PolicySpec, PolicySpecError, PolicyUnavailableError
from clients.protocol import ErrorCode, ProtocolError

Use = Callable[[FakeServer], FakeServer]
SUITE = {"name": "two", "repeats": 4, "scenarios": ["clear", {"scenario": "blocked", "group": "hard"}]}


def run(out: Path, policy: Any = "constant?accel=1", suite: Any = SUITE, **values: Any) -> Evaluation:
    return evaluate(suite, policy, out, url="fake", **({"slots": 3, "retry_pause_s": 0.01} | values))


def facts(results: list[Result]) -> list[Any]:
    return [(r.key, r.status, r.scores, r.outcome, r.digest) for r in results]


def policy_of(name: str) -> PolicySpec:
    return PolicySpec(name, f"{__name__}:{name}")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())


def _this_module() -> Any:
    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


class Fails:
    def reset(self, info: Any) -> None:
        self.seed = info.seed

    def act(self, seen: Any) -> Any:
        if seen.chunk >= 2 and self.seed % 2:
            raise KeyError("lost the plot")
        return [0.0, 1.0]


class Sleeps:
    def reset(self, info: Any) -> None:
        pass

    def act(self, seen: Any) -> Any:
        time.sleep(5)


class Wild:
    def reset(self, info: Any) -> None:
        pass

    def act(self, seen: Any) -> Any:
        return [9.0, 0.0]


class Away:
    """A remote policy that is there the third time."""

    asked = 0

    def reset(self, info: Any) -> None:
        Away.asked += 1
        if Away.asked < 3:
            raise PolicyUnavailableError("not yet")

    def act(self, seen: Any) -> Any:
        return [0.0, 1.0]


def test_failures_of_the_infrastructure_are_tried_again(use: Use, tmp_path: Path) -> None:
    errors = [
        ConnectionLostError("cable"),
        ProtocolError(ErrorCode.WORKER_LOST, "the worker ended", fatal=True),
        ReplyTimeoutError("slow"),
    ]

    def trouble(scenario: str, seed: int, chunk: int) -> None:
        if chunk == 2 and errors:
            raise errors.pop()

    server = FakeServer(trouble=trouble)
    use(server)
    plain = FakeServer()
    run_ = run(tmp_path / "a", retries=3)
    assert not errors
    assert sum(r.attempts for r in run_.results) == 8 + 3
    use(plain)
    assert facts(run(tmp_path / "b").results) == facts(run_.results)


def test_a_rollout_that_never_works_is_reported_apart_and_driven_again_on_resume(
    use: Use, tmp_path: Path
) -> None:
    broken = True

    def trouble(scenario: str, seed: int, chunk: int) -> None:
        if broken and scenario == "blocked":
            raise ProtocolError(ErrorCode.INTERNAL, "a bug")

    use(FakeServer(trouble=trouble))
    first = run(tmp_path, retries=1)
    assert [r.status for r in first.results] == ["done"] * 4 + ["infrastructure_failed"] * 4
    assert first.failed[0].attempts == 2
    assert "a bug" in first.failed[0].error
    assert first.summary["overall"]["pdms"]["count"] == 4
    broken = False
    assert [r.status for r in run(tmp_path, resume=True).results] == ["done"] * 8


def test_a_policys_own_failure_is_final_and_never_a_zero(world: FakeServer, tmp_path: Path) -> None:
    run_ = run(tmp_path, policy_of("Fails"))
    failed = [r for r in run_.results if r.status == "policy_failed"]
    assert {r.seed % 2 for r in failed} == {1}
    assert 0 < len(failed) < 8
    assert "KeyError: 'lost the plot'" in failed[0].error
    assert all(r.scores is None and r.attempts == 1 for r in failed)
    assert run_.summary["overall"]["pdms"]["count"] == 8 - len(failed)
    driven = len(world.steps)
    run(tmp_path, policy_of("Fails"), resume=True)
    assert len(world.steps) == driven


def test_actions_out_of_bounds_fail_the_policy_unless_it_may_be_clipped(
    world: FakeServer, tmp_path: Path
) -> None:
    run_ = run(tmp_path / "a", policy_of("Wild"))
    assert {r.status for r in run_.results} == {"policy_failed"}
    assert "steering in [-0.6, 0.6], got 9" in run_.failed[0].error
    assert {r.status for r in run(tmp_path / "b", policy_of("Wild"), clip=True).results} == {"done"}


def test_a_policy_that_does_not_answer_is_left_behind(world: FakeServer, tmp_path: Path) -> None:
    suite = {"name": "one", "scenarios": ["clear"]}
    began_s = time.monotonic()
    run_ = run(tmp_path, policy_of("Sleeps"), suite, limits=Limits(policy_s=0.1))
    assert run_.results[0].status == "policy_failed"
    assert "within 0.1 s" in run_.results[0].error
    assert time.monotonic() - began_s < 4


def test_a_remote_policy_that_is_away_is_asked_again(world: FakeServer, tmp_path: Path) -> None:
    Away.asked = 0
    run_ = run(tmp_path, policy_of("Away"), {"name": "one", "scenarios": ["clear"]})
    assert (run_.results[0].status, run_.results[0].attempts) == ("done", 3)


def test_a_rollout_that_takes_too_long_is_no_fault_of_the_policy(use: Use, tmp_path: Path) -> None:
    use(FakeServer(trouble=lambda *_: time.sleep(0.1)))
    run_ = run(
        tmp_path, "stop", {"name": "one", "scenarios": ["clear"]}, limits=Limits(rollout_s=0.2), retries=0
    )
    assert run_.results[0].status == "infrastructure_failed"
    assert "within 0.2 s" in run_.results[0].error


def test_a_server_that_refuses_or_is_gone_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, use: Use, tmp_path: Path
) -> None:
    server = FakeServer(scenarios=("clear",))
    use(server)
    with pytest.raises(RunError, match="scenario of clear, got 'blocked'") as refused:
        run(tmp_path / "a")
    assert refused.value.refused

    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionLostError("expected a server at fake: refused")

    monkeypatch.setattr("clients.eval.runner.connect", gone)
    with pytest.raises(RunError, match="expected a server at fake") as lost:
        run(tmp_path / "b")
    assert not lost.value.refused


def test_a_server_that_goes_away_in_the_middle_ends_the_run_and_resume_finishes_it(
    monkeypatch: pytest.MonkeyPatch, use: Use, tmp_path: Path
) -> None:
    away = threading.Event()

    def trouble(scenario: str, seed: int, chunk: int) -> None:
        if away.is_set():
            raise ConnectionLostError("gone")

    server = FakeServer(trouble=trouble)
    use(server)

    def connect(*arguments: Any, **values: Any) -> Any:
        if away.is_set():
            raise ConnectionLostError("gone")
        return server.connect(*arguments, **values)

    monkeypatch.setattr("clients.eval.runner.connect", connect)
    with pytest.raises(RunError, match="is gone; go on with --resume"):
        run(tmp_path, slots=1, retries=1, on_result=lambda result: away.set())
    kept = facts(RunFolder(tmp_path).results())
    assert 1 <= len(kept) < 8
    away.clear()
    resumed = run(tmp_path, resume=True)
    assert [r.status for r in resumed.results] == ["done"] * 8
    assert set(map(str, kept)) <= set(map(str, facts(resumed.results)))


def test_wrong_input_is_refused_before_anything_is_driven(world: FakeServer, tmp_path: Path) -> None:
    with pytest.raises(PolicySpecError):
        run(tmp_path, "clever")
    with pytest.raises(PolicySpecError, match="nowhere"):
        run(tmp_path / "x", "nowhere:Policy")
    decision = {"at_s": 1.0, "for_s": 1.0, "branches": {"a": "x", "b": "idle"}}
    bad = {"name": "bad", "scenarios": [{"scenario": "blocked", "decision": decision}]}
    with pytest.raises(SuiteError, match=r"bad: blocked.a: expected a policy of"):
        run(tmp_path, suite=bad)
    run(tmp_path / "done")
    with pytest.raises(ResultsError, match="--resume"):
        run(tmp_path / "done")
    with pytest.raises(ResultsError, match="policy"):
        run(tmp_path / "done", "idle", resume=True)
    assert world.open == 0


def test_a_server_that_does_not_tell_what_is_expected_is_too_old(
    monkeypatch: pytest.MonkeyPatch, world: FakeServer, tmp_path: Path
) -> None:
    reset = FakeSession.reset

    def older(self: FakeSession, *arguments: Any, **values: Any) -> Any:
        seen = reset(self, *arguments, **values)
        seen.metrics.pop("free_drive_m")  # type: ignore[attr-defined]
        return seen

    monkeypatch.setattr(FakeSession, "reset", older)
    with pytest.raises(ValueError, match="free_drive_m with the opening frame, got an older one"):
        run(tmp_path)
