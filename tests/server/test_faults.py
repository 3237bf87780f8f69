"""What happens when things break: workers, front ends, drivers, networks. Real processes throughout."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.client import connect
from clients.errors import ReplyTimeoutError
from clients.protocol import ErrorCode, ProtocolError

RIG = "front1"


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    except FileNotFoundError:
        return False


def test_a_killed_worker_costs_at_most_the_chunks_since_the_last_snapshot(run_server: Any, http: Any) -> None:
    with run_server() as server, connect(server.url, sessions=16, encoding="raw") as client:
        for k, session in enumerate(client.sessions):
            session.reset("zero", seed=k, rig=RIG, snapshot_every=4)
        act = {session: [0.0, 0.3] for session in client.sessions}
        seen = [client.step_many(act) for _ in range(6)]
        os.kill(server.workers[0], signal.SIGKILL)
        began_s = time.monotonic()
        answers = client.step_many(act)
        assert time.monotonic() - began_s < 2.0
        assert {getattr(a, "code", None) for a in answers.values()} == {ErrorCode.WORKER_LOST}
        assert all(a.retryable and not a.fatal for a in answers.values())  # type: ignore[union-attr]
        assert http(server.url, "/readyz").status == 503
        assert {session.next_chunk for session in client.sessions} == {4}
        until(lambda: http(server.url, "/readyz").status == 200)
        again = [client.step_many(act) for _ in range(2)]  # the first waits for the recovery
        for session in client.sessions:
            for chunk in (4, 5):
                assert again[chunk - 4][session].frames == seen[chunk][session].frames  # type: ignore[union-attr]


def test_a_change_of_the_tier_is_kept_like_a_chunk_that_is_due(run_server: Any) -> None:
    with run_server() as server, connect(server.url) as client:
        client.session.reset("zero", rig=RIG, snapshot_every=100)
        for _ in range(3):
            client.session.step([0.0, 0.0])
        client.session.set_tier("exact")
        client.session.snapshot()  # waits for the one that the change of the tier has caused
        os.kill(server.workers[0], signal.SIGKILL)
        with pytest.raises(ProtocolError) as lost:
            client.session.step([0.0, 0.0])
        assert lost.value.details["next_chunk"] == 3


def test_without_a_snapshot_a_lost_worker_ends_the_session_and_idle_drivers_hear_of_it(
    run_server: Any,
) -> None:
    with run_server() as server, connect(server.url) as client:
        client.session.reset("zero", rig=RIG)
        os.kill(server.workers[0], signal.SIGKILL)
        time.sleep(0.5)
        with pytest.raises(ProtocolError, match="WORKER_LOST") as raised:
            client.session.step([0.0, 0.0])
        assert raised.value.fatal
        assert [notice.code for notice in client.notices][:1] == ["WORKER_LOST"]


@pytest.mark.parametrize(
    ("heartbeat_s", "step_s"), [(1.2, 600.0), (600.0, 1.2)], ids=["no heartbeat", "no progress"]
)
def test_a_stopped_worker_is_noticed_and_replaced(run_server: Any, heartbeat_s: float, step_s: float) -> None:
    settings = ["--set", f"heartbeat_timeout_s={heartbeat_s}", "--set", f"step_timeout_s={step_s}"]
    with run_server(*settings) as server, connect(server.url) as client:
        client.session.reset("zero", rig=RIG, snapshot_every=1)
        client.session.step([0.0, 0.0])
        client.session.snapshot()  # waits for the one by policy: only steps are expected to be quick
        old = server.workers[0]
        os.kill(old, signal.SIGSTOP)
        with pytest.raises(ProtocolError, match="WORKER_LOST"):
            client.session.step([0.0, 0.0])
        assert client.session.next_chunk == 1
        assert client.session.step([0.0, 0.0]).chunk == client.session.next_chunk - 1
        until(lambda: not alive(old))


def test_a_killed_front_end_leaves_no_process_behind(run_server: Any) -> None:
    with run_server("--workers", "cpu:2") as server:
        workers = server.workers
        assert len(workers) == 2
        server.process.kill()
        until(lambda: not any(alive(pid) for pid in workers), timeout_s=5.0)


def test_workers_that_keep_dying_end_the_server_with_an_error(run_server: Any) -> None:
    with run_server("--set", "breaker_losses=1") as server:
        os.kill(server.workers[0], signal.SIGKILL)
        assert server.process.wait(15) == 1


def test_an_engine_that_cannot_be_built_ends_the_server_at_once_with_the_reason() -> None:
    command = [sys.executable, "-m", "server", "--port", "0", "--engine", "zero", "--while-stdin"]
    command += ["--set", "engine_options={bogus: 1}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        told = server.stderr.read()
        assert server.wait(20) == 1
    assert told.count("cannot work") == 1  # and no second attempt
    assert "bogus" in told
    assert "Traceback" not in told


def test_a_driver_that_vanishes_frees_its_slot_with_the_lease(run_server: Any, http: Any) -> None:
    with run_server("--set", "lease_s=0.5", "--sessions-per-worker", "1") as server:
        client = connect(server.url)
        with pytest.raises(ProtocolError, match="CAPACITY"):
            connect(server.url)
        client.disconnect()
        until(lambda: http(server.url, "/v1/sessions").body == [], 5.0)
        connect(server.url).close()


def test_a_half_open_driver_frees_its_slot(run_server: Any, http: Any) -> None:
    """A peer that neither reads nor answers pings: as behind a cut cable."""
    settings = ["lease_s=0.5", "ping_interval_s=0.3", "ping_timeout_s=0.5"]
    with run_server(*(part for value in settings for part in ("--set", value))) as server:
        http(server.url, "/v1/sessions", "POST")
        info = http(server.url, "/v1/sessions", "POST").body
        raw = _driver_that_stops_answering(server.url, info)
        until(lambda: not http(server.url, "/v1/sessions").body, 8.0)
        raw.close()


def _driver_that_stops_answering(url: str, info: Any) -> socket.socket:
    from clients.protocol import SUBPROTOCOL, pack

    host, port = url.removeprefix("http://").split(":")
    raw = socket.create_connection((host, int(port)))
    lines = [f"GET /v1/drive HTTP/1.1\r\nHost: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    ]
    raw.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    resume = [{"session": info["session"], "token": info["resume_token"]}]
    body = pack({"type": "hello", "id": 1, "resume": resume})
    head = (
        bytes([0x82, 0x80 | 126]) + len(body).to_bytes(2, "big")
        if len(body) > 125
        else bytes([0x82, 0x80 | len(body)])
    )
    raw.sendall(head + b"\0\0\0\0" + body)  # a mask of zeros
    time.sleep(0.2)
    return raw


def test_a_long_step_kills_no_connection(run_server: Any) -> None:
    slow = '{"step_ms": 3000}'
    settings = [f"engine_options={slow}", "ping_interval_s=0.3", "ping_timeout_s=0.6"]
    with (
        run_server(*(part for value in settings for part in ("--set", value))) as server,
        connect(server.url, reconnect_s=0.0) as client,
    ):
        client.session.reset("zero", rig=RIG)
        assert client.session.step([0.0, 0.0]).chunk == 0


def test_a_reply_that_came_too_late_is_never_taken_for_another(run_server: Any) -> None:
    with (
        run_server("--set", 'engine_options={"step_ms": 700}') as server,
        connect(server.url, timeout_s=20.0) as client,
    ):
        client.session.reset("zero", rig=RIG)
        client._timeout_s = 0.3
        with pytest.raises(ReplyTimeoutError):
            client.session.step([0.0, 1.0])
        client._timeout_s = 20.0
        first = client.session.step([0.0, 1.0])  # resumes, and gets the stored reply or the running one's
        second = client.session.step([0.0, 1.0])
        assert (first.chunk, second.chunk) == (0, 1)
        assert second.ego_frames[0, 0] > first.ego_frames[-1, 0]


def test_a_connection_cut_in_mid_step_runs_no_chunk_twice(run_server: Any) -> None:
    with run_server("--set", 'engine_options={"step_ms": 300}') as server:
        with connect(server.url, encoding="raw") as calm:
            calm.session.reset("zero", seed=5, rig=RIG)
            expected = [calm.session.step([0.0, 0.5]).frames for _ in range(4)]
        with connect(server.url, encoding="raw") as client:
            client.session.reset("zero", seed=5, rig=RIG)
            seen = []
            for _ in range(4):
                assert client._socket is not None
                cut = threading.Timer(0.1, client._socket.socket.shutdown, [socket.SHUT_RDWR])
                cut.start()
                seen.append(client.session.step([0.0, 0.5]).frames)
                cut.join()
            assert seen == expected


def test_drain_refuses_the_new_and_ends_with_1012(run_server: Any, http: Any) -> None:
    with run_server("--set", "drain_s=1.5") as server:
        client = connect(server.url, reconnect_s=0.0)
        client.session.reset("zero", rig=RIG)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: http(server.url, "/readyz").status == 503, 2.0)
        refused = http(server.url, "/v1/sessions", "POST")
        assert (refused.status, refused.body["code"]) == (503, "DRAINING")
        assert int(refused.headers["retry-after"]) > 0
        client.session.step([0.0, 0.0])  # the live ones go on
        assert "DRAINING" in [notice.code for notice in client.notices]
        assert server.process.wait(10) == 0
        assert client._socket is not None
        with pytest.raises(Exception, match="1012"):
            client._socket.recv(timeout=5)
        client.disconnect()


def test_two_workers_share_the_sessions_and_agree(run_server: Any, http: Any) -> None:
    with run_server("--workers", "cpu:2") as server:
        until(
            lambda: http(server.url, "/v1/server").body["workers_ready"] == 2
        )  # sessions are placed on connecting
        with connect(server.url, sessions=4, encoding="raw") as client:
            for session in client.sessions:
                session.reset("zero", seed=9, rig=RIG)
            act = {session: np.float32([0.01, 0.4]) for session in client.sessions}
            for _ in range(3):
                results = list(client.step_many(act).values())
                assert all(r.frames == results[0].frames for r in results)  # type: ignore[union-attr]
            workers = [view["worker"] for view in http(server.url, "/v1/sessions").body]
            assert sorted(workers) == ["w0", "w0", "w1", "w1"]


def test_deleting_a_session_in_mid_step_lets_the_step_end(run_server: Any, http: Any) -> None:
    with run_server("--set", 'engine_options={"step_ms": 400}') as server, connect(server.url) as client:
        client.session.reset("zero", rig=RIG)
        delete = threading.Timer(0.1, http, [server.url, f"/v1/sessions/{client.session.name}", "DELETE"])
        delete.start()
        assert client.session.step([0.0, 0.0]).chunk == 0
        delete.join()
        with pytest.raises(ProtocolError, match=r"the session has ended"):
            client.session.step([0.0, 0.0])


def test_a_silent_driver_loses_its_session_also_in_real_time(run_server: Any, http: Any) -> None:
    with run_server("--set", "idle_timeout_s=1.0") as server, connect(server.url) as client:
        client.session.reset("zero", rig=RIG, mode="realtime")
        client.session.step([0.0, 0.0])
        until(lambda: http(server.url, "/v1/sessions").body == [], 6.0)
