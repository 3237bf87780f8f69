"""Snapshots in memory under a budget: the least recently used ones are dropped first. Knows nothing of engines."""

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from clients.protocol import ErrorCode, ProtocolError


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A session's state at a chunk boundary, and what its driver last saw."""

    handle: str
    owner: str
    session: str
    state: bytes
    digest: str  # sha256 of the state
    next_chunk: int
    ended: bool
    observation: Any  # the fields of a reply: frames, ego, agents, ...
    setup: Any  # what the session was reset with

    @property
    def size_bytes(self) -> int:
        """Of the state; the observation is shared with the reply that carried it."""
        return len(self.state)


class SnapshotStore:
    """Handles to snapshots."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()

    def add(self, owner: str, session: str, state: bytes, **values: Any) -> Snapshot:
        """Keep a snapshot, dropping the longest unused ones if need be.

        Raises:
            ProtocolError: CAPACITY for one that is larger than the whole budget.
        """
        if len(state) > self._budget_bytes:
            text = f"expected a snapshot of at most {self._budget_bytes} bytes, got {len(state)}"
            raise ProtocolError(ErrorCode.CAPACITY, text)
        handle = f"snap-{secrets.token_hex(8)}"
        snapshot = Snapshot(handle, owner, session, state, hashlib.sha256(state).hexdigest(), **values)
        self._snapshots[handle] = snapshot
        while self.used_bytes > self._budget_bytes:
            self._snapshots.popitem(last=False)
        return snapshot

    def get(self, handle: str, owner: str | None) -> Snapshot:
        """A snapshot of this owner (None: of anybody); using it keeps it longer.

        Raises:
            ProtocolError: UNKNOWN_SNAPSHOT.
        """
        snapshot = self._snapshots.get(handle)
        if snapshot is None or owner not in (None, snapshot.owner):
            raise ProtocolError(
                ErrorCode.UNKNOWN_SNAPSHOT, f"expected a snapshot that is still kept, got {handle!r}"
            )
        self._snapshots.move_to_end(handle)
        return snapshot

    def drop(self, handle: str, owner: str | None) -> None:
        """Forget one. Raises UNKNOWN_SNAPSHOT."""
        del self._snapshots[self.get(handle, owner).handle]

    def list(self, owner: str | None) -> list[Snapshot]:
        """Those of an owner (None: all), the next to be dropped first."""
        return [snapshot for snapshot in self._snapshots.values() if owner in (None, snapshot.owner)]

    @property
    def used_bytes(self) -> int:
        """Bytes of all states."""
        return sum(snapshot.size_bytes for snapshot in self._snapshots.values())
