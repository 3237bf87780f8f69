"""How a session gets its world: by a reset, from a snapshot, or as a copy of another session."""

from typing import Any

from clients.protocol import Camera, ErrorCode, ProtocolError, Reset, Restored, Started
from clients.protocol.requests import Encoding

from .chunks import Chunks
from .config import ServerConfig
from .keeper import Keeper, adopt, restore_values
from .live import LiveSession
from .logbook import Logbook
from .messages import ForkWork, OpenWork, RestoreWork
from .pacer import Pacer
from .pool import WorkerPool
from .registry import Registry
from .turns import Turns


class Worlds:
    """Resets, restores and forks sessions."""

    def __init__(
        self,
        config: ServerConfig,
        pool: WorkerPool,
        registry: Registry,
        turns: Turns,
        keeper: Keeper,
        chunks: Chunks,
        pacer: Pacer,
    ) -> None:
        self._config, self._pool, self._registry, self._turns = config, pool, registry, turns
        self._keeper, self._chunks, self._pacer = keeper, chunks, pacer

    async def reset(self, live: LiveSession, request: Reset, encoding: Encoding) -> Started:
        """Start the session's world.

        Raises:
            ProtocolError: BAD_REQUEST for what there is not; BAD_STATE, WORKER_LOST.
        """
        setup = request.model_copy(
            update={"rig": request.rig or self._pool.describe(live.engine).default_rig}
        )
        self._check(live, setup)
        async with self._turns.turn(live):
            staged = live.state.begin("reset")
            chunk = await self._turns.work(live, staged, OpenWork, encoding=encoding, **_open_values(setup))
            live.state.commit_reset(staged, request.mode, request.hold_policy)
            live.encoding, live.setup, live.cameras, live.ended = encoding, setup, chunk.cameras, False
            every = request.snapshot_every
            live.snapshot_every = self._config.snapshot_every if every is None else every
            live.observe(chunk)
            if log := self._begin_log(live):
                log.reset(setup, chunk)
            self._chunks.publish(live, -1, chunk)
            self._pacer.start(live)
            self._keeper.take_if_due(live)
            return live.started(request.id, chunk)

    async def restore(self, live: LiveSession, handle: str, request_id: int) -> Restored:
        """Continue from a snapshot of the same owner. Raises UNKNOWN_SNAPSHOT, BAD_STATE, WORKER_LOST."""
        snapshot = await self._keeper.snapshots.get(handle, live.owner)
        async with self._turns.turn(live):
            staged = live.state.begin("restore")
            await self._turns.work(live, staged, RestoreWork, **restore_values(snapshot))
            setup: Reset = snapshot.setup[0]
            live.state.commit_restore(
                staged, snapshot.next_chunk, snapshot.ended, setup.mode, setup.hold_policy
            )
            adopt(live, snapshot)
            self._pacer.start(live)
            if log := live.recorder or self._begin_log(live):
                log.restore(snapshot)
            self._keeper.take_if_due(live, force=True)
            return Restored.model_construct(
                id=request_id,
                session=live.name,
                next_chunk=snapshot.next_chunk,
                encoding=live.encoding,
                cameras=[Camera(**camera) for camera in live.cameras],
                **live.observation,
            )

    async def fork(self, live: LiveSession, count: int) -> list[LiveSession]:
        """Copies, which run in the same worker. Raises CAPACITY, DRAINING, BAD_STATE, WORKER_LOST."""
        async with self._turns.turn(live):
            self._registry.admit(live.owner, None, count)
            free = self._config.sessions_per_worker - len(live.worker.sessions)
            if count > free:
                text = f"expected at most {free} copies beside the original, got {count}"
                raise ProtocolError(ErrorCode.CAPACITY, text, details={"retry_after_s": 5})
            staged = live.state.begin("fork")
            names = [self._registry.new_name() for _ in range(count)]
            live.worker.sessions.update(names)
            try:
                await self._turns.work(live, staged, ForkWork, copies=names)
            except BaseException:
                live.worker.sessions.difference_update(names)
                raise
            live.state.commit(staged)
            return [self._copy(live, name) for name in names]

    def _check(self, live: LiveSession, setup: Reset) -> None:
        for kind, name in (("scenario", setup.scenario), ("rig", setup.rig or "")):
            if "/" in name or "\\" in name or name.endswith((".yaml", ".yml")):
                raise ProtocolError(
                    ErrorCode.BAD_REQUEST, f"expected the name of a {kind}, got the path {name!r}"
                )
        frames = self._pool.describe(live.engine).frames_per_chunk
        if setup.newest_frames is not None and setup.newest_frames > frames:
            raise ProtocolError(
                ErrorCode.BAD_REQUEST, f"expected newest_frames of 1 to {frames}, got {setup.newest_frames}"
            )
        if setup.record and self._config.record_dir is None:
            raise ProtocolError(
                ErrorCode.BAD_REQUEST, "expected a server that records, got one without record_dir"
            )

    def _begin_log(self, live: LiveSession) -> Logbook | None:
        """A new world ends the recording that there was, and begins one if its reset asked for that."""
        assert live.setup is not None
        if live.recorder is not None:
            live.recorder.close()
        live.recorder = None
        if live.setup.record and self._config.record_dir is not None:
            info, folder = self._pool.describe(live.engine), self._config.record_dir
            live.recorder = Logbook(folder, live.name, info, live.worker.engine, live.encoding)
        return live.recorder

    def _copy(self, parent: LiveSession, name: str) -> LiveSession:
        live = self._registry.add(name, parent.owner, parent.worker, "forked")
        live.encoding, live.setup, live.cameras = parent.encoding, parent.setup, parent.cameras
        live.observation, live.ended = dict(parent.observation), parent.ended
        live.progress_m, live.snapshot_every = parent.progress_m, parent.snapshot_every
        live.state.continue_as(parent.state)
        if parent.recorder is not None and (log := self._begin_log(live)):
            log.branch(parent.recorder)
        self._pacer.start(live)
        self._keeper.take_if_due(live, force=True)
        return live


def _open_values(setup: Reset) -> dict[str, Any]:
    """The fields of OpenWork that a reset decides."""
    return {
        "scenario": setup.scenario,
        "rig": setup.rig,
        "seed": setup.seed,
        "options": setup.options.model_dump(),
    }
