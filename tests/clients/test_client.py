import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from websockets.sync.server import serve

from clients import aio
from clients.client import Client, connect, watch
from clients.errors import ConnectionLostError
from clients.handshake import http_url, socket_url
from clients.local import local_server
from clients.protocol import ErrorCode, ProtocolError
from clients.rest import call

RIG = "front3"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_server("zero") as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with connect(url) as client:
        yield client


@pytest.mark.parametrize("encoding", ["jpeg", "png", "raw"])
def test_every_encoding_decodes_to_the_same_pictures(url: str, encoding: str) -> None:
    pictures = {}
    for name in (encoding, "raw"):
        with connect(url, encoding=name) as client:  # type: ignore[arg-type]
            pictures[name] = client.session.reset("zero", rig=RIG).images()
    for camera, image in pictures[encoding].items():
        assert (image.shape, image.dtype) == ((1, 128, 224, 3), np.uint8)
        difference = np.abs(image.astype(int) - pictures["raw"][camera].astype(int))
        assert difference.mean() < (6 if encoding == "jpeg" else 1e-9)


def test_what_is_handed_out_belongs_to_the_caller(client: Client) -> None:
    seen = client.session.reset("zero", rig=RIG)
    first, second = seen.image("front_wide"), seen.image("front_wide")
    first[:] = 0
    assert second.any()
    seen.ego_frames[:] = 1.0
    assert client.session.step([0.0, 0.0]).ego["x_m"] > 0.1


def test_an_episode_runs_to_its_end(client: Client) -> None:
    client.session.reset("zero-short", rig=RIG)
    rewards = []
    while not client.session.done:
        result = client.session.step([0.0, 0.0])
        rewards.append(result.reward)
    assert (len(rewards), result.terminated, result.truncated, result.reason) == (3, True, False, "goal")
    assert all(type(reward) is float and reward > 0 for reward in rewards)
    with pytest.raises(ProtocolError, match="BAD_STATE"):
        client.session.step([0.0, 0.0])


def test_forks_and_snapshots_belong_to_the_client(client: Client) -> None:
    client.session.reset("zero", rig=RIG)
    handle = client.session.snapshot().handle
    expected = client.session.step([0.1, 1.0])
    (copy,) = client.session.fork()
    assert copy.next_chunk == 1
    assert copy.restore(handle).chunk == -1
    assert copy.step([0.1, 1.0]).frames == expected.frames
    copy.close()
    assert client.sessions == [client.session]


def test_a_session_that_fails_does_not_stop_the_others(url: str) -> None:
    with connect(url, sessions=2) as client:
        good, bad = client.sessions
        good.reset("zero", rig=RIG)
        results = client.step_many({good: [0.0, 0.0], bad: [0.0, 0.0]})
        assert results[good].chunk == 0  # type: ignore[union-attr]
        assert results[bad].code is ErrorCode.BAD_STATE  # type: ignore[union-attr]


def test_results_come_one_by_one_and_once_each_also_over_a_lost_connection(url: str) -> None:
    with connect(url, sessions=4) as client:
        for session in client.sessions:
            session.reset("zero", rig=RIG)
        act = dict.fromkeys(client.sessions, (0.0, 0.5))
        for chunk, cut in enumerate([False, True, False]):
            seen = []
            for session, result in client.step_each(act):
                seen.append(session)
                assert result.chunk == chunk  # type: ignore[union-attr]
                if cut and len(seen) == 1:
                    client._socket.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            assert set(seen) == set(client.sessions)
            assert len(seen) == len(client.sessions)


def test_who_stops_amid_the_results_can_go_on(url: str) -> None:
    with connect(url, sessions=3) as client:
        for session in client.sessions:
            session.reset("zero", rig=RIG)
        for _ in client.step_each(dict.fromkeys(client.sessions, (0.0, 0.5))):
            break
        results = client.step_many(dict.fromkeys(client.sessions, (0.0, 0.5)))
        (taken,) = [s for s, r in results.items() if r.chunk == 1]  # type: ignore[union-attr]
        assert [r.chunk for s, r in results.items() if s is not taken] == [0, 0]  # type: ignore[union-attr]


def test_leaving_and_coming_back(url: str) -> None:
    client = connect(url)
    client.session.reset("zero", rig=RIG)
    client.session.step([0.0, 0.0])
    tokens = client.disconnect()
    with connect(url, resume=tokens) as again:
        assert again.session.next_chunk == 1
        assert again.session.step([0.0, 0.0]).chunk == 1


def test_closing_twice_is_fine(url: str) -> None:
    client = connect(url)
    client.close()
    client.close()


def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(ConnectionLostError, match="expected a server at http"):
        connect("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("spoken", "message"),
    [
        (
            ["roadloop.v2.msgpack"],
            r"expected one of roadloop\.v2\.msgpack",
        ),  # another major version says so itself
        (
            None,
            r"expected a roadloop server, got one that does not speak roadloop\.v1\.msgpack but no subprotocol",
        ),
    ],
)
def test_a_server_of_another_version_is_told_from_one_that_is_gone(
    spoken: list[str] | None, message: str
) -> None:
    with serve(lambda socket: None, "127.0.0.1", 0, subprotocols=spoken) as other:  # type: ignore[arg-type]
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{other.socket.getsockname()[1]}"

        async def connect_asynchronously() -> None:
            async with aio.connect(url):
                pass

        for attempt in (lambda: connect(url), lambda: asyncio.run(connect_asynchronously())):
            with pytest.raises(ProtocolError, match=message) as refused:
                attempt()
            assert refused.value.code is ErrorCode.UNSUPPORTED
        other.shutdown()
        thread.join(10)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a:1", "ws://a:1/v1/drive"),
        ("https://a/base/", "wss://a/base/v1/drive"),
        ("a:8600", "ws://a:8600/v1/drive"),
        ("ws://a", "ws://a/v1/drive"),
    ],
)
def test_urls_of_all_kinds_reach_the_socket(url: str, expected: str) -> None:
    assert socket_url(url, "/v1/drive") == expected
    with pytest.raises(ValueError, match="expected a URL starting with"):
        socket_url("ftp://a", "/x")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:1", "http://localhost:1/version"),
        ("ws://a:1/sub/", "http://a:1/sub/version"),
        ("wss://a", "https://a/version"),
    ],
)
def test_the_same_address_leads_to_rest(url: str, expected: str) -> None:
    assert http_url(url, "/version") == expected


def test_calls_over_rest_end_in_the_same_errors_as_the_socket(url: str) -> None:
    assert call(url, "/healthz") == {"status": "ok"}
    with pytest.raises(ProtocolError) as unknown:
        call(url, "/v1/sessions/none", "DELETE")
    assert unknown.value.code is ErrorCode.UNKNOWN_SESSION
    with pytest.raises(ProtocolError) as bad:
        call(url, "/v1/tickets", "POST", body={"scope": "fly"})
    assert bad.value.code is ErrorCode.BAD_MESSAGE
    with pytest.raises(ConnectionLostError, match="expected a server"):
        call("http://127.0.0.1:1", "/healthz", timeout_s=5.0)


def test_a_tier_is_set_by_name_and_a_wrong_one_changes_nothing(client: Client) -> None:
    client.session.reset("zero", rig=RIG)
    client.session.step([0.0, 0.0])
    assert client.session.set_tier(client.server.tiers[0]).next_chunk == 1
    with pytest.raises(ProtocolError, match="exact"):
        client.session.set_tier("warp")
    assert client.session.step([0.0, 0.0]).chunk == 1


def test_what_a_viewer_gets_tells_stages_and_outcome_too(client: Client, url: str) -> None:
    client.session.reset("zero-short", rig=RIG)
    while not client.session.done:
        client.session.step([0.0, 0.0])
    seen = next(iter(watch(url, client.session.name)))
    assert (seen.chunk, seen.outcome, seen.cache) == (2, "success", None)
    assert seen.timing["encode"] >= 0


async def test_the_asynchronous_client_has_the_same_verbs(url: str) -> None:
    async with asyncio.timeout(30), aio.connect(url, encoding="raw", sessions=2) as client:
        left, right = client.sessions
        first = await left.reset("zero", seed=1, rig=RIG)
        await right.reset("zero", seed=1, rig=RIG)
        results = await client.step_many({left: [0.0, 1.0], right: [0.0, 1.0]})
        assert results[left].frames == results[right].frames  # type: ignore[union-attr]
        handle = (await left.snapshot()).handle
        (copy,) = await left.fork()
        a, b = await copy.step([0.1, 0.0]), await left.step([0.1, 0.0])
        assert a.frames == b.frames
        assert (await right.restore(handle)).chunk == 0
        seen = [s async for s in _first(aio.watch(url, left.name), 1)]
        assert seen[0].chunk == 1
        assert first.chunk == -1


async def _first(stream, count):  # type: ignore[no-untyped-def]
    for _ in range(count):
        yield await anext(stream)
    await stream.aclose()


async def test_a_cancelled_request_is_repeated_exactly_once(url: str) -> None:
    async with asyncio.timeout(30), aio.connect(url, encoding="raw") as client:
        await client.session.reset("zero", rig=RIG)
        for _ in range(5):
            task = asyncio.create_task(client.session.step([0.0, 0.2]))
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        before = client.session.next_chunk
        result = await client.session.step([0.0, 0.2])
        assert result.chunk == before


def test_the_client_imports_quickly_and_alone() -> None:
    probe = (
        "import sys, time; t = time.perf_counter(); import clients.client, clients.aio; "
        "print([m for m in ('torch', 'fastapi', 'cv2', 'server', 'worldmodel') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"
