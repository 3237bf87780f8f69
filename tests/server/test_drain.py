"""A server that is stopped keeps its sessions for the next one."""

import signal
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect as open_socket

from clients.client import connect
from clients.protocol import (
    SUBPROTOCOL,
    ErrorReply,
    Hello,
    Notice,
    ProtocolError,
    Reset,
    Started,
    pack,
    parse_reply,
)

SETTINGS = ["--set", "snapshot_on_drain=true", "--set", "drain_s=1"]


def drain(server: Any) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


def test_a_restarted_server_restores_the_sessions_of_a_drain(
    run_server: Any, http: Any, tmp_path: Path
) -> None:
    settings = [*SETTINGS, "--snapshot-dir", str(tmp_path)]
    with run_server(*settings) as server:
        client = connect(server.url, sessions=2, encoding="raw")
        for k, session in enumerate(client.sessions):
            session.reset("zero", seed=k, rig="front1")
            session.step([0.1 * k, 0.5])
        drain(server)
    assert len(list(tmp_path.iterdir())) == 2
    with run_server(*settings) as server, connect(server.url, sessions=3, encoding="raw") as client:
        handles = {kept["session"]: kept["handle"] for kept in http(server.url, "/v1/snapshots").body}
        assert len(handles) == 2
        for session, handle in zip(client.sessions, handles.values(), strict=False):
            session.restore(handle)
            assert session.next_chunk == 1
        again = client.sessions[2]
        again.reset("zero", seed=0, rig="front1")
        again.step([0.0, 0.5])
        expected = again.step([0.0, 0.25]).frames
        assert expected in [session.step([0.0, 0.25]).frames for session in client.sessions[:2]]


def test_drivers_hear_under_which_handle_their_session_was_kept(
    run_server: Any, http: Any, tmp_path: Path
) -> None:
    with run_server(*SETTINGS, "--snapshot-dir", str(tmp_path)) as server:
        url = server.url.replace("http", "ws") + "/v1/drive"
        with open_socket(url, subprotocols=[SUBPROTOCOL], compression=None, max_size=None) as socket:  # type: ignore[list-item]
            socket.send(pack(Hello(id=1)))
            socket.send(pack(Reset(id=2, scenario="zero", rig="front1")))
            while not isinstance(reply := receive(socket), Started):
                assert not isinstance(reply, ErrorReply)
            server.process.send_signal(signal.SIGTERM)
            while "handle" not in (notice := receive(socket)).details:
                assert isinstance(notice, Notice)
            assert notice.code == "DRAINING"
            assert notice.details["next_chunk"] == 0
        assert server.process.wait(60) == 0
    assert [path.stem for path in tmp_path.iterdir()] == [notice.details["handle"]]


def receive(socket: Any) -> Any:
    return parse_reply(socket.recv(timeout=60, decode=False))


def test_without_the_policy_a_drain_writes_nothing(run_server: Any, tmp_path: Path) -> None:
    with run_server("--snapshot-dir", str(tmp_path), "--set", "drain_s=0.2") as server:
        client = connect(server.url)
        client.session.reset("zero", rig="front1")
        drain(server)
    assert list(tmp_path.iterdir()) == []


def test_a_harmed_file_leaves_the_session_as_it_was(run_server: Any, tmp_path: Path) -> None:
    with (
        run_server("--snapshot-dir", str(tmp_path), "--set", "snapshot_bytes=60000") as server,
        connect(server.url) as client,
    ):
        session = client.session
        session.reset("zero", rig="front1")
        first = session.snapshot()
        session.step([0.0, 0.5])
        for _ in range(4):
            session.snapshot()
        path = next(tmp_path.glob(f"{first.handle}*"))
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT: expected an unharmed file"):
            session.restore(first.handle)
        assert session.step([0.0, 0.5]).chunk == 1
