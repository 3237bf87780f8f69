"""What is no message, and what only looks like none."""

from typing import Any

import pytest

from clients.protocol import CloseCode, Hello, Started, pack


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", pack({"type": "fly", "id": 3}), pack({"type": "step", "id": 3}), "text"],
    ids=["empty", "reserved", "no type", "unknown type", "no chunk", "text frame"],
)
def test_a_bad_message_gets_an_error_and_the_socket_stays(world: Any, data: bytes | str) -> None:
    world.wire.send(data)
    reply = world.reply()
    assert reply.code in ("BAD_MESSAGE", "BAD_ACTION")
    assert not reply.fatal
    assert world.step(0).chunk == 0


def test_an_oversized_message_is_refused(world: Any) -> None:
    # Only the frame's header, which announces 2 MiB: a server that hangs up on unread bytes may lose its close frame.
    binary, masked_64_bit_length = 0x82, 0xFF
    world.wire.socket.sendall(bytes([binary, masked_64_bit_length]) + (2 << 20).to_bytes(8, "big") + bytes(4))
    assert world.closed() == CloseCode.TOO_BIG


def test_unknown_fields_are_ignored(socket: Any) -> None:
    assert isinstance(socket.reset(invented_later={"x": [1, 2]}), Started)
    assert Hello(id=1).protocol_minor >= 0
