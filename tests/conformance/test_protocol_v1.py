"""The wire protocol, message by message, against any server.

    ROADLOOP_CONFORMANCE_URL=http://host:8600 ROADLOOP_CONFORMANCE_TOKEN=... pytest tests/conformance/test_protocol_v1.py

Without the variables a local server with the zero-cost world is used. Needs at least four free sessions.
"""

import itertools
import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import websockets.exceptions
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clients.handshake import open_socket, socket_url
from clients.local import local_server
from clients.protocol import (
    SUBPROTOCOL,
    CloseCode,
    ErrorReply,
    Forked,
    Frames,
    Hello,
    Notice,
    Restored,
    SnapshotTaken,
    Started,
    Stepped,
    SteppedMany,
    TierSet,
    Watching,
    Welcome,
    pack,
    parse_reply,
)

TOKEN = os.environ.get("ROADLOOP_CONFORMANCE_TOKEN")
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    given = os.environ.get("ROADLOOP_CONFORMANCE_URL")
    if given:
        yield given
        return
    with local_server("zero", "--set", "hello_timeout_s=1.0") as url:
        yield url


@pytest.fixture(scope="module")
def info(url: str) -> dict[str, Any]:
    info: dict[str, Any] = _get_json(f"{url}/v1/server")
    return info


def _get_json(address: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, headers=HEADERS), timeout=30) as answer:
        return json.load(answer)


class Socket:
    """A driver that says exactly what it is told."""

    def __init__(self, url: str, path: str = "/v1/drive") -> None:
        self.wire, self.closing = open_socket(url, path, HEADERS)
        self.ids = itertools.count(1)
        self.notices: list[Notice] = []

    def ask(self, type: str, **fields: Any) -> Any:
        number = next(self.ids)
        self.wire.send(pack({"type": type, "id": number, **fields}))
        reply = self.reply()
        assert getattr(reply, "id", number) == number
        return reply

    def reply(self) -> Any:
        while True:
            data = self.wire.recv(timeout=TIMEOUT_S)
            assert isinstance(data, bytes)
            reply = parse_reply(data)
            if not isinstance(reply, Notice):
                return reply
            self.notices.append(reply)

    def closed(self) -> int:
        with pytest.raises(websockets.exceptions.ConnectionClosed) as raised:  # noqa: PT012
            while True:
                self.wire.recv(timeout=TIMEOUT_S)
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code


@pytest.fixture
def socket(url: str) -> Iterator[Socket]:
    """A driver that has said hello."""
    socket = Socket(url)
    socket.welcome = socket.ask("hello", encoding="raw")  # type: ignore[attr-defined]
    yield socket
    for session in [s.session for s in socket.welcome.sessions]:  # type: ignore[attr-defined]
        try:
            socket.wire.send(pack({"type": "close", "id": 0, "session": session}))
        except websockets.exceptions.ConnectionClosed:
            break
    socket.closing.close()


@pytest.fixture
def world(socket: Socket, info: dict[str, Any]) -> Socket:
    """A driver whose session has a world."""
    started = socket.ask("reset", **setup(info))
    assert isinstance(started, Started), started
    return socket


def setup(info: dict[str, Any], **other: Any) -> dict[str, Any]:
    rig = min(info["rigs"], key=lambda name: len(info["rigs"][name]))
    return {"scenario": info["scenarios"][0], "rig": rig, "seed": 7} | other


def actions(accel: float = 0.5) -> np.ndarray:
    return np.tile(np.float32([0.0, accel]), (4, 1))


def step(world: Socket, chunk: int, accel: float = 0.5, **other: Any) -> Any:
    return world.ask("step", chunk=chunk, actions=actions(accel), **other)


# Hello ----------------------------------------------------------------------------------------------------------


def test_the_welcome_tells_what_a_driver_must_know(socket: Socket) -> None:
    welcome: Welcome = socket.welcome  # type: ignore[attr-defined]
    assert welcome.frames_per_chunk > 0
    assert welcome.dt_us > 0
    assert {"controls"} <= {space.name for space in welcome.action_spaces}
    assert all(len(s.columns) == len(s.low) == len(s.high) for s in welcome.action_spaces)
    assert welcome.cameras
    assert welcome.limits.max_message_bytes >= 1 << 20
    (session,) = welcome.sessions
    assert (session.state, session.next_chunk) == ("new", 0)
    assert socket.wire.subprotocol == SUBPROTOCOL


def test_another_major_version_is_refused_at_the_handshake(url: str) -> None:
    address, offered = socket_url(url, "/v1/drive"), [Subprotocol("roadloop.v9.msgpack")]
    with pytest.raises(websockets.exceptions.InvalidStatus) as raised:  # noqa: SIM117
        with connect(address, additional_headers=HEADERS, subprotocols=offered, proxy=None):
            pass
    assert raised.value.response.status_code == 400
    assert b"UNSUPPORTED" in raised.value.response.body


def test_anything_but_hello_first_is_fatal(url: str) -> None:
    socket = Socket(url)
    reply = socket.ask("step", chunk=0, actions=actions())
    assert (reply.code, reply.fatal) == ("BAD_STATE", True)
    assert socket.closed() == CloseCode.HELLO_TIMEOUT


def test_a_socket_may_drive_many_sessions(url: str, info: dict[str, Any]) -> None:
    socket = Socket(url)
    welcome = socket.ask("hello", sessions=3, encoding="raw")
    names = [s.session for s in welcome.sessions]
    for name in names:
        assert isinstance(socket.ask("reset", session=name, **setup(info)), Started)
    assert socket.ask("step", chunk=0, actions=actions()).code == "BAD_MESSAGE"
    steps = [{"session": name, "chunk": 0, "actions": actions()} for name in names]
    reply = socket.ask("step_many", steps=steps)
    assert isinstance(reply, SteppedMany)
    assert [(r.session, r.chunk) for r in reply.results] == [(name, 0) for name in names]
    assert reply.results[0].frames == reply.results[1].frames
    reply = socket.ask("step_many", steps=[steps[0] | {"chunk": 1}, steps[1] | {"chunk": 5}])
    assert isinstance(reply.results[0], Stepped)
    assert reply.results[1].code == "OUT_OF_ORDER"
    assert socket.ask("step_many", steps=[steps[2] | {"chunk": 1}] * 2).code == "BAD_MESSAGE"
    for name in names:
        assert socket.ask("close", session=name).type == "closed"
    socket.closing.close()


def test_results_of_many_sessions_may_come_one_by_one(url: str, info: dict[str, Any]) -> None:
    socket = Socket(url)
    names = [s.session for s in socket.ask("hello", sessions=3, encoding="raw").sessions]
    for name in names:
        socket.ask("reset", session=name, **setup(info))
    chunks = dict.fromkeys(names, 0) | {names[1]: 5}
    steps = [{"session": name, "chunk": chunk, "actions": actions()} for name, chunk in chunks.items()]
    parts = [socket.ask("step_many", steps=steps, stream=True)]
    while parts[-1].more:
        parts.append(socket.reply())
    assert {part.id for part in parts} == {3 + 2}
    results = {result.session: result for part in parts for result in part.results}
    assert sum(len(part.results) for part in parts) == 3
    assert results[names[0]].frames == results[names[2]].frames
    assert results[names[1]].code == "OUT_OF_ORDER"
    again = socket.ask("step_many", steps=steps[:1])
    assert not again.more
    assert again.results[0].frames == results[names[0]].frames
    for name in names:
        assert socket.ask("close", session=name).type == "closed"
    socket.closing.close()


def test_who_hangs_up_amid_the_results_gets_them_again(url: str, info: dict[str, Any]) -> None:
    first = Socket(url)
    sessions = first.ask("hello", sessions=3, encoding="raw").sessions
    for session in sessions:
        first.ask("reset", session=session.session, **setup(info))
    steps = [{"session": s.session, "chunk": 0, "actions": actions()} for s in sessions]
    first.wire.send(pack({"type": "step_many", "id": 9, "steps": steps, "stream": True}))
    first.reply()
    first.wire.socket.close()  # no goodbye
    second = Socket(url)
    resume = [{"session": s.session, "token": s.resume_token} for s in sessions]
    second.ask("hello", encoding="raw", resume=resume)
    for _ in range(2):
        results = second.ask("step_many", steps=steps).results
        assert [result.chunk for result in results] == [0, 0, 0]
    after = second.ask("step_many", steps=[each | {"chunk": 1} for each in steps]).results
    assert [result.chunk for result in after] == [1, 1, 1]
    for session in sessions:
        second.ask("close", session=session.session)
    second.closing.close()


# Reset and step ---------------------------------------------------------------------------------------------------


def test_a_reset_shows_the_first_frame_of_every_camera(socket: Socket, info: dict[str, Any]) -> None:
    started = socket.ask("reset", **setup(info))
    assert [c.name for c in started.cameras] == list(started.frames)
    for camera in started.cameras:
        (image,) = started.frames[camera.name]
        assert len(image) == camera.height * camera.width * 3
    assert started.ego.shape == (1, len(socket.welcome.ego_columns))  # type: ignore[attr-defined]
    assert started.next_chunk == 0


def test_a_step_shows_the_chunk_frame_by_frame(world: Socket) -> None:
    frames = world.welcome.frames_per_chunk  # type: ignore[attr-defined]
    stepped = step(world, 0)
    assert isinstance(stepped, Stepped)
    assert stepped.chunk == 0
    assert all(len(images) == frames for images in stepped.frames.values())
    assert stepped.ego.shape[0] == frames
    assert len(stepped.metrics["off_road"]) == frames
    assert isinstance(stepped.reward, float)
    assert stepped.ego[-1, 3] > stepped.ego[0, 3] - 1e-6  # it was told to accelerate


def test_a_driver_may_ask_for_the_newest_frames_alone(world: Socket, info: dict[str, Any]) -> None:
    every = [step(world, k).frames for k in range(2)]
    started = world.ask("reset", **setup(info, newest_frames=1))
    assert isinstance(started, Started), started
    assert started.ego.shape[0] == 1
    first = step(world, 0)
    assert first.frames == {camera: images[-1:] for camera, images in every[0].items()}
    assert first.ego.shape[0] == world.welcome.frames_per_chunk  # type: ignore[attr-defined]
    assert step(world, 0).frames == first.frames
    handle = world.ask("snapshot").handle
    world.ask("reset", **setup(info))
    restored = world.ask("restore", handle=handle)
    assert restored.frames == first.frames
    assert step(world, 1).frames == {camera: images[-1:] for camera, images in every[1].items()}


def test_a_viewer_sees_all_frames_of_a_driver_that_asked_for_the_newest(
    world: Socket, url: str, info: dict[str, Any]
) -> None:
    world.ask("reset", **setup(info, newest_frames=2))
    viewer = Socket(url, "/v1/view")
    viewer.ask("watch", session=world.welcome.sessions[0].session)  # type: ignore[attr-defined]
    viewer.reply()
    driven, seen = step(world, 0), viewer.reply()
    for camera, images in seen.frames.items():
        assert len(images) == world.welcome.frames_per_chunk  # type: ignore[attr-defined]
        assert driven.frames[camera] == images[-2:]
    viewer.closing.close()


@pytest.mark.parametrize(
    ("newest_frames", "code"),
    [
        (0, "BAD_MESSAGE"),
        (-1, "BAD_MESSAGE"),
        ("1", "BAD_MESSAGE"),
        (1.5, "BAD_MESSAGE"),
        (64, "BAD_REQUEST"),
    ],
)
def test_a_number_of_frames_that_no_chunk_has_is_refused(
    world: Socket, info: dict[str, Any], newest_frames: Any, code: str
) -> None:
    refused = world.ask("reset", **setup(info, newest_frames=newest_frames))
    assert (refused.code, refused.fatal) == (code, False)
    assert "newest_frames" in refused.message
    assert step(world, 0).chunk == 0


def test_the_same_seed_and_actions_give_the_same_bytes(world: Socket, info: dict[str, Any]) -> None:
    first = [step(world, k).frames for k in range(3)]
    world.ask("reset", **setup(info))
    assert [step(world, k).frames for k in range(3)] == first


def test_a_repeated_step_gets_the_same_bytes_and_runs_once(world: Socket) -> None:
    once = step(world, 0)
    again = step(world, 0)
    assert again.frames == once.frames
    np.testing.assert_array_equal(again.ego, once.ego)
    assert step(world, 1).chunk == 1


def test_order_is_kept(world: Socket) -> None:
    step(world, 0)
    assert step(world, 0, accel=0.25).code == "CHUNK_CONFLICT"
    ahead = step(world, 5)
    assert (ahead.code, ahead.fatal, ahead.details["next_chunk"]) == ("OUT_OF_ORDER", False, 1)
    assert step(world, 1).chunk == 1


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.zeros((3, 2), np.float32), "BAD_ACTION"),
        (np.zeros((4, 5), np.float32), "BAD_ACTION"),
        (np.full((4, 2), np.nan, np.float32), "BAD_ACTION"),
        (np.full((4, 2), 1e6, np.float32), "BAD_ACTION"),
        ("left", "BAD_ACTION"),
        (None, "BAD_ACTION"),
    ],
    ids=["rows", "columns", "nan", "bounds", "text", "none"],
)
def test_a_bad_action_changes_nothing(world: Socket, values: Any, code: str) -> None:
    refused = world.ask("step", chunk=0, actions=values)
    assert isinstance(refused, ErrorReply)
    assert (refused.code, refused.fatal) == (code, False)
    assert "expected" in refused.message.lower() or "got" in refused.message
    assert step(world, 0).chunk == 0


@pytest.mark.parametrize(
    "change",
    [
        {"scenario": "no-such"},
        {"rig": "no-such"},
        {"options": {"cameras": ["no-such"]}},
        {"scenario": "../x.yaml"},
    ],
    ids=["scenario", "rig", "camera", "path"],
)
def test_unknown_names_are_refused_and_the_world_goes_on(
    world: Socket, info: dict[str, Any], change: dict[str, Any]
) -> None:
    step(world, 0)
    refused = world.ask("reset", **setup(info, **change))
    assert (refused.code, refused.fatal) == ("BAD_REQUEST", False)
    assert step(world, 1).chunk == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", pack({"type": "fly", "id": 3}), pack({"type": "step", "id": 3}), "text"],
    ids=["empty", "reserved", "no type", "unknown type", "no chunk", "text frame"],
)
def test_a_bad_message_gets_an_error_and_the_socket_stays(world: Socket, data: bytes | str) -> None:
    world.wire.send(data)
    reply = world.reply()
    assert reply.code in ("BAD_MESSAGE", "BAD_ACTION")
    assert not reply.fatal
    assert step(world, 0).chunk == 0


def test_an_oversized_message_is_refused(world: Socket) -> None:
    # Only the frame's header, which announces 2 MiB: a server that hangs up on unread bytes may lose its close frame.
    binary, masked_64_bit_length = 0x82, 0xFF
    world.wire.socket.sendall(bytes([binary, masked_64_bit_length]) + (2 << 20).to_bytes(8, "big") + bytes(4))
    assert world.closed() == CloseCode.TOO_BIG


# Snapshot, restore, fork --------------------------------------------------------------------------------------------


def test_a_restored_session_continues_as_the_original(world: Socket) -> None:
    step(world, 0)
    taken = world.ask("snapshot")
    assert isinstance(taken, SnapshotTaken)
    assert (taken.next_chunk, len(taken.digest)) == (1, 64)
    expected = [step(world, k).frames for k in (1, 2)]
    restored = world.ask("restore", handle=taken.handle)
    assert isinstance(restored, Restored)
    assert restored.next_chunk == 1
    assert [step(world, k).frames for k in (1, 2)] == expected
    assert world.ask("restore", handle="no-such").code == "UNKNOWN_SNAPSHOT"


def test_forks_go_their_own_way(world: Socket) -> None:
    step(world, 0)
    forked = world.ask("fork", count=2)
    assert isinstance(forked, Forked)
    original = world.welcome.sessions[0].session  # type: ignore[attr-defined]
    left, right = (s.session for s in forked.sessions)
    assert all(s.next_chunk == 1 for s in forked.sessions)
    a = step(world, 1, 2.0, session=left)
    b = step(world, 1, session=right)
    c = step(world, 1, session=original)
    assert b.frames == c.frames
    assert not np.array_equal(a.ego, c.ego)
    for name in (left, right):
        world.ask("close", session=name)


def test_a_new_session_wants_a_reset_first(socket: Socket) -> None:
    for request in ("snapshot", "fork"):
        assert socket.ask(request).code == "BAD_STATE"
    assert socket.ask("set_tier", tier="exact").code == "BAD_STATE"
    assert step(socket, 0).code == "BAD_STATE"


# Tiers, conditions, maps ------------------------------------------------------------------------------------------------


def test_every_tier_of_the_server_can_be_set_between_two_chunks(world: Socket, info: dict[str, Any]) -> None:
    tiers = world.welcome.tiers  # type: ignore[attr-defined]
    assert tiers == info["tiers"]
    assert "exact" in tiers
    for k, tier in enumerate(tiers):
        told = world.ask("set_tier", tier=tier)
        assert isinstance(told, TierSet), told
        assert (told.tier, told.next_chunk) == (tier, k)
        stepped = step(world, k)
        assert stepped.chunk == k
        assert stepped.cache is None or stepped.cache.tier == tier


def test_a_tier_that_there_is_not_is_refused_with_those_that_there_are(world: Socket) -> None:
    step(world, 0)
    refused = world.ask("set_tier", tier="warp")
    assert (refused.code, refused.fatal) == ("BAD_REQUEST", False)
    assert "exact" in refused.message
    assert step(world, 1).chunk == 1


def test_a_tier_may_change_while_the_last_step_can_still_be_repeated(world: Socket) -> None:
    once = step(world, 0)
    world.ask("set_tier", tier="exact")
    assert step(world, 0).frames == once.frames


@pytest.mark.parametrize("option", ["weather", "time_of_day"])
def test_conditions_that_there_are_not_are_refused(world: Socket, info: dict[str, Any], option: str) -> None:
    refused = world.ask("reset", **setup(info, options={option: "hail"}))
    assert (refused.code, refused.fatal) == ("BAD_REQUEST", False)
    assert step(world, 0).chunk == 0


def test_the_server_lists_its_engines_tiers_scenarios_and_cameras(url: str, info: dict[str, Any]) -> None:
    assert all(engine["tiers"] for engine in info["engines"])
    assert all(camera["name"] for cameras in info["rigs"].values() for camera in cameras)
    assert info["default_rig"] in info["rigs"]
    listed = _get_json(f"{url}/v1/scenarios")
    assert [scenario["name"] for scenario in listed] == info["scenarios"]
    assert {"title", "group", "split", "map", "weather", "time_of_day", "duration_s"} <= listed[0].keys()


# Leases, viewers ----------------------------------------------------------------------------------------------------


def test_a_dropped_driver_resumes_with_its_token(url: str, info: dict[str, Any]) -> None:
    first = Socket(url)
    (session,) = first.ask("hello", encoding="raw").sessions
    first.ask("reset", **setup(info))
    lost = step(first, 0)
    first.wire.socket.close()  # no goodbye
    second = Socket(url)
    resume = [{"session": session.session, "token": session.resume_token}]
    (info_now,) = second.ask("hello", encoding="raw", resume=resume).sessions
    assert info_now.next_chunk == 1
    assert step(second, 0).frames == lost.frames
    assert step(second, 1).chunk == 1
    second.ask("close")


def test_a_resume_token_takes_the_session_from_another_socket(world: Socket, url: str) -> None:
    session = world.welcome.sessions[0]  # type: ignore[attr-defined]
    other = Socket(url)
    other.ask("hello", resume=[{"session": session.session, "token": session.resume_token}])
    assert world.closed() == CloseCode.TAKEN_OVER
    assert step(other, 0).chunk == 0
    other.ask("close")


def test_a_wrong_resume_token_is_refused(world: Socket, url: str) -> None:
    session = world.welcome.sessions[0].session  # type: ignore[attr-defined]
    other = Socket(url)
    refused = other.ask("hello", resume=[{"session": session, "token": "guess"}])
    assert (refused.code, refused.fatal) == ("UNKNOWN_SESSION", True)
    assert step(world, 0).chunk == 0


def test_a_viewer_sees_what_the_driver_sees(world: Socket, url: str) -> None:
    viewer = Socket(url, "/v1/view")
    watching = viewer.ask("watch", session=world.welcome.sessions[0].session)  # type: ignore[attr-defined]
    assert isinstance(watching, Watching)
    opening = viewer.reply()
    assert isinstance(opening, Frames)
    assert opening.chunk == -1
    stepped = step(world, 0)
    seen = viewer.reply()
    assert (seen.chunk, seen.frames) == (0, stepped.frames)
    viewer.closing.close()


def test_a_viewer_cannot_drive(world: Socket, url: str) -> None:
    viewer = Socket(url, "/v1/view")
    viewer.ask("watch", session=world.welcome.sessions[0].session)  # type: ignore[attr-defined]
    viewer.reply()
    viewer.wire.send(pack({"type": "close", "id": 9}))
    assert viewer.reply().fatal
    assert step(world, 0).chunk == 0


def test_real_time_counts_what_the_driver_missed(socket: Socket, info: dict[str, Any]) -> None:
    import time

    started = socket.ask("reset", **setup(info, mode="realtime", hold_policy="coast"))
    assert started.mode == "realtime"
    chunk_s = socket.welcome.frames_per_chunk * socket.welcome.dt_us / 1e6  # type: ignore[attr-defined]
    first = step(socket, 0)
    time.sleep(2.5 * chunk_s)
    late = step(socket, 1)
    assert first.chunk == 0
    assert late.chunk >= 2
    assert late.held_chunks == late.chunk - 1
    began_s = time.monotonic()
    for chunk in range(late.chunk + 1, late.chunk + 4):
        assert step(socket, chunk).chunk >= chunk
    assert time.monotonic() - began_s > 2 * chunk_s


def test_unknown_fields_are_ignored(socket: Socket, info: dict[str, Any]) -> None:
    assert isinstance(socket.ask("reset", **setup(info), invented_later={"x": [1, 2]}), Started)
    assert Hello(id=1).protocol_minor >= 0
