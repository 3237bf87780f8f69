"""A live server under mutated messages and a viewer that never reads: typed answers, no crash, bounded memory.

ROADLOOP_FUZZ_FLOOD=200000 sends that many messages instead of a few.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from clients.client import connect, watch
from clients.handshake import open_socket
from clients.protocol import ErrorReply, Notice, Watch, Watching, Welcome, pack, parse_reply

MESSAGES = int(os.environ.get("ROADLOOP_FUZZ_FLOOD", "3000"))
AT_ONCE = 50  # messages of one socket: after 100 bad ones the server ends it
GOLDEN = [
    path.read_bytes() for path in sorted((Path(__file__).parents[1] / "clients" / "golden").glob("request_*"))
]
GROWTH_BYTES = 16 << 20  # allocator arenas and caches; a leak of one message in ten would be more
HELLO = pack({"type": "hello", "id": 1})


@pytest.fixture(scope="module")
def server(run_server: Any) -> Iterator[Any]:
    with run_server("--set", "lease_s=0.3", "--sessions-per-worker", "256") as server:
        yield server


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def mutated(rng: random.Random) -> bytes:
    """One golden request with bytes changed, cut out or put in."""
    out = bytearray(rng.choice(GOLDEN))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        out[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
    return bytes(out)


def flood(url: str, rng: random.Random, count: int) -> int:
    """Send `count` messages at once and read as many answers, all of them messages of the protocol. Returns how many refuse."""
    wire, closing = open_socket(url, "/v1/drive", {})
    with closing:
        wire.send(HELLO)
        assert isinstance(parse_reply(wire.recv(timeout=60)), Welcome)  # type: ignore[arg-type]
        for _ in range(count):
            wire.send(mutated(rng))
        answers = refused = 0
        while answers < count:
            reply = parse_reply(wire.recv(timeout=60))  # type: ignore[arg-type]
            answers += not isinstance(reply, Notice) and not getattr(reply, "more", False)
            refused += isinstance(reply, ErrorReply)
    return refused


def test_mutated_messages_are_answered_one_by_one_and_leave_nothing_behind(server: Any, http: Any) -> None:
    rng, workers, refused = random.Random(1), server.workers, 0
    rounds, warm = MESSAGES // AT_ONCE, 10
    for k in range(rounds):
        if k == warm:
            before = [resident_bytes(pid) for pid in (server.process.pid, *workers)]
        refused += flood(server.url, rng, AT_ONCE)
    assert refused > MESSAGES * 0.5  # few mutations change nothing that matters
    assert server.workers == workers  # none was lost
    assert http(server.url, "/readyz").status == 200
    after = [resident_bytes(pid) for pid in (server.process.pid, *workers)]
    print(f"{rounds * AT_ONCE} messages, {refused} refused; resident bytes {before} -> {after}")  # noqa: T201
    for then, now in zip(before, after, strict=True):
        assert now <= then + GROWTH_BYTES


def test_too_many_bad_messages_end_the_socket(server: Any) -> None:
    wire, closing = open_socket(server.url, "/v1/drive", {})
    with closing:
        for _ in range(101):
            wire.send(b"no map")
            last = parse_reply(wire.recv(timeout=60))  # type: ignore[arg-type]
            assert isinstance(last, ErrorReply)
        assert last.fatal
        with pytest.raises(ConnectionClosed):
            wire.recv(timeout=60)


def test_a_viewer_that_never_reads_costs_no_memory_and_delays_nobody(server: Any) -> None:
    with connect(server.url, encoding="raw") as client:
        client.session.reset("zero", rig="surround7")
        wire, closing = open_socket(server.url, "/v1/view", {}, queue=1)
        with closing:
            wire.send(pack(Watch(id=1, session=client.session.name)))
            assert isinstance(parse_reply(wire.recv(timeout=60)), Watching)  # type: ignore[arg-type]
            for _ in range(20):
                client.session.step([0.0, 0.1])
            before = resident_bytes(server.process.pid)
            for _ in range(60):  # 2.4 MB each
                client.session.step([0.0, 0.1])
            assert resident_bytes(server.process.pid) <= before + GROWTH_BYTES
            assert next(watch(server.url, client.session.name, timeout_s=60)).chunk == 79
