"""How sockets are opened, and what a refused handshake means."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import websockets.exceptions
import websockets.sync.client

from .protocol import SUBPROTOCOL, CloseCode, ErrorCode, ProtocolError
from .protocol.parse import MAX_REPLY_BYTES

STATUS = {
    400: ErrorCode.UNSUPPORTED,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    429: ErrorCode.TOO_MANY,
    503: ErrorCode.CAPACITY,
}
CLOSED = {CloseCode.TAKEN_OVER: ErrorCode.TAKEN_OVER, CloseCode.SESSION_GONE: ErrorCode.UNKNOWN_SESSION}


def open_socket(
    url: str, path: str, headers: Mapping[str, str], queue: int = 16
) -> tuple[websockets.sync.client.ClientConnection, ExitStack]:
    """A synchronous socket, and what closes it. Raises what `must_speak` does, too."""
    with ExitStack() as opening:
        socket = opening.enter_context(
            websockets.sync.client.connect(
                socket_url(url, path), additional_headers=headers, **socket_options(url, queue)
            )
        )
        must_speak(socket.subprotocol)
        return socket, opening.pop_all()


def must_speak(subprotocol: str | None) -> None:
    """Raises NegotiationError for a server that lets anybody in: it is older than the protocol, or none of ours."""
    if subprotocol != SUBPROTOCOL:
        raise websockets.exceptions.NegotiationError(
            f"one that does not speak {SUBPROTOCOL} but {subprotocol or 'no subprotocol'}"
        )


def socket_options(url: str, queue: int = 16) -> dict[str, Any]:
    """The same for both clients: no compression, large replies, a keep-alive that survives long steps of either side."""
    return {
        "subprotocols": [SUBPROTOCOL],
        "compression": None,
        "max_size": MAX_REPLY_BYTES,
        "max_queue": queue,
        "ping_interval": 20.0,
        "ping_timeout": 60.0,
        "close_timeout": 2.0,
        "open_timeout": 10.0,
        "proxy": None if is_local(url) else True,
    }


def is_local(url: str) -> bool:
    """Whether a URL names this machine, which no proxy leads to."""
    host = urlsplit(url if "//" in url else f"http://{url}").hostname or ""
    return host in ("localhost", "127.0.0.1", "::1")


def refusal(error: Exception) -> ProtocolError | None:
    """The server's refusal behind a failed handshake, or None if nobody answered."""
    if isinstance(error, websockets.exceptions.InvalidStatus):
        status, body = error.response.status_code, error.response.body or b""
        text = body.decode("utf-8", "replace")[:500] or f"HTTP status {status}"
        return ProtocolError(
            STATUS.get(status, ErrorCode.UNSUPPORTED), f"the server refused: {text}", fatal=True
        )
    if isinstance(error, websockets.exceptions.InvalidHandshake):
        return ProtocolError(ErrorCode.UNSUPPORTED, f"expected a roadloop server, got {error}", fatal=True)
    if (
        isinstance(error, websockets.exceptions.ConnectionClosed)
        and error.rcvd is not None
        and error.rcvd.code in CLOSED
    ):
        return ProtocolError(CLOSED[CloseCode(error.rcvd.code)], "the server closed the socket", fatal=True)
    return None


def socket_url(url: str, path: str) -> str:
    """`http://host:port` -> `ws://host:port/path`; ws and wss are accepted too.

    Raises:
        ValueError: another scheme.
    """
    return _with_scheme(url, path, {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"})


def http_url(url: str, path: str) -> str:
    """The same server over HTTP. Raises ValueError as `socket_url` does."""
    return _with_scheme(url, path, {"http": "http", "https": "https", "ws": "http", "wss": "https"})


def _with_scheme(url: str, path: str, schemes: Mapping[str, str]) -> str:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in schemes:
        raise ValueError(f"expected a URL starting with http, https, ws or wss, got {url!r}")
    return urlunsplit((schemes[parts.scheme], parts.netloc, parts.path.rstrip("/") + path, "", ""))
