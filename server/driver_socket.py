"""A driver's socket: one request after the other, one reply each, in order. The thin shell round the hub."""

import asyncio
import contextlib
import logging
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from clients.protocol import (
    SUBPROTOCOL,
    Close,
    CloseCode,
    Closed,
    ErrorCode,
    ErrorReply,
    Fork,
    Hello,
    Notice,
    ProtocolError,
    Request,
    Reset,
    Restore,
    SetTier,
    Snapshot,
    Step,
    StepItem,
    StepMany,
    Stepped,
    SteppedMany,
    Welcome,
    pack,
    parse_request,
)
from clients.protocol.requests import Encoding

from .answers import close_code, error_reply, welcome
from .auth import Gate, Principal
from .hub import Hub
from .live import LiveSession

log = logging.getLogger("roadloop.driver")

MAX_BAD_MESSAGES = 100


class DriverSocket:
    """Drives the sessions of one socket. Implements `live.Driver`."""

    def __init__(self, websocket: WebSocket, hub: Hub, gate: Gate, principal: Principal | None) -> None:
        self.sessions: dict[str, LiveSession] = {}
        self._websocket, self._hub, self._gate = websocket, hub, gate
        self._principal = principal  # None: a ticket comes with the hello
        self._encoding: Encoding = "jpeg"
        self._sending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bad_messages = 0

    async def run(self) -> None:
        """From the handshake to the end of the socket."""
        await self._websocket.accept(subprotocol=SUBPROTOCOL)
        try:
            await self._greet()
            while True:
                await self._serve(await self._receive())
        except ProtocolError as error:
            await self._refuse(error)
        except (WebSocketDisconnect, RuntimeError) as end:
            log.debug("driver socket ended: %s", end)
        finally:
            for live in self.sessions.values():
                self._hub.detach(live, self)
            for task in self._tasks:
                task.cancel()

    # live.Driver ------------------------------------------------------------------------------------------------

    def notify(self, notice: Notice) -> None:
        """Send as soon as the socket is free."""
        self._later(self._send(notice))

    def displace(self, session: str) -> None:
        """Another socket has the resume token."""
        self.sessions.pop(session, None)
        self.notify(
            Notice(code=ErrorCode.TAKEN_OVER, session=session, message="another socket drives it now")
        )
        if not self.sessions:
            self._later(self._close(CloseCode.TAKEN_OVER))

    # The conversation -------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        """hello -> welcome, within the deadline."""
        try:
            async with asyncio.timeout(self._hub.config.hello_timeout_s):
                hello = await self._receive()
        except TimeoutError:
            text = f"expected hello within {self._hub.config.hello_timeout_s:g} s"
            raise ProtocolError(ErrorCode.BAD_STATE, text, fatal=True) from None
        if not isinstance(hello, Hello):
            raise ProtocolError(
                ErrorCode.BAD_STATE,
                f"expected hello first, got {hello.type}",
                fatal=True,
                details={"id": hello.id},
            )
        try:
            await self._send(self._welcome(hello))
        except ProtocolError as error:
            error.fatal = True
            error.details.setdefault("id", hello.id)
            raise

    def _welcome(self, hello: Hello) -> Welcome:
        if self._principal is None:
            if hello.ticket is None:
                raise ProtocolError(
                    ErrorCode.UNAUTHENTICATED, "expected a bearer token or a ticket, got none"
                )
            self._principal = self._gate.redeem_ticket(hello.ticket, "drive")
        self._principal.demand("drive")
        self._encoding = hello.encoding
        for entry in hello.resume:
            self._take(self._hub.attach(entry.session, entry.token, self))
        self._take(*self._open(hello.sessions if not hello.resume else 0, hello.engine))
        engine = next((live.engine for live in self.sessions.values()), hello.engine)
        return welcome(self._hub, hello, engine, [live.info() for live in self.sessions.values()])

    def _open(self, count: int, engine: str | None) -> list[LiveSession]:
        """All or none."""
        assert self._principal is not None
        opened: list[LiveSession] = []
        try:
            for _ in range(count):
                opened.append(self._hub.create(self._principal, engine))
        except ProtocolError:
            for live in opened:
                self._later(self._hub.close(live))
            raise
        return [self._hub.attach(live.name, live.state.resume_token, self) for live in opened]

    async def _receive(self) -> Request:
        """The next well-formed request; the others are answered on the way."""
        while True:
            event = await self._websocket.receive()
            if event["type"] != "websocket.receive":
                raise WebSocketDisconnect(event.get("code", 1006))
            try:
                if event.get("bytes") is None:
                    raise ProtocolError(ErrorCode.BAD_MESSAGE, "expected a binary frame, got text")
                return parse_request(event["bytes"])
            except ProtocolError as error:
                self._bad_messages += 1
                error.fatal = self._bad_messages > MAX_BAD_MESSAGES
                if error.fatal:
                    raise
                await self._send(self._error(error, error.details.pop("id", None)))

    async def _serve(self, request: Request) -> None:
        try:
            reply = await self._answer(request)
        except ProtocolError as error:
            if error.code in (ErrorCode.UNAUTHENTICATED, ErrorCode.FORBIDDEN):
                error.details.setdefault("id", request.id)
                raise
            reply = self._error(error, request.id, getattr(request, "session", None))
        except Exception:
            log.exception("request %s failed", request.type)
            reply = self._bug(request.type, request.id, getattr(request, "session", None))
        await self._send(reply)

    async def _answer(self, request: Request) -> Any:
        match request:
            case Step():
                return _with_id(await self._hub.step(self._live(request.session), request), request.id)
            case StepMany():
                return await self._step_many(request)
            case Reset():
                return await self._hub.reset(self._live(request.session), request, self._encoding)
            case Snapshot():
                return await self._hub.snapshot(self._live(request.session), request.id)
            case Restore():
                return await self._hub.restore(self._live(request.session), request.handle, request.id)
            case Fork():
                return await self._fork(request)
            case SetTier():
                return await self._hub.set_tier(self._live(request.session), request.tier, request.id)
            case Close():
                live = self._live(request.session)
                await self._hub.close(live)
                del self.sessions[live.name]
                return Closed(id=request.id, session=live.name)
        raise ProtocolError(ErrorCode.BAD_STATE, f"expected a driver's request, got {request.type}")

    async def _step_many(self, request: StepMany) -> SteppedMany:
        named = [item.session for item in request.steps]
        if len(set(named)) < len(named):
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE, "expected every session once in step_many, got one twice"
            )
        if request.stream:
            return await self._stream(request)
        results = await asyncio.gather(*(self._step_one(item, request.id) for item in request.steps))
        return SteppedMany.model_construct(id=request.id, results=results)

    async def _stream(self, request: StepMany) -> SteppedMany:
        """Send what is ready while the rest is made; returns the last part."""
        ready: asyncio.Queue[Any] = asyncio.Queue()

        async def step(item: StepItem) -> None:
            ready.put_nowait(await self._step_one(item, request.id))

        steps = [asyncio.create_task(step(item)) for item in request.steps]
        left = len(steps)
        try:
            while True:
                results = [await ready.get()]
                while not ready.empty():
                    results.append(ready.get_nowait())
                left -= len(results)
                part = SteppedMany.model_construct(id=request.id, results=results, more=left > 0)
                if not left:
                    return part
                await self._send(part)
        finally:
            await asyncio.gather(*steps)  # also when the socket broke: whoever resumes gets their chunks

    async def _step_one(self, item: StepItem, request_id: int) -> Any:
        try:
            return _with_id(await self._hub.step(self._live(item.session), item), request_id)
        except ProtocolError as error:
            return self._error(error, request_id, item.session)
        except Exception:
            log.exception("a step of step_many failed")
            return self._bug("step", request_id, item.session)

    async def _fork(self, request: Fork) -> Any:
        live = self._live(request.session)
        forked = await self._hub.fork(live, request.count, request.id)
        for info in forked.sessions:
            self._take(self._hub.attach(info.session, info.resume_token, self))
        return forked

    # Private ----------------------------------------------------------------------------------------------------

    def _take(self, *sessions: LiveSession) -> None:
        self.sessions |= {live.name: live for live in sessions}

    def _live(self, name: str | None) -> LiveSession:
        if name is None and len(self.sessions) == 1:
            return self._awake(next(iter(self.sessions.values())))
        if name is None:
            raise ProtocolError(
                ErrorCode.BAD_MESSAGE, f"expected a session name: this socket drives {len(self.sessions)}"
            )
        if name not in self.sessions:
            raise ProtocolError(ErrorCode.UNKNOWN_SESSION, f"expected a session of this socket, got {name!r}")
        return self._awake(self.sessions[name])

    def _awake(self, live: LiveSession) -> LiveSession:
        """Its driver has said something; if it is gone, say why."""
        if live.error is not None and live.error.fatal:
            raise live.error
        live.active_s = time.monotonic()
        return live

    def _error(self, error: ProtocolError, request_id: int | None, session: str | None = None) -> ErrorReply:
        self._hub.metrics.errors.labels(error.code).inc()
        return error_reply(error, request_id, session)

    def _bug(self, kind: str, request_id: int, session: str | None) -> ErrorReply:
        """What went wrong is in the log alone."""
        failure = ProtocolError(ErrorCode.INTERNAL, f"{kind} failed; see the server's log")
        return self._error(failure, request_id, session)

    async def _send(self, message: Any) -> None:
        data = pack(message)
        async with self._sending:
            await self._websocket.send_bytes(data)

    async def _refuse(self, error: ProtocolError) -> None:
        """A fatal error: say it, then close."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._send(self._error(error, error.details.pop("id", None)))
            await self._close(close_code(error))

    async def _close(self, code: CloseCode) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code)

    def _later(self, work: Any) -> None:
        async def quietly() -> None:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await work

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _with_id(reply: Stepped, request_id: int) -> Any:
    """A stored reply answers many requests, each with its own id. Its fields are packed as itself would be."""
    return {**vars(reply), "id": request_id}
