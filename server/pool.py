"""All workers: start them, place sessions on them, carry work to them, notice when one dies or stands still.

Three signals, none of which trusts the others: the worker ended, no heartbeat, no progress (a piece of work is too old).
Whichever comes first: its work fails with `WorkerLostError`, the worker is killed, another one is started. Too many losses in a
short time open the breaker: `broken` is set and the server must end. How workers are started is a `Launcher`'s.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from clients.protocol import ErrorCode, ProtocolError

from .channel import WorkerConfig
from .launcher import Launcher, WorkerHandle, WorkerLostError
from .local_workers import LocalLauncher
from .messages import WORKER_PROTOCOL, Failed, Heartbeat, Ready, StopWork, Unfit, Video, from_bytes, to_bytes

__all__ = ["PoolConfig", "Worker", "WorkerLostError", "WorkerPool"]

log = logging.getLogger("roadloop.pool")


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
    identity: str = ""  # another one after every start
    handle: WorkerHandle | None = None
    sessions: set[str] = field(default_factory=set)
    pending: dict[int, Pending] = field(default_factory=dict)
    heartbeat_s: float = 0.0
    memory_bytes: int = 0
    slowest_step_s: float = 0.0
    committed_s: float = 0.0  # when it last answered a step
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def engine_name(self) -> str:
        """By which sessions choose it."""
        return str(self.engine["name"])


class WorkerPool:
    """Owns the workers. Everything runs on one event loop.

    Args:
        config: see there.
        launcher: how workers are started; None is as processes of this machine.
    """

    def __init__(self, config: PoolConfig, launcher: Launcher | None = None) -> None:
        self.config = config
        self.launcher = launcher or LocalLauncher()
        self.workers = [Worker(f"w{k}", engine) for k, engine in enumerate(config.engines)]
        self.broken = asyncio.Event()  # too many losses: the server can no longer serve
        self.on_lost: Callable[[Worker, str], None] = lambda worker, cause: None
        self.on_video: Callable[[Video], None] = lambda video: None
        self.losses: deque[float] = deque()
        self._req = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._generation = itertools.count()

    async def start(self) -> None:
        """Start the workers; `wait_ready` waits for them. What the launcher raises leaves the pool broken."""
        try:
            await self.launcher.open(self._receive)
        except Exception:
            self.broken.set()
            raise
        self._tasks = [asyncio.create_task(self._watch())]
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
        await self.launcher.close()

    # Placement --------------------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Sessions that the ready workers can hold."""
        return self.config.sessions_per_worker * len(self.ready_workers)

    @property
    def ready_workers(self) -> list[Worker]:
        """Workers that take work."""
        return [worker for worker in self.workers if worker.state == "ready"]

    @property
    def default_ready(self) -> bool:
        """Whether sessions that choose no engine find a worker."""
        return any(worker.state == "ready" for worker in self._with_engine(None))

    def place(self, session: str, engine: str | None = None) -> Worker:
        """The emptiest ready worker with this engine (None: the first worker's); the session stays there.

        Raises:
            ProtocolError: CAPACITY; BAD_REQUEST for an engine that no worker has.
        """
        ready = [worker for worker in self._with_engine(engine) if worker.state == "ready"]
        free = [worker for worker in ready if len(worker.sessions) < self.config.sessions_per_worker]
        if not free:
            slots = self.config.sessions_per_worker * len(ready)
            text = f"expected a free slot, got {slots} of {slots} in use"
            raise ProtocolError(ErrorCode.CAPACITY, text, details={"retry_after_s": 5})
        worker = min(free, key=lambda w: len(w.sessions))
        worker.sessions.add(session)
        return worker

    def describe(self, engine: str | None = None) -> Ready:
        """What an engine is (None: the first worker's). Raises BAD_REQUEST; CAPACITY while none was ever ready."""
        for worker in self._with_engine(engine):
            if worker.info is not None:
                return worker.info
        raise ProtocolError(
            ErrorCode.CAPACITY, "expected a ready worker, got none yet", details={"retry_after_s": 5}
        )

    def _with_engine(self, engine: str | None) -> list[Worker]:
        names = [worker.engine_name for worker in self.workers]
        name = names[0] if engine is None else engine
        if name not in names:
            text = f"expected an engine of {', '.join(dict.fromkeys(names))}, got {name!r}"
            raise ProtocolError(ErrorCode.BAD_REQUEST, text)
        return [worker for worker in self.workers if worker.engine_name == name]

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
            await self._send(worker, to_bytes(kind(req=req, **values)))
            answer = await future
        finally:
            pending = worker.pending.pop(req, None)
        if isinstance(answer, Failed):
            raise ProtocolError(ErrorCode(answer.code), answer.message)
        if kind.__name__ == "StepWork" and pending is not None:
            worker.committed_s = time.monotonic()
            worker.slowest_step_s = max(0.99 * worker.slowest_step_s, worker.committed_s - pending.began_s)
        return answer

    async def _send(self, worker: Worker, data: bytes) -> None:
        assert worker.handle is not None
        try:
            await worker.handle.send(data)
        except WorkerLostError:
            worker.handle.kill()  # its end, reported with its cause, fails the work: everybody hears it in one order

    def _receive(self, data: bytes | memoryview) -> None:
        try:
            message = from_bytes(data)
        except ValueError as error:  # another installation's worker: it never gets ready
            log.error("%s", error)
            return
        if isinstance(message, Ready):
            self._welcome(message)
        elif isinstance(message, Unfit):
            log.critical("worker %s cannot work: %s", message.worker, message.reason)
            self.broken.set()
        elif isinstance(message, Heartbeat):
            self._beat(message)
        elif isinstance(message, Video):
            self.on_video(message)
        else:
            self._settle(message)

    def _welcome(self, message: Ready) -> None:
        for worker in self.workers:
            if worker.identity == message.worker:
                if message.version != WORKER_PROTOCOL:
                    log.error("expected worker protocol %d, got %d", WORKER_PROTOCOL, message.version)
                    return
                worker.info, worker.state = message, "ready"
                worker.heartbeat_s = worker.committed_s = time.monotonic()
                worker.ready.set()
                log.info("worker %s ready: engine %s, pid %d", worker.name, message.engine, message.pid)

    def _beat(self, message: Heartbeat) -> None:
        for worker in self.workers:
            if worker.identity == message.worker:
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
            try:
                handle = worker.handle = await self.launcher.launch(self._begin(worker))
            except WorkerLostError as error:
                self._lose(worker, f"start {error}")
                await asyncio.sleep(1.0)
                continue
            try:
                async with asyncio.timeout(self.config.ready_timeout_s):
                    await _first_of(worker.ready.wait(), handle.ended())
            except TimeoutError:
                log.error("worker %s not ready within %g s", worker.name, self.config.ready_timeout_s)
                handle.kill()
            self._lose(worker, await handle.ended())

    def _begin(self, worker: Worker) -> WorkerConfig:
        worker.state, worker.identity = "starting", f"{worker.name}.{next(self._generation)}"
        worker.ready.clear()
        worker.slowest_step_s = 0.0
        return WorkerConfig(
            name=worker.identity,
            engine=worker.engine,
            batch_wait_ms=self.config.batch_wait_ms,
            encode_threads=self.config.encode_threads,
        )

    async def _ready_or_broken(self, worker: Worker) -> None:
        await _first_of(worker.ready.wait(), self.broken.wait())

    async def _watch(self) -> None:
        """Progress and heartbeat of the ready workers, four times a second."""
        while True:
            await asyncio.sleep(0.25)
            for worker in self.ready_workers:
                if cause := self._stuck(worker, time.monotonic()):
                    log.error("worker %s is stuck: %s", worker.name, cause)
                    self._lose(worker, cause)
                    if worker.handle is not None:
                        worker.handle.kill()

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
        worker.state, worker.identity = "lost", ""
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

    async def _stop_one(self, worker: Worker, timeout_s: float) -> None:
        was_ready, worker.state = worker.state == "ready", "stopped"
        for pending in worker.pending.values():
            if not pending.future.done():
                pending.future.set_exception(WorkerLostError(worker.name))
        if worker.handle is None:
            return
        if was_ready:
            await self._send(worker, to_bytes(StopWork(0)))
        await worker.handle.stop(timeout_s if was_ready else 0.0)


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Until one of them ends; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
