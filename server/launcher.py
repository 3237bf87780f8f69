"""How workers are started and reached. The pool knows this page only; `local_workers` and `ray_workers` do it."""

from collections.abc import Callable
from typing import Protocol

from .channel import WorkerConfig

Receive = Callable[[bytes | memoryview], None]  # takes one message of a worker


class WorkerLostError(Exception):
    """The worker ended, or was ended, before it answered."""


class WorkerHandle(Protocol):
    """One started worker. It says `Ready` when its engine is loaded."""

    async def send(self, data: bytes) -> None:
        """Give it a message. Raises WorkerLostError."""

    async def ended(self) -> str:
        """Wait for its end; returns why, beginning with a word that names the kind."""

    def kill(self) -> None:
        """End it, whatever it does, leaving its stacks in the log where that is possible."""

    async def stop(self, timeout_s: float) -> None:
        """It was told to stop, or never got ready: wait for its end, or end it."""


class Launcher(Protocol):
    """Starts workers of one kind."""

    async def open(self, receive: Receive) -> None:
        """Get ready to launch; `receive` is called on the event loop for every message of every worker."""

    async def launch(self, config: WorkerConfig) -> WorkerHandle:
        """Start a worker. Raises WorkerLostError if it cannot even be started."""

    async def close(self) -> None:
        """Free everything, after the workers have stopped."""
