"""A driver that says exactly what it is told, to any server.

    ROADLOOP_CONFORMANCE_URL=http://host:8600 ROADLOOP_CONFORMANCE_TOKEN=... pytest tests/conformance/protocol_v1

Without the variables a local server with the zero-cost world is used. Needs at least four free sessions.
"""

import itertools
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import websockets.exceptions

from clients.handshake import open_socket
from clients.local import local_server
from clients.protocol import Notice, Started, Welcome, pack, parse_reply

TOKEN = os.environ.get("ROADLOOP_CONFORMANCE_TOKEN")
HEADERS = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
TIMEOUT_S = 60.0


class Socket:
    """One connection. `setup` is the reset that every server must be able to do."""

    welcome: Welcome

    def __init__(self, url: str, path: str, setup: dict[str, Any]) -> None:
        self.wire, self.closing = open_socket(url, path, HEADERS)
        self.ids = itertools.count(1)
        self.setup = setup

    def ask(self, type: str, **fields: Any) -> Any:
        number = next(self.ids)
        self.wire.send(pack({"type": type, "id": number, **fields}))
        reply = self.reply()
        assert getattr(reply, "id", number) == number
        return reply

    def reset(self, **other: Any) -> Any:
        return self.ask("reset", **self.setup | other)

    def step(self, chunk: int, accel: float = 0.5, **other: Any) -> Any:
        return self.ask("step", chunk=chunk, actions=self.actions(accel), **other)

    @staticmethod
    def actions(accel: float = 0.5) -> np.ndarray:
        return np.tile(np.float32([0.0, accel]), (4, 1))

    def reply(self) -> Any:
        """The next message that is no notice."""
        while True:
            data = self.wire.recv(timeout=TIMEOUT_S)
            assert isinstance(data, bytes)
            reply = parse_reply(data)
            if not isinstance(reply, Notice):
                return reply

    def closed(self) -> int:
        """The code with which the server closes."""
        with pytest.raises(websockets.exceptions.ConnectionClosed) as raised:  # noqa: PT012
            while True:
                self.wire.recv(timeout=TIMEOUT_S)
        assert raised.value.rcvd is not None
        return raised.value.rcvd.code


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    given = os.environ.get("ROADLOOP_CONFORMANCE_URL")
    if given:
        yield given
        return
    with local_server("zero", "--set", "hello_timeout_s=1.0") as url:
        yield url


@pytest.fixture(scope="session")
def headers() -> dict[str, str]:
    """Of every handshake and call."""
    return HEADERS


@pytest.fixture(scope="session")
def get_json(url: str) -> Callable[[str], Any]:
    """What the server answers over REST."""

    def get(path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url + path, headers=HEADERS), timeout=30) as answer:
            return json.load(answer)

    return get


@pytest.fixture(scope="session")
def info(get_json: Callable[[str], Any]) -> dict[str, Any]:
    info: dict[str, Any] = get_json("/v1/server")
    return info


@pytest.fixture
def dial(url: str, info: dict[str, Any]) -> Callable[..., Socket]:
    """Open another socket."""
    rig = min(info["rigs"], key=lambda name: len(info["rigs"][name]))
    setup = {"scenario": info["scenarios"][0], "rig": rig, "seed": 7}
    return lambda path="/v1/drive": Socket(url, path, setup)


@pytest.fixture
def socket(dial: Callable[..., Socket]) -> Iterator[Socket]:
    """A driver that has said hello."""
    socket = dial()
    socket.welcome = socket.ask("hello", encoding="raw")
    yield socket
    for session in [s.session for s in socket.welcome.sessions]:
        try:
            socket.wire.send(pack({"type": "close", "id": 0, "session": session}))
        except websockets.exceptions.ConnectionClosed:
            break
    socket.closing.close()


@pytest.fixture
def world(socket: Socket) -> Socket:
    """A driver whose session has a world."""
    started = socket.reset()
    assert isinstance(started, Started), started
    return socket
