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

import zmq
import zmq.asyncio

from .channel import WorkerConfig, config_line
from .launcher import Receive, WorkerLostError

log = logging.getLogger("roadloop.pool")


class LocalLauncher:
    """Spawns `python -m server.worker`."""

    def __init__(self, python: str = sys.executable) -> None:
        self._python = python
        self._folder = Path()
        self._context: zmq.asyncio.Context | None = None
        self._receiving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where workers find the front end."""
        return f"ipc://{self._folder}/work"

    async def open(self, receive: Receive) -> None:
        """Open the private socket."""
        self._folder = Path(tempfile.mkdtemp(prefix="roadloop-"))  # mode 0700
        self._context = zmq.asyncio.Context()
        self.router = self._context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.linger = 0
        self.router.bind(self.address)
        self._receiving = asyncio.create_task(self._receive(receive))

    async def launch(self, config: WorkerConfig) -> "LocalWorker":
        """Start a process; its stdin stays open: the end of it tells the worker that we are gone."""
        process = await asyncio.create_subprocess_exec(
            self._python, "-m", "server.worker", stdin=asyncio.subprocess.PIPE, env=_environment()
        )
        assert process.stdin is not None
        process.stdin.write(config_line(replace(config, address=self.address)))
        return LocalWorker(self, config.name.encode(), process)

    async def close(self) -> None:
        """Close the socket and remove the folder."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _receive(self, receive: Receive) -> None:
        while True:
            _, data = await self.router.recv_multipart()
            receive(data)


class LocalWorker:
    """A worker process."""

    def __init__(self, launcher: LocalLauncher, identity: bytes, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._launcher, self._identity = launcher, identity

    async def send(self, data: bytes) -> None:
        """See `WorkerHandle.send`."""
        try:
            await self._launcher.router.send_multipart([self._identity, data])
        except zmq.ZMQError:
            raise WorkerLostError(self._identity.decode()) from None

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
