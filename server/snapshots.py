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
        """Of the state alone."""
        return len(self.state)

    @property
    def kept_bytes(self) -> int:
        """What keeping it costs: a small state may come with large pictures."""
        pictures = self.observation.get("frames", {}).values()
        return len(self.state) + sum(len(image) for images in pictures for image in images)


class SnapshotStore:
    """Handles to snapshots."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes, self._used_bytes = budget_bytes, 0
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()

    def add(self, owner: str, session: str, state: bytes, **values: Any) -> Snapshot:
        """Keep a snapshot, dropping the longest unused ones if need be.

        Raises:
            ProtocolError: CAPACITY for one that is larger than the whole budget.
        """
        handle = f"snap-{secrets.token_hex(8)}"
        snapshot = Snapshot(handle, owner, session, state, hashlib.sha256(state).hexdigest(), **values)
        if snapshot.kept_bytes > self._budget_bytes:
            text = f"expected a snapshot of at most {self._budget_bytes} bytes, got {snapshot.kept_bytes}"
            raise ProtocolError(ErrorCode.CAPACITY, text)
        self._snapshots[handle] = snapshot
        self._used_bytes += snapshot.kept_bytes
        while self._used_bytes > self._budget_bytes:
            _, oldest = self._snapshots.popitem(last=False)
            self._used_bytes -= oldest.kept_bytes
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
        snapshot = self._snapshots.pop(self.get(handle, owner).handle)
        self._used_bytes -= snapshot.kept_bytes

    def list(self, owner: str | None) -> list[Snapshot]:
        """Those of an owner (None: all), the next to be dropped first."""
        return [snapshot for snapshot in self._snapshots.values() if owner in (None, snapshot.owner)]

    @property
    def used_bytes(self) -> int:
        """Bytes of all states and their pictures."""
        return self._used_bytes
