"""A driver's side of the protocol without I/O: requests out, replies in. Both clients are thin shells round it."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from .observation import Observation, StepResult, observation, step_result
from .protocol import (
    CAPABILITIES,
    Camera,
    ErrorCode,
    ErrorReply,
    Forked,
    Hello,
    Notice,
    ProtocolError,
    Reply,
    Reset,
    Restored,
    ResumeEntry,
    SessionInfo,
    SetTier,
    Started,
    StepItem,
    Stepped,
    SteppedMany,
    Welcome,
    parse_reply,
)
from .protocol.requests import ActionSpaceName, Encoding

R = TypeVar("R")
CLIENT_NAME = "roadloop-python"


class Remote:
    """What the client knows of one of its sessions."""

    def __init__(self, info: SessionInfo) -> None:
        self.name = info.session
        self.token = info.resume_token
        self.next_chunk = info.next_chunk
        self.cameras: Mapping[str, Camera] = {}


class Conversation:
    """Builds requests and reads replies for the sessions of one socket."""

    def __init__(
        self,
        url: str,
        token: str | None,
        sessions: int,
        encoding: Encoding,
        resume: Mapping[str, str],
        engine: str | None = None,
    ) -> None:
        self.url = url
        self.token = token
        self.encoding: Encoding = encoding
        self.remotes: dict[str, Remote] = {}
        self.notices: list[Notice] = []
        self.welcome: Welcome | None = None
        self._ids = itertools.count(1)
        self._sessions, self._resume, self._engine = sessions, dict(resume), engine

    def next_id(self) -> int:
        """A fresh request id."""
        return next(self._ids)

    def headers(self) -> dict[str, str]:
        """Of the handshake."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def hello(self) -> Hello:
        """The first message: opens sessions the first time, resumes them every other time."""
        resume = {r.name: r.token for r in self.remotes.values()} if self.welcome else self._resume
        return Hello(
            id=self.next_id(),
            client=CLIENT_NAME,
            capabilities=list(CAPABILITIES),
            sessions=0 if resume or self.welcome else self._sessions,
            resume=[ResumeEntry(session=name, token=token) for name, token in resume.items()],
            encoding=self.encoding,
            engine=self._engine,
        )

    def welcomed(self, reply: Welcome) -> None:
        """The answer to hello. A resumed session keeps its own idea of the next chunk: that is what a retry needs."""
        for info in reply.sessions:
            if info.session not in self.remotes:
                self.adopt(info)
        self.welcome = reply

    def adopt(self, info: SessionInfo, parent: Remote | None = None) -> Remote:
        """A session that this socket now drives."""
        remote = Remote(info)
        if parent is not None:
            remote.cameras = parent.cameras
        self.remotes[info.session] = remote
        return remote

    def reply_to(self, request_id: int, data: bytes | str, kind: type[R]) -> R | None:
        """The reply if these bytes are the one to this request, or a part of it; None for a notice.

        Raises:
            ProtocolError: the server's error, or a reply that is none.
        """
        if isinstance(data, str):
            raise ProtocolError(ErrorCode.BAD_MESSAGE, "expected a binary frame, got text", fatal=True)
        reply: Reply = parse_reply(data)
        if isinstance(reply, Notice):
            self._note(reply)
            return None
        if isinstance(reply, ErrorReply) and reply.id in (None, request_id):
            raise self.error(reply)
        if not isinstance(reply, kind) or getattr(reply, "id", None) != request_id:
            got = f"{reply.type} {getattr(reply, 'id', '')}"
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE, f"expected {kind.__name__} {request_id}, got {got}", fatal=True
            )
        return reply

    def error(self, reply: ErrorReply) -> ProtocolError:
        """The server's error as an exception; a rolled-back session moves to where it goes on."""
        known = reply.code in ErrorCode.__members__
        code = ErrorCode(reply.code) if known else ErrorCode.INTERNAL
        remote = self.remotes.get(reply.session or "")
        if remote is None and len(self.remotes) == 1:
            remote = next(iter(self.remotes.values()))
        if code is ErrorCode.WORKER_LOST and remote is not None and "next_chunk" in reply.details:
            remote.next_chunk = int(reply.details["next_chunk"])
        return ProtocolError(code, reply.message, fatal=reply.fatal, details=reply.details)

    def _note(self, notice: Notice) -> None:
        self.notices = [*self.notices[-99:], notice]

    # Requests and what their replies mean -----------------------------------------------------------------------

    def reset(self, remote: Remote, scenario: str, seed: int, values: Mapping[str, Any]) -> Reset:
        """Start a world."""
        return Reset(id=self.next_id(), session=remote.name, scenario=scenario, seed=seed, **values)

    def started(self, remote: Remote, reply: Started) -> Observation:
        """The opening frame."""
        remote.next_chunk = reply.next_chunk
        remote.cameras = {camera.name: camera for camera in reply.cameras}
        return observation(reply, remote.cameras, -1)

    def step_item(
        self, remote: Remote, actions: Any, space: ActionSpaceName, deadline_ms: float | None = None
    ) -> StepItem:
        """The next chunk."""
        values = self.actions(actions)
        return StepItem(
            session=remote.name, chunk=remote.next_chunk, actions=values, space=space, deadline_ms=deadline_ms
        )

    def actions(self, actions: Any) -> np.ndarray:
        """One row [A] is held for the whole chunk: float32 [F, A]."""
        values = np.asarray(actions, np.float32)
        assert self.welcome is not None
        return np.tile(values, (self.welcome.frames_per_chunk, 1)) if values.ndim == 1 else values

    def stepped(self, remote: Remote, reply: Stepped) -> StepResult:
        """A committed chunk."""
        remote.next_chunk = reply.chunk + 1
        return step_result(reply, remote.cameras)

    def results(self, reply: SteppedMany) -> Iterator[tuple[str, StepResult | ProtocolError]]:
        """The results in a reply to step_many, or in a part of it, by session."""
        for result in reply.results:
            if isinstance(result, Stepped):
                yield result.session, self.stepped(self.remotes[result.session], result)
            else:
                yield result.session or "", self.error(result)

    def set_tier(self, remote: Remote, tier: str) -> SetTier:
        """Another cache tier."""
        return SetTier(id=self.next_id(), session=remote.name, tier=tier)

    def restored(self, remote: Remote, reply: Restored) -> Observation:
        """The snapshot's world."""
        remote.next_chunk = reply.next_chunk
        remote.cameras = {camera.name: camera for camera in reply.cameras}
        return observation(reply, remote.cameras, reply.next_chunk - 1)

    def forked(self, parent: Remote, reply: Forked) -> list[Remote]:
        """The copies."""
        return [self.adopt(info, parent) for info in reply.sessions]
