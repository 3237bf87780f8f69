"""The web application: REST, the two socket routes, and what is refused before a socket opens."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

from clients.protocol import SUBPROTOCOL, ErrorCode, ProtocolError

from .auth import Principal
from .config import ServerConfig
from .driver_socket import DriverSocket
from .problems import Problem, problem_response
from .rest import public, v1
from .rest_sessions import sessions
from .state import Server
from .version import VERSION
from .viewer_socket import ViewerSocket
from .web import web


def build_app(config: ServerConfig) -> FastAPI:
    """The application; its lifespan starts and stops the workers."""
    server = Server(config)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await server.stop()

    app = FastAPI(title="roadloop", version=VERSION, lifespan=lifespan)
    app.state.server = server
    app.include_router(public)
    app.include_router(v1)
    app.include_router(sessions)
    app.include_router(web)
    app.add_exception_handler(ProtocolError, _protocol_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_api_websocket_route("/v1/drive", _socket(DriverSocket, "driver"))
    app.add_api_websocket_route("/v1/view", _socket(ViewerSocket, "viewer"))
    return app


def _socket(role: Callable[..., Any], name: str) -> Callable[[WebSocket], Any]:
    """A socket route: checks at the door, then the role's conversation."""

    async def route(websocket: WebSocket) -> None:
        server: Server = websocket.app.state.server
        address = websocket.client.host if websocket.client else "unknown"
        try:
            principal = _let_in(server, websocket)
            server.gate.enter(address)
        except ProtocolError as error:
            server.hub.metrics.refused.labels(error.code).inc()
            await websocket.send_denial_response(problem_response(error))
            return
        server.hub.metrics.sockets.labels(name).inc()
        try:
            await role(websocket, server.hub, server.gate, principal).run()
        finally:
            server.gate.leave(address)
            server.hub.metrics.sockets.labels(name).dec()

    return route


def _let_in(server: Server, websocket: WebSocket) -> Principal | None:
    """Origin, subprotocol, token. None: no header; a ticket must come with the first message."""
    headers = websocket.headers
    server.gate.check_origin(headers.get("origin"), headers.get("host"))
    if SUBPROTOCOL not in websocket.scope.get("subprotocols", []):
        offered = ", ".join(websocket.scope.get("subprotocols", [])) or "none"
        raise ProtocolError(
            ErrorCode.UNSUPPORTED, f"expected the subprotocol {SUBPROTOCOL}, got {offered[:200]}"
        )
    authorization = headers.get("authorization")
    if authorization is None and headers.get("origin") is not None and not server.gate.open:
        return None  # a browser, which cannot set headers
    return server.gate.authenticate(authorization)


async def _protocol_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    request.app.state.server.hub.metrics.errors.labels(error.code).inc()
    return problem_response(error)


async def _validation_error(_: Request, error: Exception) -> Response:
    """The same shape as every other error; the sender's input is not echoed."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem_response(ProtocolError(ErrorCode.BAD_MESSAGE, f"{where}: {first['msg']}"[:500]))


async def _http_error(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself, in the same shape: unknown path or method, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    problem = Problem(code=ErrorCode.BAD_MESSAGE, message=str(error.detail), retryable=False)
    return Response(
        problem.model_dump_json(), error.status_code, headers=error.headers, media_type="application/json"
    )
