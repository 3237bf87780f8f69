"""All live sessions: what each request does, from the session's state machine through the worker to driver and viewers.

Knows nothing of sockets. One event loop; an operation holds its session's lock, so a session does one thing at a time.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from clients.protocol import (
    Camera,
    ErrorCode,
    Forked,
    Notice,
    ProtocolError,
    Reset,
    Restored,
    SnapshotTaken,
    Started,
    StepItem,
    Stepped,
)
from clients.protocol.requests import Encoding

from .auth import Principal
from .config import ServerConfig
from .live import Driver, LiveSession
from .messages import Chunk, CloseWork, ForkWork, OpenWork, RestoreWork, SnapshotWork, State, StepWork
from .metrics import Metrics
from .pool import Worker, WorkerLostError, WorkerPool
from .recording import Recorder, frame_digest
from .session import Phase, Session, SessionRules, Staged, Stored
from .snapshots import Snapshot, SnapshotStore
from .viewers import Audience

log = logging.getLogger("roadloop.hub")

STAGES = frozenset(
    ["queue", "scene", "condition", "denoise", "decode", "render", "encode", "engine", "kv_update"]
)
RECOVERY_TIMEOUT_S = 120.0


class Hub:
    """Creates, runs, forks, recovers and ends sessions."""

    def __init__(self, config: ServerConfig, pool: WorkerPool, metrics: Metrics) -> None:
        self.config, self.pool, self.metrics = config, pool, metrics
        self.sessions: dict[str, LiveSession] = {}
        self.snapshots = SnapshotStore(config.snapshot_bytes)
        self.draining = False
        self.committed_s: float | None = None  # when a chunk was last committed
        self._background: set[asyncio.Task[Any]] = set()
        self._numbers = itertools.count(1)
        pool.on_lost = self._on_worker_lost

    # Life of a session ------------------------------------------------------------------------------------------

    def create(self, owner: Principal) -> LiveSession:
        """Open a session without a world, on the emptiest worker.

        Raises:
            ProtocolError: DRAINING, CAPACITY, TOO_MANY.
        """
        self._admit(owner.name, owner.max_sessions, 1)
        name = self._new_name()
        return self._add(name, owner.name, self.pool.place(name), "created")

    def attach(self, name: str, token: str, driver: Driver) -> LiveSession:
        """Make this socket the session's driver. Raises UNKNOWN_SESSION."""
        live = self.sessions.get(name)
        if live is None:
            raise ProtocolError(
                ErrorCode.UNKNOWN_SESSION, f"expected an open session and its token, got {name!r}"
            )
        live.state.attach(token)
        if live.driver is not None and live.driver is not driver:
            live.driver.displace(name)
        live.driver, live.active_s = driver, time.monotonic()
        return live

    def detach(self, live: LiveSession, driver: Driver) -> None:
        """The driver's socket is gone; the session waits for its lease."""
        if live.driver is driver:
            live.driver = None
            live.state.detach(time.monotonic())

    def find(self, name: str, owner: str | None) -> LiveSession:
        """An open session of this owner (None: of anybody). Raises UNKNOWN_SESSION."""
        live = self.sessions.get(name)
        if live is None or owner not in (None, live.owner):
            raise ProtocolError(ErrorCode.UNKNOWN_SESSION, f"expected an open session, got {name!r}")
        return live

    async def close(self, live: LiveSession, reason: str = "closed") -> None:
        """End a session and free its slot."""
        if self.sessions.pop(live.name, None) is None:
            return
        async with live.lock:  # whatever runs comes to its end first
            was_lost = live.state.phase is Phase.RECOVERING
            live.state.close()
            live.error = live.error or ProtocolError(
                ErrorCode.UNKNOWN_SESSION, f"the session has ended: {reason}"
            )
            self._end(live, reason)
            if not was_lost:
                with contextlib.suppress(WorkerLostError):
                    await self.pool.work(live.worker, CloseWork, session=live.name)
            live.worker.sessions.discard(live.name)

    # Operations -------------------------------------------------------------------------------------------------

    async def reset(self, live: LiveSession, request: Reset, encoding: Encoding = "jpeg") -> Started:
        """Start the session's world."""
        rig = request.rig or self.pool.describe().default_rig
        for kind, name in (("scenario", request.scenario), ("rig", rig)):
            if "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
                raise ProtocolError(
                    ErrorCode.BAD_REQUEST, f"expected the name of a {kind}, got the path {name!r}"
                )
        if request.record and self.config.record_dir is None:
            raise ProtocolError(
                ErrorCode.BAD_REQUEST, "expected a server that records, got one without record_dir"
            )
        async with self._turn(live):
            staged = live.state.begin("reset")
            options = request.options.model_dump()
            values = {"scenario": request.scenario, "rig": rig, "seed": request.seed, "options": options}
            chunk = await self._work(live, staged, OpenWork, encoding=encoding, **values)
            live.state.commit_reset(staged, request.mode, request.hold_policy)
            live.encoding = encoding
            live.setup, live.cameras, live.ended = (
                request.model_copy(update={"rig": rig}),
                chunk.cameras,
                False,
            )
            every = request.snapshot_every
            live.snapshot_every = self.config.snapshot_every if every is None else every
            live.observe(chunk)
            self._record_reset(live, chunk)
            self._published(live, -1, chunk)
            self._start_pacer(live)
            self._snapshot_if_due(live)
            return live.started(request.id, chunk)

    async def step(self, live: LiveSession, item: StepItem) -> Stepped:
        """Generate the next chunk, or answer a repeated request again."""
        began_s = time.monotonic()
        if live.state.mode == "realtime":
            reply = await self._step_in_real_time(live, item)
        else:
            async with self._turn(live):
                got = live.state.begin_step(item)
                reply = got.reply if isinstance(got, Stored) else await self._run(live, got)
        self.metrics.step_seconds.observe(time.monotonic() - began_s)
        return reply

    async def snapshot(self, live: LiveSession, request_id: int = 0) -> SnapshotTaken:
        """Keep the state at this chunk boundary."""
        async with self._turn(live):
            snapshot = await self._take_snapshot(live, "asked")
        return SnapshotTaken(
            id=request_id,
            session=live.name,
            handle=snapshot.handle,
            next_chunk=snapshot.next_chunk,
            size_bytes=snapshot.size_bytes,
            digest=snapshot.digest,
        )

    async def restore(self, live: LiveSession, handle: str, request_id: int = 0) -> Restored:
        """Continue from a snapshot of the same owner."""
        snapshot = self.snapshots.get(handle, live.owner)
        async with self._turn(live):
            staged = live.state.begin("restore")
            await self._work(live, staged, RestoreWork, state=snapshot.state, **_how_to_show(snapshot))
            setup: Reset = snapshot.setup[0]
            live.state.commit_restore(
                staged, snapshot.next_chunk, snapshot.ended, setup.mode, setup.hold_policy
            )
            self._adopt(live, snapshot)
            self._start_pacer(live)
            if live.recorder is not None:
                live.recorder.write(
                    {"kind": "restore", "digest": snapshot.digest, "next_chunk": snapshot.next_chunk}
                )
            self._snapshot_if_due(live, force=True)
            return Restored.model_construct(
                id=request_id,
                session=live.name,
                next_chunk=snapshot.next_chunk,
                encoding=live.encoding,
                cameras=[Camera(**camera) for camera in live.cameras],
                **live.observation,
            )

    async def fork(self, live: LiveSession, count: int, request_id: int = 0) -> Forked:
        """Copy the session; the copies run in the same worker."""
        async with self._turn(live):
            self._admit(live.owner, None, count)
            free = self.config.sessions_per_worker - len(live.worker.sessions)
            if count > free:
                text = f"expected at most {free} copies beside the original, got {count}"
                raise ProtocolError(ErrorCode.CAPACITY, text, details={"retry_after_s": 5})
            staged = live.state.begin("fork")
            names = [self._new_name() for _ in range(count)]
            live.worker.sessions.update(names)
            try:
                await self._work(live, staged, ForkWork, copies=names)
            except BaseException:
                live.worker.sessions.difference_update(names)
                raise
            live.state.commit(staged)
            copies = [self._copy(live, name) for name in names]
        return Forked(id=request_id, session=live.name, sessions=[copy.info() for copy in copies])

    # Chunks -----------------------------------------------------------------------------------------------------

    async def _run(self, live: LiveSession, staged: Staged) -> Stepped:
        """Run a staged chunk and commit it."""
        item = staged.item
        assert item is not None
        values = {"space": item.space, "actions": item.actions, "wait_ms": item.deadline_ms}
        chunk = await self._work(live, staged, StepWork, sent_s=time.monotonic(), **values)
        reply = live.stepped(staged, chunk)
        live.state.commit_step(staged, reply)
        live.ended = reply.terminated or reply.truncated
        self.committed_s = time.monotonic()
        self._record_chunk(live, item, reply)
        self._published(live, reply.chunk, chunk)
        self._snapshot_if_due(live)
        return reply

    async def _step_in_real_time(self, live: LiveSession, item: StepItem) -> Stepped:
        """Offer the action and wait for the chunk that it drives."""
        await self._until_recovered(live)
        stored = live.state.offer_step(item, time.monotonic())
        if stored is not None:
            return stored.reply
        if live.waiting is None or live.waiting.done():
            live.waiting = asyncio.get_running_loop().create_future()
        return await asyncio.shield(live.waiting)

    async def _pace(self, live: LiveSession) -> None:
        """Run chunks when they are due, with the driver's action or a held one."""
        while live.state.mode == "realtime" and live.state.phase is not Phase.CLOSED:
            due_s, now_s = live.state.due_s, time.monotonic()
            if due_s is None or due_s > now_s:
                await asyncio.sleep(0.01 if due_s is None else min(due_s - now_s, 0.05))
                continue
            with contextlib.suppress(ProtocolError):
                async with self._turn(live):
                    staged = live.state.begin_due(time.monotonic())
                    if staged is not None:
                        await self._run_due(live, staged)

    async def _run_due(self, live: LiveSession, staged: Staged) -> None:
        answers = staged.request is not None
        try:
            reply = await self._run(live, staged)
        except ProtocolError as error:
            if answers:
                live.fail_waiting(error)
            return
        if staged.request is None:
            self.metrics.held.inc()
        else:
            self.metrics.action_age.observe(staged.action_age_ms / 1e3)
        if live.waiting is not None and not live.waiting.done() and (answers or live.ended):
            live.waiting.set_result(reply)

    def _start_pacer(self, live: LiveSession) -> None:
        live.fail_waiting(ProtocolError(ErrorCode.BAD_STATE, "the session was reset while the action waited"))
        if live.pacer is not None:
            live.pacer.cancel()
        live.pacer = self._spawn(self._pace(live)) if live.state.mode == "realtime" else None

    def _published(self, live: LiveSession, index: int, chunk: Chunk) -> None:
        """Viewers and metrics."""
        live.audience.publish(live.frames(index, chunk))
        images = [image for camera in chunk.frames.values() for image in camera]
        self.metrics.frames.inc(len(images))
        self.metrics.frame_bytes.labels(live.encoding).inc(sum(map(len, images)))
        for stage, ms in chunk.timing.items():
            if stage in STAGES:
                self.metrics.stage_seconds.labels(stage).observe(ms / 1e3)
        if index >= 0:
            self.metrics.chunks.inc()
            self.metrics.batch_size.observe(chunk.batch)

    # Snapshots and recovery -------------------------------------------------------------------------------------

    async def _take_snapshot(self, live: LiveSession, why: str) -> Snapshot:
        staged = live.state.begin("snapshot")
        answer: State = await self._work(live, staged, SnapshotWork)
        live.state.commit(staged)
        self.metrics.snapshots_taken.labels(why).inc()
        values = {
            "next_chunk": live.state.next_chunk,
            "ended": live.ended,
            "setup": (live.setup, live.cameras, live.encoding),
        }
        return self.snapshots.add(
            live.owner, live.name, answer.state, observation=dict(live.observation), **values
        )

    def _snapshot_if_due(self, live: LiveSession, force: bool = False) -> None:
        """By policy, after the reply: the next operation waits for it."""
        if live.snapshot_every and (force or live.state.next_chunk % live.snapshot_every == 0):
            self._spawn(self._periodic_snapshot(live))

    async def _periodic_snapshot(self, live: LiveSession) -> None:
        with contextlib.suppress(ProtocolError):
            async with self._turn(live):
                old, live.snapshot = live.snapshot, await self._take_snapshot(live, "policy")
            if old is not None:
                with contextlib.suppress(ProtocolError):
                    self.snapshots.drop(old.handle, None)

    def _on_worker_lost(self, worker: Worker, cause: str) -> None:
        """Tell everybody on it at once; restore those that have a snapshot."""
        self.metrics.workers_lost.labels(cause.partition(" ")[0].rstrip(":")).inc()
        for name in list(worker.sessions):
            live = self.sessions.get(name)
            if live is not None:
                self._lose(live)

    def _lose(self, live: LiveSession) -> None:
        busy, snapshot = live.state.phase is Phase.BUSY, live.snapshot
        error = live.state.lose(None if snapshot is None else snapshot.next_chunk)
        live.fail_waiting(error)
        if not busy or live.state.mode == "realtime":
            live.notify(
                Notice(code=error.code, session=live.name, message=error.message, details=error.details)
            )
        live.error = error
        live.recovered.clear()
        if snapshot is None:
            del self.sessions[live.name]
            self._end(live, "worker_lost")
        else:
            self._spawn(self._recover(live, snapshot))

    async def _recover(self, live: LiveSession, snapshot: Snapshot) -> None:
        """Open the session again where a worker has room."""
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                live.worker = await self._place_when_possible(live.name)
            values = {"state": snapshot.state, **_how_to_show(snapshot)}
            await self.pool.work(live.worker, RestoreWork, session=live.name, **values)
        except WorkerLostError:
            return  # that loss has started a recovery of its own
        except (TimeoutError, ProtocolError) as error:
            log.error("session %s could not be recovered: %s", live.name, error)
            live.error = ProtocolError(
                ErrorCode.WORKER_LOST, "the session could not be recovered", fatal=True
            )
            await self.close(live, "worker_lost")
            return
        self._adopt(live, snapshot)
        live.error = None
        live.state.recovered(snapshot.next_chunk, snapshot.ended)
        live.recovered.set()
        self.metrics.sessions_recovered.inc()
        log.info("session %s goes on from chunk %d", live.name, snapshot.next_chunk)

    async def _place_when_possible(self, name: str) -> Worker:
        while True:
            try:
                return self.pool.place(name)
            except ProtocolError:
                await asyncio.sleep(0.05)

    def _adopt(self, live: LiveSession, snapshot: Snapshot) -> None:
        """The session's world is now that of the snapshot."""
        live.setup, live.cameras, live.encoding = snapshot.setup
        live.observation, live.ended = dict(snapshot.observation), snapshot.ended
        live.progress_m = float(live.observation["metrics"]["route_progress_m"][-1])

    # Private ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _turn(self, live: LiveSession) -> AsyncIterator[None]:
        """This operation's turn on the session; waits for a recovery that is under way."""
        await self._until_recovered(live)
        async with live.lock:
            if live.state.phase is Phase.CLOSED:
                raise live.error or ProtocolError(ErrorCode.UNKNOWN_SESSION, "the session has ended")
            yield

    async def _until_recovered(self, live: LiveSession) -> None:
        if live.state.phase is Phase.RECOVERING:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                    await live.recovered.wait()

    async def _work(self, live: LiveSession, staged: Staged, kind: type[Any], **values: Any) -> Any:
        """Work of an operation that has begun; if it fails, everything is as it was."""
        try:
            return await self.pool.work(live.worker, kind, session=live.name, **values)
        except WorkerLostError:
            gone = ProtocolError(
                ErrorCode.WORKER_LOST, "the worker ended before the session began", fatal=True
            )
            raise live.error or gone from None
        except BaseException:
            live.state.abort(staged)
            raise

    def _admit(self, owner: str, limit: int | None, count: int) -> None:
        if self.draining:
            raise ProtocolError(ErrorCode.DRAINING, "the server is going away", details={"retry_after_s": 30})
        held = sum(live.owner == owner for live in self.sessions.values())
        if limit is not None and held + count > limit:
            raise ProtocolError(
                ErrorCode.TOO_MANY,
                f"expected at most {limit} sessions of this token",
                details={"retry_after_s": 5},
            )

    def _add(self, name: str, owner: str, worker: Worker, how: str) -> LiveSession:
        state = Session(name, secrets.token_urlsafe(16), self._rules(), time.monotonic())
        live = LiveSession(
            state, owner, worker, Audience(self.config.viewers_per_session), active_s=time.monotonic()
        )
        self.sessions[name] = live
        self.metrics.sessions_opened.labels(how).inc()
        return live

    def _copy(self, parent: LiveSession, name: str) -> LiveSession:
        live = self._add(name, parent.owner, parent.worker, "forked")
        live.encoding, live.setup, live.cameras = parent.encoding, parent.setup, parent.cameras
        live.observation, live.progress_m, live.ended = (
            dict(parent.observation),
            parent.progress_m,
            parent.ended,
        )
        live.snapshot_every = parent.snapshot_every
        live.state.continue_as(parent.state)
        self._start_pacer(live)
        self._snapshot_if_due(live, force=True)
        return live

    def _rules(self) -> SessionRules:
        info = self.pool.describe()
        chunk_s = info.frames_per_chunk * info.dt_us / 1e6
        widths = {space["name"]: len(space["columns"]) for space in info.action_spaces}
        return SessionRules(info.frames_per_chunk, chunk_s, widths, self.config.lease_s)

    def _new_name(self) -> str:
        return f"s{next(self._numbers)}-{secrets.token_hex(4)}"

    def _end(self, live: LiveSession, reason: str) -> None:
        self.metrics.sessions_closed.labels(reason).inc()
        live.recovered.set()
        if live.pacer is not None:
            live.pacer.cancel()
        if live.recorder is not None:
            live.recorder.close()
        live.fail_waiting(live.error or ProtocolError(ErrorCode.UNKNOWN_SESSION, "the session has ended"))
        if live.snapshot is not None:
            with contextlib.suppress(ProtocolError):
                self.snapshots.drop(live.snapshot.handle, None)
        live.audience.publish(Notice(code="CLOSED", session=live.name, message=reason))

    def _record_reset(self, live: LiveSession, chunk: Chunk) -> None:
        assert live.setup is not None
        if live.recorder is not None:
            live.recorder.close()
            live.recorder = None
        if live.setup.record:
            assert self.config.record_dir is not None
            info = self.pool.describe()
            header = {
                "engine": info.engine,
                "model_digest": info.model_digest,
                "determinism": info.determinism,
            }
            path = (
                Path(self.config.record_dir)
                / f"{time.strftime('%Y%m%d-%H%M%S')}-{live.name}-{secrets.token_hex(2)}.rlrec"
            )
            live.recorder = Recorder(path, header | {"encoding": live.encoding, "session": live.name})
            setup = live.setup.model_dump(exclude={"id", "session", "type"})
            live.recorder.write({"kind": "reset", **setup, "frame_digest": frame_digest(chunk.frames)})

    def _record_chunk(self, live: LiveSession, item: StepItem, reply: Stepped) -> None:
        if live.recorder is not None:
            record = {"kind": "chunk", "chunk": reply.chunk, "space": item.space, "actions": item.actions}
            record |= {
                "frame_digest": frame_digest(reply.frames),
                "reward": reply.reward,
                "outcome": reply.outcome,
            }
            live.recorder.write(record | {"ego": reply.ego, "cache": reply.cache})

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that is kept alive until it ends, and whose errors are logged."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def housekeeping(self) -> None:
        """Twice a second: end what nobody came back to, and keep the gauges true."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.5)
            now_s = time.monotonic()
            self.metrics.loop_lag.set(max(0.0, now_s - before_s - 0.5))
            for live in list(self.sessions.values()):
                if live.state.lease_is_over(now_s):
                    self._spawn(self.close(live, "lease"))
                elif live.driver is not None and now_s - live.active_s > self.config.idle_timeout_s:
                    self._spawn(self.close(live, "idle"))
            self._measure()

    def _measure(self) -> None:
        phases = [live.state.phase for live in self.sessions.values()]
        for phase in Phase:
            self.metrics.sessions.labels(phase).set(phases.count(phase))
        states = [worker.state for worker in self.pool.workers]
        for state in ("starting", "ready", "lost", "stopped"):
            self.metrics.workers.labels(state).set(states.count(state))
        self.metrics.session_slots.set(self.pool.slots)
        self.metrics.snapshot_bytes.set(self.snapshots.used_bytes)
        self.metrics.worker_memory.set(max(worker.memory_bytes for worker in self.pool.workers))

    def announce_drain(self) -> None:
        """Take no more sessions, and say so to those there are."""
        self.draining = True
        for live in self.sessions.values():
            live.notify(
                Notice(
                    code="DRAINING", session=live.name, message="the server is going away; finish or snapshot"
                )
            )

    async def stop(self) -> None:
        """End everything, workers aside."""
        for live in list(self.sessions.values()):
            self.sessions.pop(live.name)
            live.state.close()
            self._end(live, "shutdown")
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)


def _how_to_show(snapshot: Snapshot) -> dict[str, Any]:
    _, cameras, encoding = snapshot.setup
    return {"encoding": encoding, "cameras": [camera["name"] for camera in cameras]}
