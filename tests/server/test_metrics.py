"""Every metric of the documented table moves when what it counts happens."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect as connect_bare
from websockets.typing import Origin, Subprotocol

from clients.client import connect
from clients.handshake import open_socket, socket_url
from clients.protocol import SUBPROTOCOL, ErrorCode, ProtocolError, Watch, Watching, pack, parse_reply
from server.metrics import Metrics

NAMES = {family.name for family in Metrics().registry.collect()}
FROM_THE_START = {
    "roadloop_build_info",
    "roadloop_session_slots",
    "roadloop_workers",
}  # not 0 once a worker is ready


class Scrapes:
    """What `/metrics` said in the beginning, and which metrics have moved since."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read = read
        self._first = self.samples()
        self.still = NAMES - FROM_THE_START
        assert self._first.keys() == NAMES
        assert all(max(self._first[name].values()) > 0 for name in FROM_THE_START)

    def samples(self) -> dict[str, dict[str, float]]:
        """Values by family and sample."""
        families = text_string_to_metric_families(self._read("/metrics").body)
        return {
            family.name: {f"{s.name}{sorted(s.labels.items())}": s.value for s in family.samples}
            for family in families
            if not family.name.endswith("_created")  # when a counter began
        }

    def look(self) -> bool:
        """Scrape; whether all have moved by now."""
        now = self.samples()
        self.still = {name for name in self.still if now[name] == self._first[name]}
        return not self.still


def refuse_a_page_of_another_site(url: str) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus):
        connect_bare(
            socket_url(url, "/v1/drive"),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            origin=Origin("http://elsewhere.example"),
            proxy=None,
        )


def drive_late_before_a_viewer_that_never_reads(url: str) -> None:
    with connect(url, encoding="raw") as client:
        client.session.reset("zero", rig="surround7", mode="realtime", hold_policy="hold")
        wire, closing = open_socket(url, "/v1/view", {}, queue=1)
        with closing:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(pack(Watch(id=1, session=client.session.name)))
            assert isinstance(parse_reply(wire.recv(timeout=60)), Watching)  # type: ignore[arg-type]
            client.session.step([0.0, 0.1])
            time.sleep(4.0)  # more chunks than the sockets between can hold
            assert client.session.step([0.0, 0.1]).held_chunks > 0


def take_more_snapshots_than_memory_holds(url: str) -> None:
    with connect(url, encoding="raw") as client:
        client.session.reset("zero", rig="surround7")
        client.session.step([0.0, 0.1])
        for session in (client.session, *client.session.fork(2)):
            session.snapshot()
        with pytest.raises(ProtocolError, match="UNKNOWN_SNAPSHOT"):
            client.session.restore("none")


def lose_a_worker(url: str, worker: int, during: Callable[[], Any]) -> None:
    with connect(url) as client:
        client.session.reset("zero", rig="front1", snapshot_every=1)
        client.session.step([0.0, 0.1])
        client.session.snapshot()  # waits for the one by policy
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(ProtocolError) as lost:
            client.session.step([0.0, 0.1])
        assert lost.value.code is ErrorCode.WORKER_LOST
        client.session.step([0.0, 0.1])  # waits for the recovery
        time.sleep(1.0)  # gauges are set twice a second
        during()


def test_every_metric_moves(run_server: Any, http: Any, tmp_path: Path) -> None:
    settings = ["snapshot_bytes=4000000", f"snapshot_dir={tmp_path}"]
    with run_server(*(part for value in settings for part in ("--set", value))) as server:
        time.sleep(1.0)
        scrapes = Scrapes(lambda path: http(server.url, path))
        refuse_a_page_of_another_site(server.url)
        drive_late_before_a_viewer_that_never_reads(server.url)
        take_more_snapshots_than_memory_holds(server.url)
        lose_a_worker(server.url, server.workers[0], scrapes.look)
        deadline_s = time.monotonic() + 20
        while not scrapes.look():
            assert time.monotonic() < deadline_s, scrapes.still
            time.sleep(0.1)
