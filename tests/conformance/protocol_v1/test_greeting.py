"""Who the server is, and who is let in."""

from typing import Any

import pytest
import websockets.exceptions
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clients.handshake import socket_url
from clients.protocol import SUBPROTOCOL, CloseCode, Welcome


def test_the_welcome_tells_what_a_driver_must_know(socket: Any) -> None:
    welcome: Welcome = socket.welcome
    assert welcome.frames_per_chunk > 0
    assert welcome.dt_us > 0
    assert {"controls"} <= {space.name for space in welcome.action_spaces}
    assert all(len(s.columns) == len(s.low) == len(s.high) for s in welcome.action_spaces)
    assert welcome.cameras
    assert welcome.limits.max_message_bytes >= 1 << 20
    (session,) = welcome.sessions
    assert (session.state, session.next_chunk) == ("new", 0)
    assert socket.wire.subprotocol == SUBPROTOCOL


def test_another_major_version_is_refused_at_the_handshake(url: str, headers: dict[str, str]) -> None:
    address, offered = socket_url(url, "/v1/drive"), [Subprotocol("roadloop.v9.msgpack")]
    with pytest.raises(websockets.exceptions.InvalidStatus) as raised:  # noqa: SIM117
        with connect(address, additional_headers=headers, subprotocols=offered, proxy=None):
            pass
    assert raised.value.response.status_code == 400
    assert b"UNSUPPORTED" in raised.value.response.body


def test_compression_is_declined(url: str, headers: dict[str, str]) -> None:
    address, offered = socket_url(url, "/v1/drive"), [Subprotocol(SUBPROTOCOL)]
    with connect(
        address, additional_headers=headers, subprotocols=offered, compression="deflate", proxy=None
    ) as wire:
        assert wire.request is not None
        assert "deflate" in wire.request.headers["Sec-WebSocket-Extensions"]
        assert wire.response is not None
        assert "Sec-WebSocket-Extensions" not in wire.response.headers


def test_anything_but_hello_first_is_fatal(dial: Any) -> None:
    socket = dial()
    reply = socket.step(0)
    assert (reply.code, reply.fatal) == ("BAD_STATE", True)
    assert socket.closed() == CloseCode.HELLO_TIMEOUT


def test_the_server_lists_its_engines_tiers_scenarios_and_cameras(
    info: dict[str, Any], get_json: Any
) -> None:
    assert all(engine["tiers"] for engine in info["engines"])
    assert all(camera["name"] for cameras in info["rigs"].values() for camera in cameras)
    assert info["default_rig"] in info["rigs"]
    listed = get_json("/v1/scenarios")
    assert [scenario["name"] for scenario in listed] == info["scenarios"]
    assert {"title", "group", "split", "map", "weather", "time_of_day", "duration_s"} <= listed[0].keys()
