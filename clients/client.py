"""The Python client, synchronous.

    with connect("http://127.0.0.1:8600") as client:
        session = client.session
        seen = session.reset("urban")
        while not session.done:
            seen = session.step([0.0, 0.5])

A lost connection is restored and the request repeated; the server answers a repeated step with the stored reply, so no chunk ever
runs twice.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import websockets.exceptions
import websockets.sync.client

from .conversation import Conversation, Remote
from .errors import ConnectionLostError, ReplyTimeoutError
from .handshake import open_socket, refusal
from .observation import Observation, StepResult
from .protocol import (
    Close,
    Closed,
    Fork,
    Forked,
    LaneMap,
    Notice,
    ProtocolError,
    Restore,
    Restored,
    Snapshot,
    SnapshotTaken,
    Started,
    Step,
    StepMany,
    Stepped,
    SteppedMany,
    TierSet,
    Welcome,
    pack,
)
from .protocol.requests import ActionSpaceName, Encoding
from .rest import lane_map
from .viewing import watch

__all__ = ["Client", "Session", "connect", "watch"]

R = TypeVar("R")
BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


def connect(
    url: str = "http://127.0.0.1:8600",
    *,
    token: str | None = None,
    sessions: int = 1,
    resume: Mapping[str, str] | None = None,
    encoding: Encoding = "jpeg",
    engine: str | None = None,
    timeout_s: float = 120.0,
    reconnect_s: float = 20.0,
) -> "Client":
    """Open a socket that drives `sessions` new sessions, or those in `resume` (session -> resume token).

    Args:
        url: of the server.
        token: bearer token, where the server wants one.
        sessions: how many to open.
        resume: sessions to attach to instead.
        encoding: of the frames: jpeg, png or raw.
        engine: of the new sessions, where the server runs several; None is its first.
        timeout_s: longest wait for one reply.
        reconnect_s: how long to try again after a lost connection; 0 is never.

    Raises:
        ConnectionLostError: nobody answers there.
        ProtocolError: the server refuses: token, version, capacity.
    """
    return Client(Conversation(url, token, sessions, encoding, resume or {}, engine), timeout_s, reconnect_s)


class Client:
    """One socket and the sessions that it drives. Not thread-safe: one thread per client."""

    def __init__(self, conversation: Conversation, timeout_s: float, reconnect_s: float) -> None:
        self._talk = conversation
        self._timeout_s, self._reconnect_s = timeout_s, reconnect_s
        self._socket: websockets.sync.client.ClientConnection | None = None
        self._closing = ExitStack()
        self._open()
        self.sessions = [Session(self, remote) for remote in self._talk.remotes.values()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def session(self) -> "Session":
        """The first session."""
        return self.sessions[0]

    @property
    def server(self) -> Welcome:
        """Who the server is: model, cameras, action spaces, limits."""
        assert self._talk.welcome is not None
        return self._talk.welcome

    @property
    def notices(self) -> list[Notice]:
        """What the server said without being asked, the newest last; at most 100."""
        return list(self._talk.notices)

    def step_many(
        self, actions: Mapping["Session", Any], space: ActionSpaceName = "controls"
    ) -> dict["Session", StepResult | ProtocolError]:
        """Step several sessions at once; a session that fails has its error as value and the others go on."""
        results = dict(self.step_each(actions, space))
        return {session: results[session] for session in actions}

    def step_each(
        self, actions: Mapping["Session", Any], space: ActionSpaceName = "controls"
    ) -> Iterator[tuple["Session", StepResult | ProtocolError]]:
        """As `step_many`, but each result as soon as the server has it: look at some while it makes the others.

        Take them all before the next request: who stops early loses the connection, which the next request restores.
        """
        waiting = {session.name: session for session in actions}
        items = [self._talk.step_item(s._remote, actions[s], space) for s in waiting.values()]
        request = StepMany(id=self._talk.next_id(), steps=items, stream=True)
        for reply in self._replies(request, SteppedMany):
            for name, result in self._talk.results(reply):
                session = waiting.pop(name, None)
                if session is None:
                    continue  # came before the connection was lost
                session.done = result.done if isinstance(result, StepResult) else session.done
                yield session, result

    def close(self) -> None:
        """Close the sessions, then the socket. Harmless the second time."""
        if self._socket is not None:
            for session in list(self.sessions):
                try:
                    session.close()
                except (ProtocolError, ConnectionLostError, ReplyTimeoutError):
                    break  # the lease frees what we cannot
        self._drop()
        self._reconnect_s = 0.0

    def disconnect(self) -> dict[str, str]:
        """Leave without closing the sessions; returns what `connect(resume=...)` needs before their lease ends."""
        self._drop()
        self._reconnect_s = 0.0
        return {remote.name: remote.token for remote in self._talk.remotes.values()}

    # Private ----------------------------------------------------------------------------------------------------

    def _ask(self, request: Any, kind: type[R], repeat: bool = True) -> R:
        """Send and wait for the one reply."""
        *_, reply = self._replies(request, kind, repeat)
        return reply

    def _replies(self, request: Any, kind: type[R], repeat: bool = True) -> Iterator[R]:
        """Send and wait for the reply, or all its parts; after a lost connection once more, if repeating does no harm."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            try:
                if self._socket is None:
                    self._open()
                yield from self._exchange(request, kind, deadline_s)
                return
            except websockets.exceptions.ConnectionClosed as closed:
                self._drop()
                if refused := refusal(closed):
                    raise refused from None
                if not repeat or self._reconnect_s <= 0:
                    raise ConnectionLostError(
                        f"the connection to {self._talk.url} was lost: {closed}"
                    ) from None

    def _exchange(self, request: Any, kind: type[R], deadline_s: float) -> Iterator[R]:
        assert self._socket is not None
        self._socket.send(pack(request))
        more = True
        while more:
            try:
                data = self._socket.recv(timeout=max(0.0, deadline_s - time.monotonic()))
            except TimeoutError:
                self._drop()
                raise ReplyTimeoutError(
                    f"expected a reply to {request.type} in {self._timeout_s:g} s"
                ) from None
            try:
                reply = self._talk.reply_to(request.id, data, kind)
            except ProtocolError as error:
                if error.fatal:
                    self._drop()
                raise
            if reply is not None:
                more = getattr(reply, "more", False)
                try:
                    yield reply
                except GeneratorExit:
                    if more:
                        self._drop()  # the other parts must never be taken for the next reply
                    raise
                # What the caller did meanwhile is no wait for the next part.
                deadline_s = time.monotonic() + self._timeout_s

    def _open(self) -> None:
        """Connect, greet, and again until `reconnect_s` has passed; a refusal is final."""
        began_s, attempt = time.monotonic(), 0
        while True:
            try:
                self._socket, self._closing = open_socket(self._talk.url, "/v1/drive", self._talk.headers())
                hello = self._talk.hello()
                (welcome,) = self._exchange(hello, Welcome, began_s + self._timeout_s)
                self._talk.welcomed(welcome)
                return
            except (OSError, websockets.exceptions.WebSocketException) as error:
                self._drop()
                if (refused := refusal(error)) and not refused.retryable:
                    raise refused from None
                pause_s = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                first = self._talk.welcome is None
                if first or time.monotonic() + pause_s - began_s > self._reconnect_s:
                    raise refused or ConnectionLostError(
                        f"expected a server at {self._talk.url}: {error}"
                    ) from None
                attempt += 1
                time.sleep(pause_s)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket = None
            self._closing.close()

    def _forget(self, session: "Session") -> None:
        self._talk.remotes.pop(session.name, None)
        self.sessions = [other for other in self.sessions if other is not session]


class Session:
    """One world. Made by `connect` and `fork`."""

    def __init__(self, client: Client, remote: Remote) -> None:
        self.done = False  # whether the episode is over
        self._client, self._remote = client, remote

    @property
    def name(self) -> str:
        """Its id on the server."""
        return self._remote.name

    @property
    def next_chunk(self) -> int:
        """Index of the chunk that the next step generates."""
        return self._remote.next_chunk

    def reset(self, scenario: str, seed: int = 0, **choices: Any) -> Observation:
        """Start a world.

        Args:
            scenario: one of the server's scenarios.
            seed: of everything random.
            choices: `rig`, `options` (cameras, steps, tier, layout, weather, time_of_day), `mode`, `hold_policy`, `snapshot_every`, `record`,
                `newest_frames` (of each camera and chunk; fewer frames cost the server less).
        """
        request = self._client._talk.reset(self._remote, scenario, seed, choices)
        self.done = False
        return self._client._talk.started(self._remote, self._client._ask(request, Started))

    def step(
        self, actions: Any, space: ActionSpaceName = "controls", deadline_ms: float | None = None
    ) -> StepResult:
        """Generate the next chunk. `actions` is [F, A], or one row [A] for all frames."""
        item = self._client._talk.step_item(self._remote, actions, space, deadline_ms)
        request = Step(id=self._client._talk.next_id(), **vars(item))
        result = self._client._talk.stepped(self._remote, self._client._ask(request, Stepped))
        self.done = result.done
        return result

    def snapshot(self) -> SnapshotTaken:
        """Keep the state on the server; give its `handle` to `restore`."""
        return self._client._ask(Snapshot(id=self._client._talk.next_id(), session=self.name), SnapshotTaken)

    def restore(self, handle: str) -> Observation:
        """Continue from a snapshot of this or another session."""
        request = Restore(id=self._client._talk.next_id(), session=self.name, handle=handle)
        seen = self._client._talk.restored(self._remote, self._client._ask(request, Restored))
        self.done = False
        return seen

    def fork(self, count: int = 1) -> list["Session"]:
        """Copies that this client drives too. Not repeated after a lost connection: it could copy twice."""
        request = Fork(id=self._client._talk.next_id(), session=self.name, count=count)
        reply = self._client._ask(request, Forked, repeat=False)
        copies = [Session(self._client, remote) for remote in self._client._talk.forked(self._remote, reply)]
        for copy in copies:
            copy.done = self.done
        self._client.sessions += copies
        return copies

    def set_tier(self, tier: str) -> TierSet:
        """Change the cache tier from the next chunk on; `client.server.tiers` lists them."""
        return self._client._ask(self._client._talk.set_tier(self._remote, tier), TierSet)

    def lane_map(self) -> LaneMap:
        """The roads of this world and the route through it, as lines in metres; the same until the next reset."""
        return lane_map(self._client._talk.url, self.name, token=self._client._talk.token)

    def close(self) -> None:
        """End the session on the server."""
        try:
            self._client._ask(Close(id=self._client._talk.next_id(), session=self.name), Closed)
        except ProtocolError as error:
            if error.code != "UNKNOWN_SESSION":
                raise
        self._client._forget(self)
