"""Threads that turn frames into bytes and answer, beside the engine. Each has its own ZeroMQ socket."""

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import zmq

from .channel import WorkerConfig, connect
from .encode import encode_camera
from .messages import Chunk, to_bytes
from .observe import observe
from .wakeup import Wakeup

log = logging.getLogger("roadloop.worker")

ENGINE_BROKEN = 70  # exit code


class Encoders:
    """Threads that encode, pack and answer, so that the engine can go on with the next batch."""

    def __init__(self, config: WorkerConfig, context: zmq.Context[Any]) -> None:
        cv2.setNumThreads(1)
        self.sessions = 0  # of the worker, for its heartbeat
        self.done = Wakeup()  # set when the last answer is out
        self._config, self._context = config, context
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(config.encode_threads, "encode")
        self._jobs: set[_Job] = set()  # submitted, not answered
        self._sockets: list[zmq.Socket[Any]] = []  # one per thread

    @property
    def idle(self) -> bool:
        """Whether every answer is out."""
        return not self._jobs

    def submit(
        self,
        req: int,
        result: Any,
        encoding: str,
        cameras: list[str],
        timing: dict[str, float],
        batch: int,
        described: list[dict[str, Any]] | None = None,
        newest: int | None = None,
    ) -> None:
        """Encode a result's frames and answer `req`. A session alone in its batch is split over all threads."""
        job = _Job(self, req, result, encoding, cameras, timing, batch, described or [], newest)
        parts = max(1, min(len(cameras), self._config.encode_threads // batch))
        job.left = parts
        self._jobs.add(job)
        for part in range(parts):
            self._pool.submit(job.run, part, parts)

    def send(self, message: Any) -> None:
        """Send from an encoder thread, on the thread's own socket."""
        if not hasattr(self._local, "socket"):
            self._local.socket = connect(self._context, self._config.address, None)
            self._sockets.append(self._local.socket)
        self._local.socket.send(to_bytes(message))

    def finish(self, job: "_Job", answer: Chunk) -> None:
        """The job's answer is ready."""
        self.send(answer)
        self._jobs.discard(job)
        if self.idle:
            self.done.set()

    def close(self) -> None:
        """Finish what was submitted."""
        self._pool.shutdown(wait=True)
        for socket in self._sockets:
            socket.close()
        self.done.close()


class _Job:
    """One result on its way out; the thread that finishes the last part answers."""

    def __init__(self, encoders: Encoders, req: int, result: Any, encoding: str, cameras: list[str], timing: dict[str, float], batch: int, described: list[dict[str, Any]], newest: int | None) -> None:  # fmt: skip
        self.left = 1
        self._encoders, self._req, self._result = encoders, req, result
        self._encoding, self._cameras, self._timing = encoding, cameras, timing
        self._batch, self._described = batch, described
        self._first = -newest if newest else None  # index of the oldest frame that is encoded
        self._frames: dict[str, list[bytes]] = {}
        self._lock = threading.Lock()
        self._began_s = time.monotonic()

    def run(self, part: int, parts: int) -> None:
        try:
            for view in range(part, len(self._cameras), parts):
                frames = self._result.frames[view, self._first :]
                self._frames[self._cameras[view]] = encode_camera(frames, self._encoding)
            with self._lock:
                self.left -= 1
                last = self.left == 0
            if last:
                self._encoders.finish(self, self._chunk())
        except Exception:
            # The engine has moved on but nobody will see this chunk: only a new worker makes the session whole again.
            log.exception("encoding failed")
            os._exit(ENGINE_BROKEN)

    def _chunk(self) -> Chunk:
        self._timing["encode"] = (time.monotonic() - self._began_s) * 1e3
        frames = {name: self._frames[name] for name in self._cameras}
        return Chunk(
            self._req,
            self._described,
            frames,
            **observe(self._result),
            timing=self._timing,
            batch=self._batch,
        )
