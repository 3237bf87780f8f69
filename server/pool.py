"""All workers: spawn them, place sessions on them, carry work to them, notice when one dies or stands still.

Three signals, none of which trusts the others: the process ended (its exit code), no heartbeat, no progress (a piece of work
is too old). Whichever comes first: its work fails with `WorkerLostError`, the process is killed, another one is started. Too many
losses in a short time open the breaker: `broken` is set and the server must end.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

from clients.protocol import ErrorCode, ProtocolError

from .channel import WorkerConfig, config_line
from .messages import WORKER_PROTOCOL, Failed, Heartbeat, Ready, StopWork, from_bytes, to_bytes

log = logging.getLogger("roadloop.pool")


class WorkerLostError(Exception):
    """The worker ended, or was ended, before it answered."""


@dataclass(frozen=True)
class PoolConfig:
    """How many workers, which engine, and when one counts as lost."""

    engines: tuple[dict[str, Any], ...] = (
        {"name": "reference"},
    )  # one worker per entry: fields of EngineChoice
    sessions_per_worker: int = 64
    batch_wait_ms: float = 2.0
    encode_threads: int = 2
    ready_timeout_s: float = 600.0
    heartbeat_timeout_s: float = 10.0
    step_timeout_s: float = (
        10.0  # raised to 20 times the slowest recent step; the first one has control_timeout_s
    )
    control_timeout_s: float = 120.0  # open, restore, snapshot, fork: may compile or build maps
    breaker_losses: int = 3
    breaker_window_s: float = 300.0
    python: str = sys.executable


@dataclass
class Pending:
    """One piece of work that a worker has not answered."""

    future: asyncio.Future[Any]
    kind: str
    began_s: float


@dataclass(eq=False)
class Worker:
    """One worker as the front end sees it."""

    name: str
    engine: dict[str, Any]
    state: str = "starting"  # starting, ready, lost, stopped
    info: Ready | None = None
    identity: bytes = b""
    process: asyncio.subprocess.Process | None = None
    sessions: set[str] = field(default_factory=set)
    pending: dict[int, Pending] = field(default_factory=dict)
    heartbeat_s: float = 0.0
    memory_bytes: int = 0
    slowest_step_s: float = 0.0
    committed_s: float = 0.0  # when it last answered a step
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class WorkerPool:
    """Owns the worker processes and the socket to them. Everything runs on one event loop."""

    def __init__(self, config: PoolConfig, on_lost: Callable[[Worker, str], None] | None = None) -> None:
        self.config = config
        self.workers = [Worker(f"w{k}", engine) for k, engine in enumerate(config.engines)]
        self.broken = asyncio.Event()  # too many losses: the server can no longer serve
        self.on_lost = on_lost or (lambda worker, cause: None)
        self.losses: deque[float] = deque()
        self._req = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._generation = itertools.count()
        self._folder = Path()
        self._context: zmq.asyncio.Context | None = None

    async def start(self) -> None:
        """Open the private socket and start the workers; `wait_ready` waits for them."""
        self._folder = Path(tempfile.mkdtemp(prefix="roadloop-"))  # mode 0700
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.linger = 0
        self._router.bind(self._address)
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._watch())]
        self._tasks += [asyncio.create_task(self._supervise(worker)) for worker in self.workers]

    async def wait_ready(self) -> None:
        """Until every worker is ready, or the pool is broken."""
        await asyncio.gather(*(self._ready_or_broken(worker) for worker in self.workers))

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the workers to end, then make them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop_one(worker, timeout_s) for worker in self.workers))
        if self._context is not None:
            self._context.destroy(linger=0)
            shutil.rmtree(self._folder, ignore_errors=True)

    # Placement --------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Sessions that the ready workers can hold."""
        return self.config.sessions_per_worker * len(self.ready_workers)

    @property
    def ready_workers(self) -> list[Worker]:
        """Workers that take work."""
        return [worker for worker in self.workers if worker.state == "ready"]

    def place(self, session: str) -> Worker:
        """The emptiest ready worker; the session stays there.

        Raises:
            ProtocolError: CAPACITY.
        """
        free = [w for w in self.ready_workers if len(w.sessions) < self.config.sessions_per_worker]
        if not free:
            text = f"expected a free slot, got {self.slots} of {self.slots} in use"
            raise ProtocolError(ErrorCode.CAPACITY, text, details={"retry_after_s": 5})
        worker = min(free, key=lambda w: len(w.sessions))
        worker.sessions.add(session)
        return worker

    def describe(self) -> Ready:
        """What the engine is. Raises CAPACITY while no worker was ever ready."""
        for worker in self.workers:
            if worker.info is not None:
                return worker.info
        raise ProtocolError(
            ErrorCode.CAPACITY, "expected a ready worker, got none yet", details={"retry_after_s": 5}
        )

    # Work -------------------------------------------------------------------------------------------------------

    async def work(self, worker: Worker, kind: type[Any], **values: Any) -> Any:
        """Send one piece of work and wait for its answer.

        Raises:
            WorkerLostError: the worker ended first.
            ProtocolError: the engine refused it.
        """
        if worker.state != "ready":
            raise WorkerLostError(worker.name)
        req = next(self._req)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        worker.pending[req] = Pending(future, kind.__name__, time.monotonic())
        try:
            await self._send(worker, kind(req=req, **values))
            answer = await future
        finally:
            pending = worker.pending.pop(req, None)
        if isinstance(answer, Failed):
            raise ProtocolError(ErrorCode(answer.code), answer.message)
        if kind.__name__ == "StepWork" and pending is not None:
            worker.committed_s = time.monotonic()
            worker.slowest_step_s = max(0.99 * worker.slowest_step_s, worker.committed_s - pending.began_s)
        return answer

    async def _send(self, worker: Worker, message: Any) -> None:
        try:
            await self._router.send_multipart([worker.identity, to_bytes(message)])
        except zmq.ZMQError:
            raise WorkerLostError(worker.name) from None

    async def _receive(self) -> None:
        while True:
            _, data = await self._router.recv_multipart()
            message = from_bytes(data)
            if isinstance(message, Ready):
                self._welcome(message)
            elif isinstance(message, Heartbeat):
                self._beat(message)
            else:
                self._settle(message)

    def _welcome(self, message: Ready) -> None:
        for worker in self.workers:
            if worker.identity == message.worker.encode():
                if message.version != WORKER_PROTOCOL:
                    log.error("expected worker protocol %d, got %d", WORKER_PROTOCOL, message.version)
                    return
                worker.info, worker.state = message, "ready"
                worker.heartbeat_s = worker.committed_s = time.monotonic()
                worker.ready.set()
                log.info("worker %s ready: engine %s, pid %d", worker.name, message.engine, message.pid)

    def _beat(self, message: Heartbeat) -> None:
        for worker in self.workers:
            if worker.identity == message.worker.encode():
                worker.heartbeat_s, worker.memory_bytes = time.monotonic(), message.memory_bytes

    def _settle(self, message: Any) -> None:
        for worker in self.workers:
            pending = worker.pending.get(message.req)
            if pending is not None and not pending.future.done():
                pending.future.set_result(message)

    # Life and death ---------------------------------------------------------------------------------------------

    async def _supervise(self, worker: Worker) -> None:
        """Start the worker, wait for its end, report the loss, start again."""
        while not self.broken.is_set():
            await self._spawn(worker)
            assert worker.process is not None
            try:
                async with asyncio.timeout(self.config.ready_timeout_s):
                    await self._ready_or_exit(worker)
            except TimeoutError:
                log.error("worker %s not ready within %g s", worker.name, self.config.ready_timeout_s)
                self._kill(worker)
            code = await worker.process.wait()
            self._lose(worker, f"exit {code}")

    async def _spawn(self, worker: Worker) -> None:
        worker.state, worker.identity = "starting", f"{worker.name}.{next(self._generation)}".encode()
        worker.ready.clear()
        worker.slowest_step_s = 0.0
        config = WorkerConfig(
            name=worker.identity.decode(),
            address=self._address,
            engine=worker.engine,
            batch_wait_ms=self.config.batch_wait_ms,
            encode_threads=self.config.encode_threads,
        )
        worker.process = await asyncio.create_subprocess_exec(
            self.config.python, "-m", "server.worker", stdin=asyncio.subprocess.PIPE, env=_environment()
        )
        assert worker.process.stdin is not None
        worker.process.stdin.write(
            config_line(config)
        )  # stays open: its end tells the worker that we are gone

    async def _ready_or_exit(self, worker: Worker) -> None:
        assert worker.process is not None
        waits = [asyncio.create_task(worker.ready.wait()), asyncio.create_task(worker.process.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _ready_or_broken(self, worker: Worker) -> None:
        waits = [asyncio.create_task(worker.ready.wait()), asyncio.create_task(self.broken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _watch(self) -> None:
        """Progress and heartbeat of the ready workers, four times a second."""
        while True:
            await asyncio.sleep(0.25)
            for worker in self.ready_workers:
                if cause := self._stuck(worker, time.monotonic()):
                    log.error("worker %s is stuck: %s", worker.name, cause)
                    self._lose(worker, cause)
                    self._kill(worker)

    def _stuck(self, worker: Worker, now_s: float) -> str | None:
        if now_s - worker.heartbeat_s > self.config.heartbeat_timeout_s:
            return "no heartbeat"
        # The first step of a worker may compile.
        warm_s = max(self.config.step_timeout_s, 20 * worker.slowest_step_s)
        step_s = warm_s if worker.slowest_step_s > 0 else self.config.control_timeout_s
        for pending in worker.pending.values():
            limit_s = step_s if pending.kind == "StepWork" else max(step_s, self.config.control_timeout_s)
            if now_s - pending.began_s > limit_s:
                return f"no progress: {pending.kind} for {limit_s:g} s"
        return None

    def _lose(self, worker: Worker, cause: str) -> None:
        """Fail its work at once; once per process."""
        if worker.state in ("lost", "stopped"):
            return
        log.error("lost worker %s: %s", worker.name, cause)
        worker.state, worker.identity = "lost", b"lost"
        for pending in worker.pending.values():
            if not pending.future.done():
                pending.future.set_exception(WorkerLostError(worker.name))
        worker.pending.clear()
        self._count_loss(time.monotonic())
        self.on_lost(worker, cause)
        worker.sessions.clear()

    def _count_loss(self, now_s: float) -> None:
        self.losses.append(now_s)
        while self.losses and now_s - self.losses[0] > self.config.breaker_window_s:
            self.losses.popleft()
        if len(self.losses) >= self.config.breaker_losses:
            log.critical(
                "%d workers lost within %g s: giving up", len(self.losses), self.config.breaker_window_s
            )
            self.broken.set()

    def _kill(self, worker: Worker) -> None:
        """SIGABRT for the stack dump; SIGKILL soon after, for processes that cannot even do that."""
        if worker.process is None or worker.process.returncode is not None:
            return
        process = worker.process
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGABRT)
        asyncio.get_running_loop().call_later(0.5, _kill_process, process)

    async def _stop_one(self, worker: Worker, timeout_s: float) -> None:
        was_ready, worker.state = worker.state == "ready", "stopped"
        for pending in worker.pending.values():
            if not pending.future.done():
                pending.future.set_exception(WorkerLostError(worker.name))
        process = worker.process
        if process is None:
            return
        if was_ready:
            with contextlib.suppress(WorkerLostError):
                await self._send(worker, StopWork(0))
        elif process.returncode is None:
            _kill_process(process)
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            _kill_process(process)
            await process.wait()
        if process.stdin is not None:
            process.stdin.close()

    @property
    def _address(self) -> str:
        return f"ipc://{self._folder}/work"


def _kill_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _environment() -> dict[str, str]:
    """Workers share the cores: one maths thread each unless told otherwise."""
    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ}
