"""Error codes, WebSocket close codes, and the one exception that carries an error across the wire."""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """What went wrong, for machines. Recoverable errors change nothing; fatal ones end the socket or the session."""

    BAD_MESSAGE = "BAD_MESSAGE"  # not msgpack, unknown type, missing or wrong field
    BAD_ACTION = "BAD_ACTION"  # action of wrong shape, dtype or range
    BAD_REQUEST = "BAD_REQUEST"  # well-formed, but the engine refuses it: unknown scenario, camera, option
    BAD_STATE = "BAD_STATE"  # this request is impossible now: step before reset, step after the end
    OUT_OF_ORDER = "OUT_OF_ORDER"  # chunk is not the next index
    CHUNK_CONFLICT = "CHUNK_CONFLICT"  # the last chunk again, with other action bytes
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"  # not begun within deadline_ms; nothing changed
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    UNKNOWN_SNAPSHOT = "UNKNOWN_SNAPSHOT"  # never existed, or evicted
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    TOO_MANY = "TOO_MANY"  # a limit of this token, address or session
    CAPACITY = "CAPACITY"  # the server is full; details.retry_after_s
    DRAINING = "DRAINING"  # the server is going away
    TAKEN_OVER = "TAKEN_OVER"  # another socket presented the resume token
    WORKER_LOST = "WORKER_LOST"  # details.next_chunk: restored from there; else the session is gone
    UNSUPPORTED = "UNSUPPORTED"  # version or capability that this side does not speak
    INTERNAL = "INTERNAL"  # a bug; the server's log has the traceback


RETRYABLE = frozenset(
    {
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.TOO_MANY,
        ErrorCode.CAPACITY,
        ErrorCode.DRAINING,
        ErrorCode.WORKER_LOST,
    }
)


class CloseCode(IntEnum):
    """WebSocket close codes that the server uses. 4xxx are ours."""

    NORMAL = 1000
    BAD_DATA = 1007
    POLICY = 1008  # authentication, authorisation, origin
    TOO_BIG = 1009
    INTERNAL = 1011
    DRAINING = 1012
    CAPACITY = 1013
    HELLO_TIMEOUT = 4408
    TAKEN_OVER = 4409
    SESSION_GONE = 4410


class ProtocolError(Exception):
    """An error with its machine-readable code; the message reads *expected X, got Y*."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        fatal: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fatal = fatal
        self.details = dict(details or {})

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in RETRYABLE

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
