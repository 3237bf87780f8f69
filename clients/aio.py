"""The Python client for asyncio: the same verbs as `clients.client`, awaited.

    async with connect("http://127.0.0.1:8600") as client:
        session = client.session
        seen = await session.reset("urban")
        while not session.done:
            seen = await session.step([0.0, 0.5])

A cancelled request drops the socket, so that its reply can never be taken for another one's; the next request resumes.
"""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import websockets.asyncio.client
import websockets.exceptions

from .client import BACKOFF_S
from .conversation import Conversation, Remote
from .errors import ConnectionLostError, ReplyTimeoutError
from .handshake import must_speak, refusal, socket_options, socket_url
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
from .viewing import watch_async as watch

__all__ = ["AsyncClient", "AsyncSession", "connect", "watch"]

R = TypeVar("R")


def connect(
    url: str = "http://127.0.0.1:8600",
    *,
    token: str | None = None,
    sessions: int = 1,
    resume: Mapping[str, str] | None = None,
    encoding: Encoding = "jpeg",
    timeout_s: float = 120.0,
    reconnect_s: float = 20.0,
) -> "AsyncClient":
    """As `clients.client.connect`; the socket opens on `async with`."""
    return AsyncClient(Conversation(url, token, sessions, encoding, resume or {}), timeout_s, reconnect_s)


class AsyncClient:
    """One socket and the sessions that it drives. Requests of several tasks take turns."""

    def __init__(self, conversation: Conversation, timeout_s: float, reconnect_s: float) -> None:
        self.sessions: list[AsyncSession] = []
        self._talk = conversation
        self._timeout_s, self._reconnect_s = timeout_s, reconnect_s
        self._socket: websockets.asyncio.client.ClientConnection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._open()
        self.sessions = [AsyncSession(self, remote) for remote in self._talk.remotes.values()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def session(self) -> "AsyncSession":
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

    async def step_many(
        self, actions: Mapping["AsyncSession", Any], space: ActionSpaceName = "controls"
    ) -> dict["AsyncSession", StepResult | ProtocolError]:
        """Step several sessions at once; a session that fails has its error as value and the others go on."""
        sessions = {session.name: session for session in actions}
        items = [self._talk.step_item(s._remote, actions[s], space) for s in sessions.values()]
        request = StepMany(id=self._talk.next_id(), steps=items, stream=True)
        parts = await self._ask_parts(request, SteppedMany)
        results = {sessions[name]: result for part in parts for name, result in self._talk.results(part)}
        for session, result in results.items():
            session.done = result.done if isinstance(result, StepResult) else session.done
        return {session: results[session] for session in actions}

    async def close(self) -> None:
        """Close the sessions, then the socket. Harmless the second time."""
        if self._socket is not None:
            for session in list(self.sessions):
                try:
                    await session.close()
                except (ProtocolError, ConnectionLostError, ReplyTimeoutError):
                    break  # the lease frees what we cannot
        await self.disconnect()

    async def disconnect(self) -> dict[str, str]:
        """Leave without closing the sessions; returns what `connect(resume=...)` needs before their lease ends."""
        await self._drop()
        self._reconnect_s = 0.0
        return {remote.name: remote.token for remote in self._talk.remotes.values()}

    # Private ----------------------------------------------------------------------------------------------------

    async def _ask(self, request: Any, kind: type[R], repeat: bool = True) -> R:
        """Send and wait for the one reply."""
        (reply,) = await self._ask_parts(request, kind, repeat)
        return reply

    async def _ask_parts(self, request: Any, kind: type[R], repeat: bool = True) -> list[R]:
        """Send and wait for all parts of the reply; after a lost connection once more, if repeating does no harm."""
        async with self._turn:
            while True:
                try:
                    if self._socket is None:
                        await self._open()
                    return await self._exchange(request, kind)
                except websockets.exceptions.ConnectionClosed as closed:
                    await self._drop()
                    if refused := refusal(closed):
                        raise refused from None
                    if not repeat or self._reconnect_s <= 0:
                        raise ConnectionLostError(
                            f"the connection to {self._talk.url} was lost: {closed}"
                        ) from None

    async def _exchange(self, request: Any, kind: type[R]) -> list[R]:
        assert self._socket is not None
        parts: list[R] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._socket.send(pack(request))
                while not parts or getattr(parts[-1], "more", False):
                    reply = self._talk.reply_to(request.id, await self._socket.recv(decode=False), kind)
                    if reply is not None:
                        parts.append(reply)
                return parts
        except TimeoutError:
            await self._drop()
            raise ReplyTimeoutError(f"expected a reply to {request.type} in {self._timeout_s:g} s") from None
        except asyncio.CancelledError:
            await self._drop()
            raise
        except ProtocolError as error:
            if error.fatal:
                await self._drop()
            raise

    async def _open(self) -> None:
        """Connect, greet, and again until `reconnect_s` has passed; a refusal is final."""
        began_s, attempt = time.monotonic(), 0
        while True:
            try:
                self._socket = await websockets.asyncio.client.connect(
                    socket_url(self._talk.url, "/v1/drive"),
                    additional_headers=self._talk.headers(),
                    **socket_options(self._talk.url),
                )
                must_speak(self._socket.subprotocol)
                (welcome,) = await self._exchange(self._talk.hello(), Welcome)
                self._talk.welcomed(welcome)
                return
            except (OSError, websockets.exceptions.WebSocketException) as error:
                await self._drop()
                if (refused := refusal(error)) and not refused.retryable:
                    raise refused from None
                pause_s = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
                first = self._talk.welcome is None
                if first or time.monotonic() + pause_s - began_s > self._reconnect_s:
                    raise refused or ConnectionLostError(
                        f"expected a server at {self._talk.url}: {error}"
                    ) from None
                attempt += 1
                await asyncio.sleep(pause_s)

    async def _drop(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            await socket.close()

    def _forget(self, session: "AsyncSession") -> None:
        self._talk.remotes.pop(session.name, None)
        self.sessions = [other for other in self.sessions if other is not session]


class AsyncSession:
    """One world. Made by `connect` and `fork`; `clients.client.Session` documents the verbs."""

    def __init__(self, client: AsyncClient, remote: Remote) -> None:
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

    async def reset(self, scenario: str, seed: int = 0, **choices: Any) -> Observation:
        """Start a world."""
        request = self._client._talk.reset(self._remote, scenario, seed, choices)
        self.done = False
        return self._client._talk.started(self._remote, await self._client._ask(request, Started))

    async def step(
        self, actions: Any, space: ActionSpaceName = "controls", deadline_ms: float | None = None
    ) -> StepResult:
        """Generate the next chunk."""
        item = self._client._talk.step_item(self._remote, actions, space, deadline_ms)
        request = Step(id=self._client._talk.next_id(), **vars(item))
        result = self._client._talk.stepped(self._remote, await self._client._ask(request, Stepped))
        self.done = result.done
        return result

    async def snapshot(self) -> SnapshotTaken:
        """Keep the state on the server."""
        return await self._client._ask(
            Snapshot(id=self._client._talk.next_id(), session=self.name), SnapshotTaken
        )

    async def restore(self, handle: str) -> Observation:
        """Continue from a snapshot."""
        request = Restore(id=self._client._talk.next_id(), session=self.name, handle=handle)
        seen = self._client._talk.restored(self._remote, await self._client._ask(request, Restored))
        self.done = False
        return seen

    async def fork(self, count: int = 1) -> list["AsyncSession"]:
        """Copies that this client drives too."""
        request = Fork(id=self._client._talk.next_id(), session=self.name, count=count)
        reply = await self._client._ask(request, Forked, repeat=False)
        copies = [
            AsyncSession(self._client, remote) for remote in self._client._talk.forked(self._remote, reply)
        ]
        for copy in copies:
            copy.done = self.done
        self._client.sessions += copies
        return copies

    async def set_tier(self, tier: str) -> TierSet:
        """Change the cache tier from the next chunk on."""
        return await self._client._ask(self._client._talk.set_tier(self._remote, tier), TierSet)

    async def lane_map(self) -> LaneMap:
        """The roads of this world and the route through it."""
        talk = self._client._talk
        return await asyncio.to_thread(lane_map, talk.url, self.name, token=talk.token)

    async def close(self) -> None:
        """End the session on the server."""
        try:
            await self._client._ask(Close(id=self._client._talk.next_id(), session=self.name), Closed)
        except ProtocolError as error:
            if error.code != "UNKNOWN_SESSION":
                raise
        self._client._forget(self)
