"""One server, two engines: sessions choose, stay with their choice, and the first engine is for those who do not."""

import os
import signal
import time
from typing import Any

import pytest

from clients.client import connect
from clients.protocol import ErrorCode, ProtocolError

SLOWER = "server.zero_engine:ZeroEngine"  # the same worlds under another name
TWO = ["--set", "breaker_losses=9", "--workers", "zero=cpu:1", "--workers", f"{SLOWER}=cpu:1", "--set", f"more_engine_options={{'{SLOWER}': {{step_ms: 1}}}}"]  # fmt: skip


@pytest.fixture(scope="module")
def server(run_server: Any, http: Any) -> Any:
    with run_server(*TWO) as running:
        until_both_are_ready(http, running.url)
        yield running


def until_both_are_ready(http: Any, url: str) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + 60
    while True:
        engines: list[dict[str, Any]] = http(url, "/v1/server").body["engines"] if http(url, "/readyz").status == 200 else []  # fmt: skip
        if [engine["workers_ready"] for engine in engines] == [1, 1]:
            return engines
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_a_server_lists_its_engines_in_order(server: Any, http: Any) -> None:
    engines = until_both_are_ready(http, server.url)
    assert [engine["engine"] for engine in engines] == ["zero", SLOWER]


def test_drivers_choose_an_engine_and_without_a_choice_get_the_first(server: Any, http: Any) -> None:
    with connect(server.url) as first, connect(server.url, engine=SLOWER, sessions=2) as other:
        engines = {view["session"]: view["engine"] for view in http(server.url, "/v1/sessions").body}
        assert engines[first.session.name] == "zero"
        assert {engines[session.name] for session in other.sessions} == {SLOWER}


def test_the_same_actions_drive_both(server: Any) -> None:
    with connect(server.url, engine="zero") as left, connect(server.url, engine=SLOWER) as right:
        for client in (left, right):
            client.session.reset("zero", seed=3, rig="front1")
        actions = [[0.0, 0.5], [0.1, 0.2]]
        shown = [[client.session.step(action).frames for action in actions] for client in (left, right)]
        assert shown[0] == shown[1]


def test_rest_chooses_too_and_copies_stay_with_their_engine(server: Any, http: Any) -> None:
    made = http(server.url, "/v1/sessions", "POST", {"engine": SLOWER})
    assert made.status == 201
    with connect(server.url, resume={made.body["session"]: made.body["resume_token"]}) as client:
        client.session.reset("zero", rig="front1")
        (copy,) = client.session.fork(1)
        assert http(server.url, f"/v1/sessions/{copy.name}").body["engine"] == SLOWER
    assert http(server.url, f"/v1/scenarios?engine={SLOWER}").status == 200


def test_an_engine_that_there_is_not_is_refused_with_those_there_are(server: Any, http: Any) -> None:
    with pytest.raises(
        ProtocolError, match=f"BAD_REQUEST: expected an engine of zero, {SLOWER}, got 'dream'"
    ):
        connect(server.url, engine="dream")
    assert http(server.url, "/v1/sessions", "POST", {"engine": "dream"}).status == 400
    assert http(server.url, "/v1/scenarios?engine=dream").status == 400
    assert http(server.url, "/v1/sessions").body == []


def test_a_lost_session_goes_on_with_its_own_engine(server: Any, http: Any) -> None:
    with connect(server.url, engine=SLOWER) as client:
        session = client.session
        session.reset("zero", rig="front1", snapshot_every=1)
        session.step([0.0, 0.5])
        for pid in server.workers:  # the other engine's may be back first
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProtocolError) as raised:
            session.step([0.0, 0.5])
        assert raised.value.code == ErrorCode.WORKER_LOST
        session.step([0.0, 0.5])
        assert http(server.url, f"/v1/sessions/{session.name}").body["engine"] == SLOWER
