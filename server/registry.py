"""The open sessions by name: who may open one, where it is placed, and what ends with it."""

import contextlib
import itertools
import secrets
import time

from clients.protocol import ErrorCode, Notice, ProtocolError

from .config import ServerConfig
from .live import LiveSession
from .messages import CloseWork
from .metrics import Metrics
from .pool import Worker, WorkerLostError, WorkerPool
from .session import Session
from .snapshots import SnapshotStore
from .staging import Phase, SessionRules
from .viewers import Audience


class Registry:
    """Mutable; the only place where sessions come into being and go."""

    def __init__(
        self, config: ServerConfig, pool: WorkerPool, metrics: Metrics, snapshots: SnapshotStore
    ) -> None:
        self.sessions: dict[str, LiveSession] = {}
        self.draining = False  # takes no more sessions
        self._config, self._pool, self._metrics, self._snapshots = config, pool, metrics, snapshots
        self._numbers = itertools.count(1)

    def find(self, name: str, owner: str | None) -> LiveSession:
        """An open session of this owner (None: of anybody). Raises UNKNOWN_SESSION."""
        live = self.sessions.get(name)
        if live is None or owner not in (None, live.owner):
            raise ProtocolError(ErrorCode.UNKNOWN_SESSION, f"expected an open session, got {name!r}")
        return live

    def admit(self, owner: str, limit: int | None, count: int) -> None:
        """Whether this owner may have so many more. Raises DRAINING or TOO_MANY."""
        if self.draining:
            raise ProtocolError(ErrorCode.DRAINING, "the server is going away", details={"retry_after_s": 30})
        held = sum(live.owner == owner for live in self.sessions.values())
        if limit is not None and held + count > limit:
            raise ProtocolError(
                ErrorCode.TOO_MANY,
                f"expected at most {limit} sessions of this token",
                details={"retry_after_s": 5},
            )

    def new_name(self) -> str:
        """Never given before, and not to be guessed."""
        return f"s{next(self._numbers)}-{secrets.token_hex(4)}"

    def add(self, name: str, owner: str, worker: Worker, how: str) -> LiveSession:
        """A session without a world, on this worker."""
        rules = self._rules(worker.engine_name)
        state = Session(name, secrets.token_urlsafe(16), rules, time.monotonic())
        live = LiveSession(
            state, owner, worker, Audience(self._config.viewers_per_session), active_s=time.monotonic()
        )
        self.sessions[name] = live
        self._metrics.sessions_opened.labels(how).inc()
        return live

    async def close(self, live: LiveSession, reason: str) -> None:
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
                    await self._pool.work(live.worker, CloseWork, session=live.name)
            live.worker.sessions.discard(live.name)

    def drop(self, live: LiveSession, reason: str) -> None:
        """End a session whose worker is gone, or goes with it."""
        self.sessions.pop(live.name, None)
        self._end(live, reason)

    def _end(self, live: LiveSession, reason: str) -> None:
        self._metrics.sessions_closed.labels(reason).inc()
        live.recovered.set()
        if live.pacer is not None:
            live.pacer.cancel()
        if live.recorder is not None:
            live.recorder.close()
        live.fail_waiting(live.error or ProtocolError(ErrorCode.UNKNOWN_SESSION, "the session has ended"))
        if live.snapshot is not None:
            with contextlib.suppress(ProtocolError):
                self._snapshots.drop(live.snapshot.handle, None)
        live.audience.publish(Notice(code="CLOSED", session=live.name, message=reason))

    def _rules(self, engine: str) -> SessionRules:
        info = self._pool.describe(engine)
        chunk_s = info.frames_per_chunk * info.dt_us / 1e6
        widths = {space["name"]: len(space["columns"]) for space in info.action_spaces}
        return SessionRules(info.frames_per_chunk, chunk_s, widths, self._config.lease_s)
