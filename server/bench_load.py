"""The load of `roadloop bench server`: a driver of many sessions that costs little, as it shares the cores with what it measures.

It unpacks every message and checks every result, pictures included, but makes no arrays and no objects of the client's; nor has it a thread of
its own for keep-alives, which is what a client that runs a policy between steps needs.
"""

import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import BytesLike, Subprotocol
from websockets.uri import parse_uri

from clients.handshake import socket_url
from clients.protocol import SUBPROTOCOL, Hello, ResumeEntry, pack
from clients.protocol.parse import MAX_REPLY_BYTES

BUFFER_BYTES = 1 << 18
JPEG_START = b"\xff\xd8"


class Load:
    """Steps sessions in lockstep on one socket, all once per `round`.

    Args:
        url: of the server.
        sessions: resume tokens by name.
        next_chunk: of all of them.
        action: [F, A] float32 controls, for all of them.
        pictures: how many each result must have.
    """

    def __init__(
        self, url: str, sessions: Mapping[str, str], next_chunk: int, action: np.ndarray, pictures: int
    ) -> None:
        self._names, self._next_chunk, self._pictures = list(sessions), next_chunk, pictures
        self._action = msgpack.unpackb(pack({"": action}))[""]  # as it travels
        self._requests = 0
        self._messages: deque[BytesLike] = deque()  # received, not read
        self._open(url)
        resume = [ResumeEntry(session=name, token=token) for name, token in sessions.items()]
        self._ask("welcome", vars(Hello(id=0, sessions=0, resume=resume)))

    def close(self) -> None:
        """End the sessions and the socket."""
        for name in self._names:
            self._ask("closed", {"type": "close", "session": name})
        self._socket.close()

    def round(self) -> None:
        """Step all sessions once.

        Raises:
            RuntimeError: one of them got something else than its next chunk with all pictures.
        """
        steps = [
            {"session": name, "chunk": self._next_chunk, "actions": self._action} for name in self._names
        ]
        waiting = set(self._names)
        reply = self._ask("stepped_many", {"type": "step_many", "steps": steps, "stream": True})
        while True:
            for result in reply["results"]:
                self._check(result)
                waiting.remove(result["session"])
            if not waiting:
                break
            reply = self._expect("stepped_many")
        self._next_chunk += 1

    def _check(self, result: dict[str, Any]) -> None:
        if result["type"] != "stepped" or result["chunk"] != self._next_chunk:
            raise RuntimeError(f"expected chunk {self._next_chunk}, got {_short(result)}")
        images = [image for camera in result["frames"].values() for image in camera]
        if len(images) != self._pictures or not all(image.startswith(JPEG_START) for image in images):
            raise RuntimeError(f"expected {self._pictures} JPEG pictures, got {len(images)}")

    def _ask(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        self._requests += 1
        self._protocol.send_binary(pack(request | {"id": self._requests}))
        self._flush()
        return self._expect(kind)

    def _expect(self, kind: str) -> dict[str, Any]:
        while not self._messages:
            self._receive()
        message: dict[str, Any] = msgpack.unpackb(self._messages.popleft())
        if message["type"] != kind or message["id"] != self._requests:
            raise RuntimeError(f"expected {kind} {self._requests}, got {_short(message)}")
        return message

    def _open(self, url: str) -> None:
        where = parse_uri(socket_url(url, "/v1/drive"))
        self._socket = socket.create_connection((where.host, where.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._protocol = ClientProtocol(
            where, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MAX_REPLY_BYTES
        )
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while self._protocol.state is State.CONNECTING:
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(BUFFER_BYTES)
        if not data:
            raise RuntimeError("expected a reply, got the end of the connection")
        self._protocol.receive_data(data)
        self._flush()  # the answers to pings
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._messages.append(event.data)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._socket.sendall(data)


def _short(message: dict[str, Any]) -> dict[str, Any]:
    """A message without its pictures."""
    return {key: message[key] for key in ("type", "id", "chunk", "code", "message") if key in message}
