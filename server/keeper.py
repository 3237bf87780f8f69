"""Takes snapshots, when asked and by policy, and puts a session where a snapshot was taken."""

import contextlib
from typing import Any

from clients.protocol import ProtocolError

from .background import Background
from .live import LiveSession
from .messages import SnapshotWork, State
from .metrics import Metrics
from .snapshots import Snapshot, SnapshotStore
from .turns import Turns


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
        return self.snapshots.add(
            live.owner, live.name, answer.state, observation=dict(live.observation), **values
        )

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
