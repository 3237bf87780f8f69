"""Snapshots in memory under a budget, and on disk when that is used up. Knows nothing of engines.

The least recently used ones leave memory first: to a file where there is a folder, else for good. Snapshots by policy are
replaced all the time, so they are never written to disk that way.
"""

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from clients.protocol import ErrorCode, ProtocolError

if TYPE_CHECKING:
    from .snapshot_files import SnapshotFiles

log = logging.getLogger("roadloop.snapshots")

BY_POLICY = "policy"


@dataclass(frozen=True, eq=False)
class SnapshotHead:
    """What lists show of a snapshot."""

    handle: str
    owner: str
    session: str
    digest: str  # sha256 of the state
    size_bytes: int  # of the state alone
    next_chunk: int
    ended: bool
    why: str  # asked, policy, drain


@dataclass(frozen=True, eq=False)
class Snapshot(SnapshotHead):
    """A session's state at a chunk boundary, and what its driver last saw."""

    state: bytes
    observation: Any  # the fields of a reply: frames, ego, agents, ...
    setup: Any  # what the session was reset with, its cameras, its encoding

    @property
    def head(self) -> SnapshotHead:
        """Without the state."""
        return SnapshotHead(**{item.name: getattr(self, item.name) for item in fields(SnapshotHead)})

    @property
    def kept_bytes(self) -> int:
        """What keeping it costs: a small state may come with large pictures."""
        pictures = self.observation.get("frames", {}).values()
        return len(self.state) + sum(len(image) for images in pictures for image in images)


class SnapshotStore:
    """Handles to snapshots.

    Args:
        budget_bytes: of memory.
        files: where snapshots go that memory has no room for.
    """

    def __init__(self, budget_bytes: int, files: "SnapshotFiles | None" = None) -> None:
        self._budget_bytes, self._used_bytes, self._files = budget_bytes, 0, files
        self._memory: OrderedDict[str, Snapshot] = OrderedDict()
        self._leaving: dict[str, Snapshot] = {}  # on their way to disk

    async def add(
        self, owner: str, session: str, state: bytes, why: str = "asked", **values: Any
    ) -> Snapshot:
        """Keep a snapshot; returns when those that make room for it are on disk.

        Raises:
            ProtocolError: CAPACITY for one that is larger than the whole budget.
        """
        handle, digest = f"snap-{secrets.token_hex(8)}", hashlib.sha256(state).hexdigest()
        snapshot = Snapshot(handle, owner, session, digest, len(state), why=why, state=state, **values)
        if snapshot.kept_bytes > self._budget_bytes:
            text = f"expected a snapshot of at most {self._budget_bytes} bytes, got {snapshot.kept_bytes}"
            raise ProtocolError(ErrorCode.CAPACITY, text)
        self._memory[handle] = snapshot
        self._used_bytes += snapshot.kept_bytes
        leaving = []
        while self._used_bytes > self._budget_bytes:
            leaving.append(self._forget(next(iter(self._memory))))
        await self._write(leaving)
        return snapshot

    async def get(self, handle: str, owner: str | None) -> Snapshot:
        """A snapshot of this owner (None: of anybody); using it keeps it longer.

        Raises:
            ProtocolError: UNKNOWN_SNAPSHOT, also when its file is harmed.
        """
        self._check(handle, owner)
        if handle in self._memory:
            self._memory.move_to_end(handle)
            return self._memory[handle]
        if handle in self._leaving:
            return self._leaving[handle]
        assert self._files is not None
        return await self._files.read(handle)

    def drop(self, handle: str, owner: str | None) -> None:
        """Forget one, wherever it is. Raises UNKNOWN_SNAPSHOT."""
        self._check(handle, owner)
        if handle in self._memory:
            self._forget(handle)
        self._leaving.pop(handle, None)
        if self._files is not None:
            self._files.drop(handle)

    def list(self, owner: str | None) -> list[SnapshotHead]:
        """Those of an owner (None: all), the next to be dropped first."""
        known: dict[str, SnapshotHead] = {}
        for place in (self._on_disk, self._leaving, self._memory):
            known |= place
        return [head for head in known.values() if owner in (None, head.owner)]

    async def keep_for_next_server(self) -> None:
        """Write to disk what is in memory only, snapshots by policy aside."""
        await self._write(list(self._memory.values()))

    def close(self) -> None:
        """Finish what is being written."""
        if self._files is not None:
            self._files.close()

    @property
    def used_bytes(self) -> int:
        """Bytes of memory: all states and their pictures."""
        return self._used_bytes

    @property
    def file_bytes(self) -> int:
        """Bytes of all files."""
        return 0 if self._files is None else self._files.used_bytes

    # Private ----------------------------------------------------------------------------------------------------

    @property
    def _on_disk(self) -> dict[str, SnapshotHead]:
        return {} if self._files is None else {head.handle: head for head in self._files.heads}

    def _check(self, handle: str, owner: str | None) -> None:
        known: SnapshotHead | None = self._memory.get(handle) or self._leaving.get(handle)
        if known is None and self._files is not None:
            known = self._files.find(handle)
        if known is None or owner not in (None, known.owner):
            raise ProtocolError(
                ErrorCode.UNKNOWN_SNAPSHOT, f"expected a snapshot that is still kept, got {handle!r}"
            )

    def _forget(self, handle: str) -> Snapshot:
        snapshot = self._memory.pop(handle)
        self._used_bytes -= snapshot.kept_bytes
        return snapshot

    async def _write(self, snapshots: Sequence[Snapshot]) -> None:
        """To disk, those that belong there and are not there; whoever waits for it may give up, the writing goes on."""
        if self._files is not None:
            files = self._files
            chosen = [one for one in snapshots if one.why != BY_POLICY and files.find(one.handle) is None]
            await asyncio.shield(asyncio.gather(*(self._write_one(files, one) for one in chosen)))

    async def _write_one(self, files: "SnapshotFiles", snapshot: Snapshot) -> None:
        self._leaving[snapshot.handle] = snapshot
        try:
            await files.write(snapshot)
        except (OSError, ProtocolError) as error:
            log.error("snapshot %s cannot be kept on disk: %s", snapshot.handle, error)
        if self._leaving.pop(snapshot.handle, None) is None:  # dropped meanwhile
            files.drop(snapshot.handle)
