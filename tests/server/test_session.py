from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clients.protocol import ErrorCode, ProtocolError, StepItem, Stepped
from server.session import Session
from server.staging import Phase, SessionRules, Staged, Stored

RULES = SessionRules(
    frames_per_chunk=4, chunk_s=1 / 3, action_widths={"controls": 2, "pose_delta": 3}, lease_s=10.0
)


def step(chunk: int, accel: float = 0.0, **other: Any) -> StepItem:
    return StepItem(**{"chunk": chunk, "actions": np.full((4, 2), accel, np.float32)} | other)


def reply(chunk: int, ended: bool = False) -> Stepped:
    return Stepped.model_construct(id=0, session="s", chunk=chunk, terminated=ended, truncated=False)


def ready(mode: str = "lockstep", hold: str = "coast") -> Session:
    session = Session("s", "token", RULES, now_s=0.0)
    session.attach("token")
    session.commit_reset(session.begin("reset"), mode, hold)  # type: ignore[arg-type]
    return session


def run(session: Session, item: StepItem, ended: bool = False) -> Stepped:
    staged = session.begin_step(item)
    assert isinstance(staged, Staged)
    answer = reply(item.chunk, ended)
    session.commit_step(staged, answer)
    return answer


def refused(code: ErrorCode, words: str = "") -> Any:
    return pytest.raises(ProtocolError, match=f"{code}.*{words}")


def test_chunks_are_taken_in_order() -> None:
    session = ready()
    for chunk in range(3):
        run(session, step(chunk))
    assert session.next_chunk == 3


def test_the_same_chunk_with_the_same_bytes_gets_the_stored_reply() -> None:
    session = ready()
    answer = run(session, step(0, 0.5))
    again = session.begin_step(step(0, 0.5))
    assert isinstance(again, Stored)
    assert again.reply is answer
    assert session.next_chunk == 1


@pytest.mark.parametrize("other", [{"accel": 0.6}, {"space": "pose_delta", "actions": np.full((4, 2), 0.5)}])
def test_the_same_chunk_with_other_bytes_is_a_conflict(other: dict[str, Any]) -> None:
    session = ready()
    run(session, step(0, 0.5))
    with refused(ErrorCode.CHUNK_CONFLICT, "expected chunk 1, got chunk 0"):
        session.begin_step(step(0, **({"accel": 0.5} | other)))
    assert session.phase is Phase.READY


@pytest.mark.parametrize("chunk", [0, 3, 9])
def test_a_chunk_that_is_not_next_is_out_of_order(chunk: int) -> None:
    session = ready()
    run(session, step(0))
    run(session, step(1))
    with refused(ErrorCode.OUT_OF_ORDER, f"expected chunk 2, got {chunk}"):
        session.begin_step(step(chunk))


def test_a_failed_chunk_leaves_everything_as_it_was() -> None:
    session = ready()
    run(session, step(0))
    staged = session.begin_step(step(1, 0.1))
    assert isinstance(staged, Staged)
    session.abort(staged)
    assert (session.phase, session.next_chunk) == (Phase.READY, 1)
    assert isinstance(session.begin_step(step(0)), Stored)
    run(session, step(1, 0.7))


@pytest.mark.parametrize(
    "item",
    [
        step(0, actions=np.zeros((3, 2))),
        step(0, space="pose_delta"),
        step(0, space="trajectory", actions=np.zeros((4, 3))),
    ],
)
def test_an_action_of_the_wrong_shape_or_space_is_refused(item: StepItem) -> None:
    session = ready()
    with refused(ErrorCode.BAD_ACTION, "expected"):
        session.begin_step(item)
    assert session.phase is Phase.READY


@pytest.mark.parametrize("operation", ["snapshot", "fork"])
def test_a_new_session_wants_a_reset_first(operation: str) -> None:
    session = Session("s", "token", RULES, 0.0)
    with refused(ErrorCode.BAD_STATE, "got new"):
        session.begin(operation)
    with refused(ErrorCode.BAD_STATE, "got new"):
        session.begin_step(step(0))


def test_a_busy_session_takes_nothing_else() -> None:
    session = ready()
    session.begin_step(step(0))
    for operation in ("reset", "snapshot", "restore", "fork"):
        with refused(ErrorCode.BAD_STATE, "got busy"):
            session.begin(operation)


def test_after_the_end_only_reset_or_restore_go_on_and_the_last_reply_stays() -> None:
    session = ready()
    run(session, step(0), ended=True)
    with refused(ErrorCode.BAD_STATE, "got ended"):
        session.begin_step(step(1))
    assert isinstance(session.begin_step(step(0)), Stored)
    session.commit_restore(session.begin("restore"), next_chunk=0, ended=False)
    run(session, step(0, 0.3))


def test_a_restore_forgets_the_stored_reply() -> None:
    session = ready()
    run(session, step(0))
    session.commit_restore(session.begin("restore"), next_chunk=0, ended=False)
    assert isinstance(session.begin_step(step(0)), Staged)


# Lease and loss -----------------------------------------------------------------------------------------------------


def test_a_detached_session_waits_for_its_lease_and_no_longer() -> None:
    session = ready()
    assert not session.lease_is_over(1e9)
    session.detach(now_s=100.0)
    assert not session.lease_is_over(109.9)
    assert session.lease_is_over(110.0)
    session.attach("token")
    assert not session.lease_is_over(1e9)


def test_a_session_that_nobody_ever_drove_ends_with_its_lease() -> None:
    assert Session("s", "token", RULES, 0.0).lease_is_over(10.0)


@pytest.mark.parametrize("token", ["", "wrong", "tokem", "tökén"])
def test_a_wrong_token_attaches_nobody(token: str) -> None:
    with refused(ErrorCode.UNKNOWN_SESSION):
        ready().attach(token)


def test_a_lost_worker_with_a_snapshot_tells_the_chunk_to_go_on_from() -> None:
    session = ready()
    for chunk in range(5):
        run(session, step(chunk))
    staged = session.begin_step(step(5))
    assert isinstance(staged, Staged)
    error = session.lose(snapshot_chunk=4)
    assert (error.code, error.fatal, error.retryable, error.details) == (
        ErrorCode.WORKER_LOST,
        False,
        True,
        {"next_chunk": 4},
    )
    session.abort(staged)  # the worker's failure arrives late and changes nothing
    assert session.phase is Phase.RECOVERING
    session.recovered(4, ended=False)
    with refused(ErrorCode.WORKER_LOST, "expected chunk 4"):
        session.begin_step(step(5))
    run(session, step(4))
    with refused(ErrorCode.OUT_OF_ORDER):
        session.begin_step(step(7))


def test_a_lost_worker_without_a_snapshot_ends_the_session() -> None:
    session = ready()
    assert session.lose(None).fatal
    assert session.phase is Phase.CLOSED
    with refused(ErrorCode.UNKNOWN_SESSION):
        session.attach("token")


def test_a_session_that_ends_in_mid_step_refuses_the_commit() -> None:
    session = ready()
    staged = session.begin_step(step(0))
    assert isinstance(staged, Staged)
    session.close()
    with refused(ErrorCode.UNKNOWN_SESSION, "ended during step"):
        session.commit_step(staged, reply(0))


# Real time ----------------------------------------------------------------------------------------------------------


def run_due(session: Session, now_s: float) -> Staged:
    staged = session.begin_due(now_s)
    assert staged is not None
    assert staged.item is not None
    session.commit_step(staged, reply(staged.item.chunk))
    return staged


def test_real_time_begins_with_the_first_action_and_keeps_its_pace() -> None:
    session = ready("realtime")
    assert session.due_s is None
    session.offer_step(step(0, 0.4), now_s=5.0)
    assert run_due(session, 5.0).action_age_ms == 0.0
    assert session.begin_due(5.3) is None
    session.offer_step(step(1, 0.5), now_s=5.25)
    staged = run_due(session, 5.34)
    assert staged.action_age_ms == pytest.approx(90.0)
    assert session.due_s == pytest.approx(5.0 + 2 / 3)


def test_a_missing_action_is_replaced_by_the_hold_policy_and_counted() -> None:
    session = ready("realtime", "coast")
    session.offer_step(step(0, 0.4), now_s=0.0)
    run_due(session, 0.0)
    held = run_due(session, 0.34)
    assert held.request is None
    assert held.item is not None
    np.testing.assert_allclose(held.item.actions, np.tile([0.4, 0.0], (4, 1)), rtol=1e-6)
    assert session.held_chunks == 1


def test_a_late_action_drives_the_next_chunk_that_has_not_begun() -> None:
    session = ready("realtime")
    session.offer_step(step(0), now_s=0.0)
    run_due(session, 0.0)
    held = session.begin_due(0.34)  # chunk 1, without an action
    assert held is not None
    session.offer_step(step(1, 0.7), now_s=0.4)
    session.commit_step(held, reply(1))
    staged = run_due(session, 0.67)
    assert staged.item is not None
    assert (staged.item.chunk, staged.request and staged.request[0]) == (2, 1)
    stored = session.offer_step(step(1, 0.7), now_s=0.7)
    assert isinstance(stored, Stored)


def test_an_action_more_than_one_chunk_ahead_is_refused() -> None:
    session = ready("realtime")
    session.offer_step(step(0), now_s=0.0)
    run_due(session, 0.0)
    with refused(ErrorCode.OUT_OF_ORDER):
        session.offer_step(step(2), now_s=0.1)
    session.offer_step(step(1), now_s=0.1)
    with refused(ErrorCode.OUT_OF_ORDER, "one action in flight"):
        session.offer_step(step(1, 0.9), now_s=0.2)


def test_a_server_that_fell_behind_does_not_hurry() -> None:
    session = ready("realtime")
    session.offer_step(step(0), now_s=0.0)
    run_due(session, 0.0)
    run_due(session, 2.0)
    assert session.begin_due(2.3) is None
    assert session.due_s == pytest.approx(2.0 + 1 / 3)


class SessionMachine(RuleBasedStateMachine):
    """A driver, a worker and the clock do what they like; the model is four plain variables."""

    @initialize()
    def start(self) -> None:
        self.now = 0.0
        self.codes: set[ErrorCode] = set()
        self.session = ready()
        self.staged: Staged | None = None
        self.next, self.last, self.ended = 0, None, False

    @rule(ahead=st.integers(-3, 3), accel=st.sampled_from([0.0, 0.5]))
    def ask(self, ahead: int, accel: float) -> None:
        chunk = max(0, self.next + ahead)
        try:
            got = self.session.begin_step(step(chunk, accel))
        except ProtocolError as refusal:
            self.codes.add(refusal.code)
            return
        if isinstance(got, Stored):
            assert self.last == (chunk, accel)
        else:
            assert chunk == self.next
            assert self.staged is None
            assert not self.ended
            self.staged = got

    @precondition(lambda self: self.staged)
    @rule(ended=st.sampled_from([False, False, False, True]))
    def worker_answers(self, ended: bool) -> None:
        assert self.staged.item is not None
        self.session.commit_step(self.staged, reply(self.next, ended))
        self.last = (self.next, float(self.staged.item.actions[0, 0]))
        self.next, self.staged, self.ended = self.next + 1, None, ended

    @precondition(lambda self: self.staged)
    @rule()
    def worker_fails(self) -> None:
        self.session.abort(self.staged)
        self.staged = None

    @precondition(lambda self: not self.staged and self.session.phase in (Phase.READY, Phase.ENDED))
    @rule(back=st.integers(0, 4))
    def restore(self, back: int) -> None:
        self.next = max(0, self.next - back)
        self.session.commit_restore(self.session.begin("restore"), self.next, ended=False)
        self.last, self.ended = None, False

    @precondition(lambda self: self.session.phase is not Phase.RECOVERING)
    @rule(back=st.integers(0, 4))
    def worker_dies(self, back: int) -> None:
        self.next = max(0, self.next - back)
        assert self.session.lose(self.next).details == {"next_chunk": self.next}
        self.staged, self.last, self.ended = None, None, False

    @precondition(lambda self: self.session.phase is Phase.RECOVERING)
    @rule()
    def worker_is_back(self) -> None:
        self.session.recovered(self.next, ended=False)
        self.last = None

    @rule(seconds=st.floats(0, 8))
    def driver_drops_and_returns(self, seconds: float) -> None:
        self.session.detach(self.now)
        self.now += seconds
        assert not self.session.lease_is_over(self.now)
        self.session.attach("token")

    @invariant()
    def the_index_is_that_of_the_model(self) -> None:
        assert self.session.next_chunk == self.next
        assert (self.session.phase is Phase.BUSY) == bool(self.staged)
        assert self.codes <= {
            ErrorCode.CHUNK_CONFLICT,
            ErrorCode.OUT_OF_ORDER,
            ErrorCode.BAD_STATE,
            ErrorCode.WORKER_LOST,
        }


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
