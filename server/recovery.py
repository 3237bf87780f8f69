"""What happens to sessions when their worker is lost: everybody is told, and those with a snapshot go on elsewhere."""

import asyncio
import logging

from clients.protocol import ErrorCode, Notice, ProtocolError

from .background import Background
from .keeper import adopt, restore_values
from .live import LiveSession
from .messages import RestoreWork
from .metrics import Metrics
from .pool import Worker, WorkerLostError, WorkerPool
from .registry import Registry
from .snapshots import Snapshot
from .staging import Phase
from .turns import RECOVERY_TIMEOUT_S

log = logging.getLogger("roadloop.recovery")


class Recovery:
    """Hears of lost workers."""

    def __init__(
        self, pool: WorkerPool, registry: Registry, background: Background, metrics: Metrics
    ) -> None:
        self._pool, self._registry, self._background, self._metrics = pool, registry, background, metrics
        pool.on_lost = self._on_worker_lost

    def _on_worker_lost(self, worker: Worker, cause: str) -> None:
        """Tell everybody on it at once; restore those that have a snapshot."""
        self._metrics.workers_lost.labels(cause.partition(" ")[0].rstrip(":")).inc()
        for name in list(worker.sessions):
            live = self._registry.sessions.get(name)
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
            self._registry.drop(live, "worker_lost")
        else:
            self._background.spawn(self._recover(live, snapshot))

    async def _recover(self, live: LiveSession, snapshot: Snapshot) -> None:
        """Open the session again where a worker has room."""
        try:
            async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                live.worker = await self._place_when_possible(live)
            await self._pool.work(live.worker, RestoreWork, session=live.name, **restore_values(snapshot))
        except WorkerLostError:
            return  # that loss has started a recovery of its own
        except (TimeoutError, ProtocolError) as error:
            log.error("session %s could not be recovered: %s", live.name, error)
            live.error = ProtocolError(
                ErrorCode.WORKER_LOST, "the session could not be recovered", fatal=True
            )
            await self._registry.close(live, "worker_lost")
            return
        adopt(live, snapshot)
        if live.recorder is not None:
            live.recorder.restore(snapshot)
        live.error = None
        live.state.recovered(snapshot.next_chunk, snapshot.ended)
        live.recovered.set()
        self._metrics.sessions_recovered.inc()
        log.info("session %s goes on from chunk %d", live.name, snapshot.next_chunk)

    async def _place_when_possible(self, live: LiveSession) -> Worker:
        while True:
            try:
                return self._pool.place(live.name, live.engine)
            except ProtocolError:
                await asyncio.sleep(0.05)
