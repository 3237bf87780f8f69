"""A policy server: offers any policy to whoever speaks openpi's protocol. One object per connection, so that several worlds can be driven at once."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import websockets.exceptions
from websockets.sync.server import Server, ServerConnection, serve

from . import openpi
from .message import episode_of, from_message
from .policy import space_of
from .spec import PolicySpec

log = logging.getLogger("roadloop.policy")


@contextlib.contextmanager
def policy_server(spec: PolicySpec, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in the background; yields the URL. Raises OSError where it cannot listen."""
    with _listen(spec, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield url_of(server)
        finally:
            server.shutdown()
            thread.join(10)


def serve_policy(spec: PolicySpec, host: str, port: int, on_listening: Callable[[str], None]) -> None:
    """Serve until interrupted. Raises OSError where it cannot listen."""
    with _listen(spec, host, port) as server:
        on_listening(url_of(server))
        server.serve_forever()


def url_of(server: Server) -> str:
    """Where harnesses find it."""
    host, port = server.socket.getsockname()[:2]
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


def _listen(spec: PolicySpec, host: str, port: int) -> Server:
    spec.make()  # complain before anybody comes
    return serve(
        lambda socket: _talk(spec, socket),
        host,
        port,
        compression=None,
        max_size=openpi.MAX_BYTES,
        ping_timeout=None,
    )


def _talk(spec: PolicySpec, socket: ServerConnection) -> None:
    """One connection: describe, then answer until the other side leaves or something fails."""
    policy: Any = spec.make()
    log.info("%s connected", socket.remote_address)
    try:
        socket.send(openpi.pack({"policy": spec.name, "space": space_of(policy), "images": "chunk"}))
        for data in socket:
            socket.send(openpi.pack(_answer(policy, data)))
    except websockets.exceptions.ConnectionClosed:
        pass
    except Exception as error:  # whatever a policy does wrong is the other side's to know
        log.exception("the policy failed")
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            socket.send(f"{type(error).__name__}: {error}")
            socket.close(1011, "the policy failed")
    finally:
        if hasattr(policy, "close"):
            policy.close()


def _answer(policy: Any, data: bytes | str) -> dict[str, Any]:
    if isinstance(data, str):
        raise openpi.OpenPiError("expected a binary frame, got text")
    message = openpi.unpack(data)
    if "episode" in message:
        policy.reset(episode_of(message))
    began_s = time.perf_counter()
    actions = policy.act(from_message(message))
    ms = (time.perf_counter() - began_s) * 1e3
    return {"actions": actions, "server_timing": {"infer_ms": ms}}
