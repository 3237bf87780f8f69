"""A viewer's socket: watch first, then the newest frames at the viewer's pace."""

import asyncio
import contextlib
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from clients.protocol import (
    SUBPROTOCOL,
    CloseCode,
    ErrorCode,
    ProtocolError,
    Watch,
    Watching,
    pack,
    parse_request,
)
from clients.protocol.replies import Camera

from .answers import close_code, error_reply
from .auth import Gate, Principal
from .h264 import require_h264
from .hub import Hub
from .live import LiveSession
from .staging import Phase
from .viewers import Viewer, choose


class ViewerSocket:
    """Shows one session to one viewer."""

    def __init__(self, websocket: WebSocket, hub: Hub, gate: Gate, principal: Principal | None) -> None:
        self._websocket, self._hub, self._gate = websocket, hub, gate
        self._principal = principal  # None: a ticket comes with the first watch
        self._live: LiveSession | None = None
        self._viewer: Viewer | None = None

    async def run(self) -> None:
        """From the handshake to the end of the socket."""
        await self._websocket.accept(subprotocol=SUBPROTOCOL)
        try:
            await self._watch(await self._first())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                tasks.create_task(self._write())
        except* ProtocolError as errors:
            await self._refuse(_first(errors))
        except* (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._leave()

    async def _first(self) -> Watch:
        try:
            async with asyncio.timeout(self._hub.config.hello_timeout_s):
                return await self._receive()
        except TimeoutError:
            raise ProtocolError(
                ErrorCode.BAD_STATE, "expected watch in time, got nothing", fatal=True
            ) from None

    async def _receive(self) -> Watch:
        event = await self._websocket.receive()
        if event["type"] != "websocket.receive":
            raise WebSocketDisconnect(event.get("code", 1006))
        request = parse_request(event.get("bytes") or b"")
        if not isinstance(request, Watch):
            raise ProtocolError(ErrorCode.BAD_STATE, f"expected watch, got {request.type}", fatal=True)
        return request

    async def _watch(self, request: Watch) -> None:
        """Join the audience, or change cameras and rate."""
        self._authorize(request)
        live = self._hub.find(request.session, owner=None)
        if self._viewer is None:
            last = None if live.shown is None else live.frames(*live.shown)
            self._live, self._viewer = live, live.audience.join(last)
        elif live is not self._live:
            raise ProtocolError(
                ErrorCode.BAD_STATE, "expected the session that this socket watches", fatal=True
            )
        cameras, video = choose(request.cameras, live.cameras), request.encoding == "h264"
        if video:
            require_h264(live.cameras)
        self._viewer.choose(cameras, video, 1.0 / request.max_rate_hz if request.max_rate_hz else 0.0)
        info = self._hub.pool.describe(live.engine)
        await self._send(
            Watching(
                id=request.id,
                session=live.name,
                frames_per_chunk=info.frames_per_chunk,
                dt_us=info.dt_us,
                cameras=[Camera(**camera) for camera in live.cameras],
            )
        )

    def _authorize(self, request: Watch) -> None:
        """The view scope shows every session; a ticket shows the one that it names."""
        if self._principal is None:
            if request.ticket is None:
                raise ProtocolError(
                    ErrorCode.UNAUTHENTICATED, "expected a bearer token or a ticket, got none", fatal=True
                )
            self._principal = self._gate.redeem_ticket(request.ticket, "view", request.session)
        self._principal.demand("view")

    async def _read(self) -> None:
        while True:
            await self._watch(await self._receive())

    async def _write(self) -> None:
        assert self._viewer is not None
        assert self._live is not None
        while True:
            await self._websocket.send_bytes(await self._viewer.take())
            if self._live.state.phase is Phase.CLOSED:
                await self._websocket.close(CloseCode.SESSION_GONE)
            await asyncio.sleep(self._viewer.interval_s)

    def _leave(self) -> None:
        if self._live is not None and self._viewer is not None:
            self._hub.metrics.viewer_dropped.inc(self._live.audience.leave(self._viewer))

    async def _send(self, message: Any) -> None:
        await self._websocket.send_bytes(pack(message))

    async def _refuse(self, error: ProtocolError) -> None:
        self._hub.metrics.errors.labels(error.code).inc()
        error.fatal = True
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._send(error_reply(error, error.details.get("id")))
            await self._websocket.close(close_code(error))


def _first(errors: BaseExceptionGroup[ProtocolError]) -> ProtocolError:
    """The error itself, out of the groups that tasks put round it."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
