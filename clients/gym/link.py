"""The client of an environment, and the server behind it where that is our own."""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from gymnasium.error import ClosedEnvironmentError

from ..client import Client, Session, connect
from ..local import local_server
from .config import DriveConfig


class Link:
    """Open sessions; closed by `close`, with the object, or with the program, whichever comes first.

    Raises:
        ConnectionLostError: nobody answers at the URL.
        ProtocolError: the server refuses: token, version, capacity.
        RoadloopError: the local server did not start.
    """

    def __init__(self, config: DriveConfig, sessions: int) -> None:
        with ExitStack() as opening:
            url = config.url or opening.enter_context(shared_server(config.engine))
            client = connect(url, token=config.token, sessions=sessions, encoding=config.encoding)
            self._client = opening.enter_context(client)
            self._closing = weakref.finalize(self, opening.pop_all().close)

    @property
    def client(self) -> Client:
        """The client. Raises ClosedEnvironmentError."""
        self.must_be_open()
        return self._client

    def must_be_open(self) -> None:
        """Raises ClosedEnvironmentError after `close`."""
        if not self._closing.alive:
            raise ClosedEnvironmentError("expected an open environment, got a closed one")

    @property
    def sessions(self) -> list[Session]:
        """One per world."""
        return self.client.sessions

    def close(self) -> None:
        """Close the sessions; the last one to leave a local server ends it. Harmless the second time."""
        self._closing()


@dataclass
class _Shared:
    url: str
    closing: ExitStack
    users: int = 0


_running: dict[tuple[int, str], _Shared] = {}  # by process, because children must not count their parent's
_lock = threading.Lock()


@contextlib.contextmanager
def shared_server(engine: str) -> Iterator[str]:
    """The URL of this process's local server with that engine: started by the first user, ended by the last."""
    key = os.getpid(), engine
    with _lock:
        if key not in _running:
            closing = ExitStack()
            _running[key] = _Shared(closing.enter_context(local_server(engine)), closing)
        shared = _running[key]
        shared.users += 1
    try:
        yield shared.url
    finally:
        with _lock:
            shared.users -= 1
            if not shared.users:
                del _running[key]
                shared.closing.close()
