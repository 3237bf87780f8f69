"""A worker inside a Ray actor: the same loop in a thread, and two calls that carry its messages.

Ray ends the process with its front end. Imported on the actor's machine, which needs the same installation as the front end's.
"""

import logging
import os
import threading
import time
from dataclasses import replace
from typing import Any

import zmq
import zmq.asyncio

from .channel import WorkerConfig
from .messages import StepWork, from_bytes, to_bytes
from .worker_process import run

ADDRESS = "inproc://work"
ENGINE_FAILED = 1  # exit code

log = logging.getLogger("roadloop.worker")


class WorkerActor:
    """One worker. `send` takes a message of the front end, `receive` gives those for it."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = replace(config, address=ADDRESS)
        self._context: zmq.Context[Any] = zmq.Context()
        self._router: zmq.asyncio.Socket | None = None
        self._bound = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    async def send(self, data: bytes) -> None:
        """Pass a message on. The worker's clock is not the front end's: the wait of a step begins here."""
        message = from_bytes(data)
        if isinstance(message, StepWork):
            data = to_bytes(replace(message, sent_s=time.monotonic()))
        await self._socket.send_multipart([self._config.name.encode(), data])

    async def receive(self) -> list[bytes]:
        """Wait for a message, then give all there are."""
        messages = [(await self._socket.recv_multipart())[1]]
        while await self._socket.poll(0):
            messages.append((await self._socket.recv_multipart())[1])
        return messages

    @property
    def _socket(self) -> zmq.asyncio.Socket:
        """Made on the actor's event loop, where alone it is used."""
        if self._router is None:
            self._router = zmq.asyncio.Context.shadow(self._context.underlying).socket(zmq.ROUTER)
            self._router.bind(ADDRESS)
            self._bound.set()
        return self._router

    def _run(self) -> None:
        """The worker's life; the process ends with it, so that Ray tells the front end."""
        self._bound.wait()
        try:
            run(self._config, self._context)
            os._exit(0)
        except SystemExit as error:  # it has told the front end why, which ends, and ends this process
            log.error("%s", error)
        except BaseException:
            log.exception("the worker failed")
            os._exit(ENGINE_FAILED)
