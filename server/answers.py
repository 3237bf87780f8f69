"""What sockets answer apart from a session's doing: the greeting, and errors as messages and close codes."""

from collections.abc import Iterable

from clients.protocol import (
    CAPABILITIES,
    PROTOCOL_MINOR,
    ActionSpace,
    Camera,
    CloseCode,
    ErrorCode,
    ErrorReply,
    Hello,
    ProtocolError,
    SessionInfo,
    Welcome,
)
from clients.protocol.codec import MAX_MESSAGE_BYTES
from clients.protocol.replies import AGENT_COLUMNS, EGO_COLUMNS, Limits

from .hub import Hub
from .version import SERVER_NAME


def welcome(hub: Hub, hello: Hello, engine: str | None, sessions: Iterable[SessionInfo]) -> Welcome:
    """Who the server is, with the engine of this socket's first session."""
    info = hub.pool.describe(engine)
    limits = Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_sessions=hub.pool.slots,
        lease_s=hub.config.lease_s,
        idle_timeout_s=hub.config.idle_timeout_s,
        snapshot_bytes=hub.config.snapshot_bytes,
    )
    return Welcome(
        id=hello.id,
        protocol_minor=PROTOCOL_MINOR,
        server=SERVER_NAME,
        capabilities=list(CAPABILITIES),
        engine=info.engine,
        model=info.model,
        model_digest=info.model_digest,
        determinism=info.determinism,
        frames_per_chunk=info.frames_per_chunk,
        dt_us=info.dt_us,
        encoding=hello.encoding,
        encodings=["jpeg", "png", "raw"],
        rig=info.default_rig,
        cameras=[Camera(**camera) for camera in info.rigs[info.default_rig]],
        action_spaces=[ActionSpace(**space) for space in info.action_spaces],
        tiers=info.tiers,
        weathers=info.weathers,
        times_of_day=info.times_of_day,
        ego_columns=list(EGO_COLUMNS),
        agent_columns=list(AGENT_COLUMNS),
        limits=limits,
        sessions=list(sessions),
    )


def error_reply(error: ProtocolError, request_id: int | None, session: str | None = None) -> ErrorReply:
    """An error as a message."""
    return ErrorReply(
        id=request_id,
        session=session,
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        fatal=error.fatal,
        details={key: value for key, value in error.details.items() if key != "id"},
    )


def close_code(error: ProtocolError) -> CloseCode:
    """How a socket is closed after a fatal error."""
    return {
        ErrorCode.UNAUTHENTICATED: CloseCode.POLICY,
        ErrorCode.FORBIDDEN: CloseCode.POLICY,
        ErrorCode.TOO_MANY: CloseCode.POLICY,
        ErrorCode.BAD_MESSAGE: CloseCode.BAD_DATA,
        ErrorCode.BAD_STATE: CloseCode.HELLO_TIMEOUT,
        ErrorCode.DRAINING: CloseCode.DRAINING,
        ErrorCode.CAPACITY: CloseCode.CAPACITY,
        ErrorCode.UNKNOWN_SESSION: CloseCode.SESSION_GONE,
        ErrorCode.WORKER_LOST: CloseCode.SESSION_GONE,
    }.get(error.code, CloseCode.INTERNAL)
