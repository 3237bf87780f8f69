"""All live sessions: what each request does. The one door for sockets and REST; the rooms behind it are files of their own.

    Hub ─ Registry      which sessions there are, who may open one
        ─ Worlds        reset, restore, fork
        ─ Chunks        a step, from staging to reply, viewers and recording
        ─ Pacer         the same in real time
        ─ Keeper        snapshots, asked for and by policy
        ─ Maps          what a world looks like from above
        ─ Recovery      after a lost worker
        ─ Turns         one operation at a time per session, and its work in the worker

Knows nothing of sockets. One event loop; an operation holds its session's lock, so a session does one thing at a time.
"""

import asyncio
import time

from clients.protocol import (
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
    TierSet,
)
from clients.protocol.requests import Encoding

from .auth import Principal
from .background import Background
from .chunks import Chunks
from .config import ServerConfig
from .keeper import Keeper
from .live import Driver, LiveSession
from .maps import MapFile, Maps
from .messages import TierWork, Video
from .metrics import Metrics
from .pacer import Pacer
from .pool import WorkerPool
from .recovery import Recovery
from .registry import Registry
from .snapshot_files import open_store
from .staging import Phase
from .turns import Turns
from .worlds import Worlds


class Hub:
    """Creates, runs, forks, recovers and ends sessions."""

    def __init__(self, config: ServerConfig, pool: WorkerPool, metrics: Metrics) -> None:
        self.config, self.pool, self.metrics = config, pool, metrics
        self.snapshots = open_store(config)
        self._background = Background()
        self._registry = Registry(config, pool, metrics, self.snapshots)
        self._turns = Turns(pool)
        self._keeper = Keeper(self._turns, self.snapshots, self._background, metrics)
        self._chunks = Chunks(self._turns, self._keeper, metrics)
        self._pacer = Pacer(self._turns, self._chunks, self._background, metrics)
        self._worlds = Worlds(
            config, pool, self._registry, self._turns, self._keeper, self._chunks, self._pacer
        )
        self._maps = Maps(self._turns)
        pool.on_video = self._show_video
        self._recovery = Recovery(pool, self._registry, self._background, metrics)

    # Life of a session ------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> dict[str, LiveSession]:
        """The open ones by name."""
        return self._registry.sessions

    def create(self, owner: Principal, engine: str | None = None) -> LiveSession:
        """Open a session without a world, on the emptiest worker with this engine (None: the server's first).

        Raises:
            ProtocolError: DRAINING, CAPACITY, TOO_MANY; BAD_REQUEST for an engine that there is not.
        """
        self._registry.admit(owner.name, owner.max_sessions, 1)
        name = self._registry.new_name()
        return self._registry.add(name, owner.name, self.pool.place(name, engine), "created")

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
        return self._registry.find(name, owner)

    async def close(self, live: LiveSession, reason: str = "closed") -> None:
        """End a session and free its slot."""
        await self._registry.close(live, reason)

    # Operations -------------------------------------------------------------------------------------------------

    async def reset(self, live: LiveSession, request: Reset, encoding: Encoding = "jpeg") -> Started:
        """Start the session's world."""
        return await self._worlds.reset(live, request, encoding)

    async def step(self, live: LiveSession, item: StepItem) -> Stepped:
        """Generate the next chunk, or answer a repeated request again."""
        began_s = time.monotonic()
        maker = self._pacer if live.state.mode == "realtime" else self._chunks
        reply = await maker.step(live, item)
        self.metrics.step_seconds.observe(time.monotonic() - began_s)
        return reply

    async def snapshot(self, live: LiveSession, request_id: int = 0) -> SnapshotTaken:
        """Keep the state at this chunk boundary."""
        async with self._turns.turn(live):
            snapshot = await self._keeper.take(live)
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
        return await self._worlds.restore(live, handle, request_id)

    async def fork(self, live: LiveSession, count: int, request_id: int = 0) -> Forked:
        """Copy the session; the copies run in the same worker."""
        copies = await self._worlds.fork(live, count)
        return Forked(id=request_id, session=live.name, sessions=[copy.info() for copy in copies])

    async def set_tier(self, live: LiveSession, tier: str, request_id: int = 0) -> TierSet:
        """Another cache tier from the next chunk on. Raises BAD_REQUEST with the tiers that there are."""
        async with self._turns.turn(live):
            staged = live.state.begin("set_tier")
            await self._turns.work(live, staged, TierWork, tier=tier)
            live.state.commit(staged)
            live.choose_tier(tier)
            if live.recorder is not None:
                live.recorder.tier(tier)
            self._keeper.take_if_due(live, force=True)  # a lost worker does not undo it
        return TierSet(id=request_id, session=live.name, tier=tier, next_chunk=live.state.next_chunk)

    async def lane_map(self, live: LiveSession) -> MapFile:
        """The roads of the session's world."""
        return await self._maps.of(live)

    def _show_video(self, video: Video) -> None:
        if live := self.sessions.get(video.session):
            live.audience.publish_video(video.chunk, video.units, video.key)

    # The server's own life --------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether no more sessions are taken."""
        return self._registry.draining

    def announce_drain(self) -> None:
        """Take no more sessions, and say so to those there are."""
        self._registry.draining = True
        text = "the server is going away; finish or snapshot"
        for live in self.sessions.values():
            live.notify(Notice(code="DRAINING", session=live.name, message=text))

    async def keep_for_next_server(self) -> None:
        """Write the sessions that are left to disk, so that the next server can restore them."""
        await self._keeper.keep_for_next_server(list(self.sessions.values()))

    async def housekeeping(self) -> None:
        """Twice a second: end what nobody came back to, and keep the gauges true."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.5)
            now_s = time.monotonic()
            self.metrics.loop_lag.set(max(0.0, now_s - before_s - 0.5))
            for live in list(self.sessions.values()):
                if live.state.lease_is_over(now_s):
                    self._background.spawn(self.close(live, "lease"))
                elif live.driver is not None and now_s - live.active_s > self.config.idle_timeout_s:
                    self._background.spawn(self.close(live, "idle"))
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
        self.metrics.snapshot_file_bytes.set(self.snapshots.file_bytes)
        self.metrics.worker_memory.set(max(worker.memory_bytes for worker in self.pool.workers))

    async def stop(self) -> None:
        """End everything, workers aside."""
        for live in list(self.sessions.values()):
            live.state.close()
            self._registry.drop(live, "shutdown")
        await self._background.stop()
        self.snapshots.close()
