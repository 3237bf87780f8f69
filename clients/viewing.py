"""A viewer's side of the protocol: watch, then the newest frames. `watch` for threads, `watch_async` for asyncio."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import websockets.asyncio.client
import websockets.exceptions

from .conversation import Conversation
from .errors import ConnectionLostError
from .handshake import open_socket, refusal, socket_options, socket_url
from .observation import Observation, observation
from .protocol import Camera, ErrorReply, Frames, Watch, Watching, pack, parse_reply

PATH = "/v1/view"


def watch(
    url: str,
    session: str,
    *,
    token: str | None = None,
    ticket: str | None = None,
    cameras: Sequence[str] | None = None,
    max_rate_hz: float | None = None,
    timeout_s: float | None = None,
) -> Iterator[Observation]:
    """The newest frames of a session, until it ends. Frames that the caller is too slow for are skipped."""
    view = _View(url, token)
    try:
        socket, closing = open_socket(url, PATH, view.headers, queue=1)
    except (OSError, websockets.exceptions.WebSocketException) as error:
        raise view.failure(error) from None
    with closing:
        socket.send(view.request(session, ticket, cameras, max_rate_hz))
        try:
            while True:
                seen = view.see(socket.recv(timeout=timeout_s, decode=False))
                if seen is not None:
                    yield seen
        except websockets.exceptions.ConnectionClosed:
            return


async def watch_async(
    url: str,
    session: str,
    *,
    token: str | None = None,
    ticket: str | None = None,
    cameras: Sequence[str] | None = None,
    max_rate_hz: float | None = None,
) -> AsyncIterator[Observation]:
    """As `watch`, for asyncio."""
    view = _View(url, token)
    try:
        socket = await websockets.asyncio.client.connect(
            socket_url(url, PATH), additional_headers=view.headers, **socket_options(url, queue=1)
        )
    except (OSError, websockets.exceptions.WebSocketException) as error:
        raise view.failure(error) from None
    async with socket:
        await socket.send(view.request(session, ticket, cameras, max_rate_hz))
        async for data in socket:
            seen = view.see(data if isinstance(data, bytes) else data.encode())
            if seen is not None:
                yield seen


class _View:
    """What a viewer says and understands, without I/O."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url, self._talk = url, Conversation(url, token, 0, "jpeg", {})
        self._known: Mapping[str, Camera] = {}

    @property
    def headers(self) -> dict[str, str]:
        return self._talk.headers()

    def request(
        self, session: str, ticket: str | None, cameras: Sequence[str] | None, max_rate_hz: float | None
    ) -> bytes:
        """The one message of a viewer."""
        chosen = None if cameras is None else list(cameras)
        return pack(Watch(id=1, session=session, ticket=ticket, cameras=chosen, max_rate_hz=max_rate_hz))

    def see(self, data: bytes) -> Observation | None:
        """What a message shows, if anything. Raises the server's ProtocolError."""
        reply = parse_reply(data)
        if isinstance(reply, Watching):
            self._known = {camera.name: camera for camera in reply.cameras}
        if isinstance(reply, ErrorReply):
            raise self._talk.error(reply)
        return observation(reply, self._known, reply.chunk) if isinstance(reply, Frames) else None

    def failure(self, error: Exception) -> Exception:
        """Why there is no socket."""
        return refusal(error) or ConnectionLostError(f"expected a server at {self._url}: {error}")
