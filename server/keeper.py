"""Takes snapshots, when asked and by policy, and puts a session where a snapshot was taken."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from clients.protocol import Notice, ProtocolError

from .background import Background
from .live import LiveSession
from .messages import SnapshotWork, State
from .metrics import Metrics
from .snapshots import Snapshot, SnapshotStore
from .turns import Turns

log = logging.getLogger("roadloop.keeper")


class Keeper:
    """Between sessions and the store of their snapshots."""

    def __init__(
        self, turns: Turns, snapshots: SnapshotStore, background: Background, metrics: Metrics
    ) -> None:
        self.snapshots = snapshots
        self._turns, self._background, self._metrics = turns, background, metrics

    async def take(self, live: LiveSession, why: str = "asked") -> Snapshot:
        """Keep the state at this chunk boundary, in the caller's turn."""
        staged = live.state.begin("snapshot")
        answer: State = await self._turns.work(live, staged, SnapshotWork)
        live.state.commit(staged)
        self._metrics.snapshots_taken.labels(why).inc()
        values = {
            "next_chunk": live.state.next_chunk,
            "ended": live.ended,
            "setup": (live.setup, live.cameras, live.encoding),
        }
        snapshot = await self.snapshots.add(
            live.owner, live.name, answer.state, why, observation=dict(live.observation), **values
        )
        if live.recorder is not None:
            live.recorder.snapshot(snapshot)
        return snapshot

    async def keep_for_next_server(self, sessions: Sequence[LiveSession]) -> None:
        """Write these sessions, and the snapshots that drivers asked for, to disk; drivers hear their handles."""
        await asyncio.gather(*(self._take_to_go(live) for live in sessions))
        await self.snapshots.keep_for_next_server()

    async def _take_to_go(self, live: LiveSession) -> None:
        try:
            async with self._turns.turn(live):
                snapshot = await self.take(live, "drain")
        except ProtocolError as error:  # no world yet, or just ended
            log.info("session %s is not kept: %s", live.name, error)
            return
        details = {"handle": snapshot.handle, "next_chunk": snapshot.next_chunk}
        text = "kept as a snapshot for the next server"
        live.notify(Notice(code="DRAINING", session=live.name, message=text, details=details))

    def take_if_due(self, live: LiveSession, force: bool = False) -> None:
        """By policy, after the reply: the next operation waits for it."""
        if live.snapshot_every and (force or live.state.next_chunk % live.snapshot_every == 0):
            self._background.spawn(self._take_by_policy(live))

    async def _take_by_policy(self, live: LiveSession) -> None:
        with contextlib.suppress(ProtocolError):
            async with self._turns.turn(live):
                old, live.snapshot = live.snapshot, await self.take(live, "policy")
            if old is not None:
                with contextlib.suppress(ProtocolError):
                    self.snapshots.drop(old.handle, None)


def adopt(live: LiveSession, snapshot: Snapshot) -> None:
    """The session's world is now that of the snapshot."""
    live.setup, live.cameras, live.encoding = snapshot.setup
    live.observation, live.ended = dict(snapshot.observation), snapshot.ended
    live.progress_m = float(live.observation["metrics"]["route_progress_m"][-1])


def restore_values(snapshot: Snapshot) -> dict[str, Any]:
    """What a worker must know to continue from a snapshot: the fields of RestoreWork."""
    _, cameras, encoding = snapshot.setup
    return {
        "state": snapshot.state,
        "encoding": encoding,
        "cameras": [camera["name"] for camera in cameras],
    }
