"""Workers as processes of this machine, reached over ZeroMQ in a private folder."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import zmq

from .channel import WorkerConfig, config_line, has_message
from .launcher import Receive

log = logging.getLogger("roadloop.pool")


class LocalLauncher:
    """Spawns `python -m server.worker_process`."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._folder = Path()
        self._context: zmq.Context[Any] | None = None

    @property
    def address(self) -> str:
        """Where workers find the front end."""
        return f"ipc://{self._folder}/work"

    async def open(self, receive: Receive) -> None:
        """Open the private socket."""
        self._folder = Path(tempfile.mkdtemp(prefix="roadloop-"))  # mode 0700
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.sndhwm = 0  # never full: a session has one operation in flight
        self._router.linger = 0
        self._router.bind(self.address)
        self._receive, self._loop = receive, asyncio.get_running_loop()
        # Not zmq.asyncio, whose futures cost more per message than the messages.
        self._loop.add_reader(self._router.FD, self._take)

    async def launch(self, config: WorkerConfig) -> "LocalWorker":
        """Start a process; its stdin stays open: the end of it tells the worker that we are gone."""
        process = await asyncio.create_subprocess_exec(
            self._python, "-m", "server.worker_process", stdin=asyncio.subprocess.PIPE, env=_environment()
        )
        assert process.stdin is not None
        process.stdin.write(config_line(replace(config, address=self.address)))
        return LocalWorker(self, config.name.encode(), process)

    async def close(self) -> None:
        """Close the socket and remove the folder."""
        if self._context is not None:
            self._loop.remove_reader(self._router.FD)
            self._context.destroy(linger=0)
            self._context = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def send(self, worker: bytes, messages: list[bytes]) -> None:
        """To the worker of this identity, without waiting. Raises zmq.ZMQError if it is gone."""
        self._router.send_multipart([worker, *messages], zmq.NOBLOCK)
        self._loop.call_soon(self._take)  # sending may have used up the descriptor's signal

    def _take(self) -> None:
        """One message, and again in the loop's next round: the descriptor signals only that there are new ones."""
        if self._context is not None and has_message(self._router):
            self._loop.call_soon(self._take)
            self._router.recv(zmq.NOBLOCK)  # whose it is, the message says
            self._receive(
                self._router.recv(zmq.NOBLOCK, copy=False).buffer
            )  # pictures are large: read where they arrived


class LocalWorker:
    """A worker process."""

    def __init__(self, launcher: LocalLauncher, identity: bytes, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._launcher, self._identity = launcher, identity
        self._outbox: list[bytes] = []

    async def send(self, data: bytes) -> None:
        """See `WorkerHandle.send`. What is sent in one round of the loop arrives together: sessions stepped at once run at once."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._post)
        self._outbox.append(data)

    def _post(self) -> None:
        messages, self._outbox = self._outbox, []
        try:
            self._launcher.send(self._identity, messages)
        except zmq.ZMQError:
            self.kill()  # its end, reported with its cause, fails the work: everybody hears it in one order

    async def ended(self) -> str:
        """`exit CODE`."""
        return f"exit {await self.process.wait()}"

    def kill(self) -> None:
        """SIGABRT for the stack dump; SIGKILL soon after, for processes that cannot even do that."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGABRT)
            asyncio.get_running_loop().call_later(0.5, self._kill_now)

    async def stop(self, timeout_s: float) -> None:
        """See `WorkerHandle.stop`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.process.wait()
        except TimeoutError:
            self._kill_now()
            await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _kill_now(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()


def _environment() -> dict[str, str]:
    """Workers share the cores: one maths thread each unless told otherwise."""
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ}
