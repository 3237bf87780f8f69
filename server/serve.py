"""Running the server as a process: the socket, signals, drain, exit codes."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import uvicorn
from fastapi import FastAPI

from clients.protocol.codec import MAX_MESSAGE_BYTES

from .app import build_app
from .config import ServerConfig
from .exit_codes import EXIT_BAD_CONFIG, EXIT_CANNOT_LISTEN, EXIT_CANNOT_SERVE, EXIT_OK
from .ray_workers import RayMissingError
from .state import Server

log = logging.getLogger("roadloop.serve")


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers, as a signal drains first, and without its exit codes."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # the pool could not be opened, which the log has: exit codes are ours
            self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(config: ServerConfig, on_listening: Callable[[str], None] | None = None) -> int:
    """Serve until a signal or until nothing works any more. Returns the exit code."""
    try:
        app = build_app(config)
    except (RayMissingError, OSError) as error:
        log.error("%s", error)
        return EXIT_BAD_CONFIG
    try:
        listener = _listen(config)
    except OSError as error:
        log.error("cannot listen on %s port %d: %s", config.host, config.port, error.strerror)
        return EXIT_CANNOT_LISTEN
    with listener, asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(config, app, listener, on_listening))


async def _serve(
    config: ServerConfig,
    app: FastAPI,
    listener: socket.socket,
    on_listening: Callable[[str], None] | None,
) -> int:
    server: Server = app.state.server
    gc.freeze()  # a full collection that looks at the application stops everything for 40 ms
    web = _Uvicorn(uvicorn_config(app, config))
    running = asyncio.create_task(web.serve([listener]))
    end = asyncio.create_task(_until_end(server, web))
    if on_listening is not None:
        on_listening(url_of(listener))
    await asyncio.wait([running, end], return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    web.should_exit = True
    await running
    return EXIT_CANNOT_SERVE if server.pool.broken.is_set() else EXIT_OK


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which Windows does not have: with 64 sessions on a socket, a step costs the front end a fifth less."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def uvicorn_config(app: object, config: ServerConfig) -> uvicorn.Config:
    """The stack's settings: no compression (JPEG does not shrink), small inbound messages, patient keep-alive."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=config.ping_interval_s,
        ws_ping_timeout=config.ping_timeout_s,
        timeout_graceful_shutdown=5,
        access_log=config.access_log,
        log_config=None,
        server_header=False,
        lifespan="on",
    )


async def _until_end(server: Server, web: uvicorn.Server) -> None:
    """A first signal drains, a second one does not wait; a broken pool ends at once."""
    loop, first, second = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    if await _first_of(first.wait(), server.pool.broken.wait()) == 0:
        log.info("draining: at most %g s", server.config.drain_s)
        await _first_of(server.drain(), second.wait())
        log.info("stopping: %d sessions left", len(server.hub.sessions))
    web.should_exit = True


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> int:
    """Index of the wait that ends first; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done = next(k for k, task in enumerate(tasks) if task.done())
    for task in tasks:
        task.cancel()
    return done


def _listen(config: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's algorithm off, which holds small replies back for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(2048)  # from now on clients wait instead of being refused
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """Where clients find the server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
