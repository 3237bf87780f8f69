"""Snapshots as files in one folder, under a budget of their own: the longest unused files go first.

A file is a magic number, the length and the SHA-256 of a msgpack head, the head, then the body: the state and what the
driver last saw. The head has the body's length and SHA-256. A file appears whole or not at all; a harmed one is refused when
it is read and stays where it is.
"""

import asyncio
import hashlib
import logging
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from clients.protocol import CodecError, ErrorCode, ProtocolError, Reset, pack, unpack

from .config import ServerConfig
from .snapshots import Snapshot, SnapshotHead, SnapshotStore

log = logging.getLogger("roadloop.snapshots")

T = TypeVar("T")
MAGIC = b"RLSNAPF\x01"
START = struct.Struct("<I32s")  # length and SHA-256 of the head
MAX_BYTES = 1 << 32
SUFFIX, PART = ".rlsnapshot", ".part"


def open_store(config: ServerConfig) -> SnapshotStore:
    """The store that the settings ask for. Raises OSError for a folder that cannot be used."""
    if config.snapshot_dir is None:
        return SnapshotStore(config.snapshot_bytes)
    return SnapshotStore(config.snapshot_bytes, SnapshotFiles(config.snapshot_dir, config.snapshot_dir_bytes))


class SnapshotFiles:
    """The files of one server, listed in memory. Two servers must not share a folder.

    Args:
        folder: made if it does not exist, readable by its owner only.
        budget_bytes: of all files together.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._budget_bytes = folder, budget_bytes
        self._files: OrderedDict[str, _File] = OrderedDict()  # by handle, the longest unused first
        self._thread = ThreadPoolExecutor(1, "snapshots")  # reads and writes, one after another
        for path in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns):
            if head := _read_head(path):
                self._files[head.handle] = _File(head, path.stat().st_size)
        for left_over in folder.glob(f"*{SUFFIX}{PART}"):
            left_over.unlink()

    def find(self, handle: str) -> SnapshotHead | None:
        """What is known of a snapshot without reading it."""
        return self._files[handle].head if handle in self._files else None

    @property
    def heads(self) -> list[SnapshotHead]:
        """Those there are, the next to be dropped first."""
        return [file.head for file in self._files.values()]

    @property
    def used_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self._files.values())

    async def write(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, dropping the longest unused ones if need be.

        Raises:
            OSError: the disk is full or refuses.
            ProtocolError: CAPACITY for one that is larger than the whole budget.
        """
        data = await self._in_thread(_to_bytes, snapshot)
        self._reserve(snapshot, len(data))
        try:
            await self._in_thread(_write, self._path(snapshot.handle), data)
        except OSError:
            self.drop(snapshot.handle)
            raise
        if snapshot.handle not in self._files:  # dropped while it was being written
            self._path(snapshot.handle).unlink(missing_ok=True)

    async def read(self, handle: str) -> Snapshot:
        """A snapshot whose digests are right; reading keeps it longer.

        Raises:
            ProtocolError: UNKNOWN_SNAPSHOT: none of that name, or its file is truncated or was changed.
        """
        if handle not in self._files:
            raise ProtocolError(ErrorCode.UNKNOWN_SNAPSHOT, f"expected a snapshot on disk, got {handle!r}")
        self._files.move_to_end(handle)
        try:
            return await self._in_thread(_read, self._path(handle))
        except (OSError, ValueError) as error:
            log.error("snapshot %s cannot be read: %s", handle, error)
            text = f"expected an unharmed file of snapshot {handle}, got {error}"
            raise ProtocolError(ErrorCode.UNKNOWN_SNAPSHOT, text) from None

    def drop(self, handle: str) -> None:
        """Delete one, if it is there."""
        if self._files.pop(handle, None) is not None:
            self._path(handle).unlink(missing_ok=True)

    def close(self) -> None:
        """Finish what is being written."""
        self._thread.shutdown(wait=True)

    def _reserve(self, snapshot: Snapshot, size: int) -> None:
        if size > self._budget_bytes:
            text = f"expected a snapshot file of at most {self._budget_bytes} bytes, got {size}"
            raise ProtocolError(ErrorCode.CAPACITY, text)
        while self.used_bytes + size > self._budget_bytes:
            self.drop(next(iter(self._files)))
        self._files[snapshot.handle] = _File(snapshot.head, size)

    def _path(self, handle: str) -> Path:
        return self._folder / f"{handle}{SUFFIX}"

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


@dataclass(frozen=True)
class _File:
    head: SnapshotHead
    size: int


def _write(path: Path, data: bytes) -> None:
    """The whole file or none."""
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _mark_used(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> Snapshot:
    snapshot = _from_bytes(path.read_bytes())
    _mark_used(path)
    return snapshot


def _mark_used(path: Path) -> None:
    """The order of use outlives the server; the file system's own clock ticks too slowly to tell it."""
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns))


def _to_bytes(snapshot: Snapshot) -> bytes:
    setup, cameras, encoding = snapshot.setup
    shown = {"observation": snapshot.observation, "setup": setup.model_dump(), "cameras": cameras}
    rest = pack(shown | {"encoding": encoding})
    body_digest = hashlib.sha256(snapshot.state + rest).digest()
    body_bytes = len(snapshot.state) + len(rest)
    head = pack(asdict(snapshot.head) | {"body_bytes": body_bytes, "body_digest": body_digest})
    return MAGIC + START.pack(len(head), hashlib.sha256(head).digest()) + head + snapshot.state + rest


def _from_bytes(data: bytes) -> Snapshot:
    """Raises ValueError for everything that `_to_bytes` did not make."""
    values, start = _head_of(data)
    body = memoryview(data)[start:]
    if len(body) != values["body_bytes"]:
        raise ValueError(f"{len(body)} of {values['body_bytes']} bytes")
    if hashlib.sha256(body).digest() != values["body_digest"]:
        raise ValueError("another digest")
    head = _to_head(values)
    shown = unpack(bytes(body[head.size_bytes :]), MAX_BYTES)
    setup = Reset.model_validate(shown["setup"]), shown["cameras"], shown["encoding"]
    state = bytes(body[: head.size_bytes])
    return Snapshot(**asdict(head), state=state, observation=shown["observation"], setup=setup)


def _read_head(path: Path) -> SnapshotHead | None:
    """The head of a file; None if it is no snapshot file, or none of this version."""
    try:
        with path.open("rb") as file:
            data = file.read(len(MAGIC) + START.size)
            if len(data) == len(MAGIC) + START.size:
                data += file.read(START.unpack_from(data, len(MAGIC))[0])
        head = _to_head(_head_of(data)[0])
    except (OSError, ValueError):
        return None
    return head if path.name == f"{head.handle}{SUFFIX}" else None


def _head_of(data: bytes) -> tuple[dict[str, Any], int]:
    """The head's fields, and where the body starts."""
    start = len(MAGIC) + START.size
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise ValueError("no snapshot file of this version")
    length, digest = START.unpack_from(data, len(MAGIC))
    head = data[start : start + length]
    if hashlib.sha256(head).digest() != digest:
        raise ValueError("a harmed head")
    try:
        return unpack(head, MAX_BYTES), start + length
    except CodecError as error:
        raise ValueError(str(error)) from None


def _to_head(values: dict[str, Any]) -> SnapshotHead:
    return SnapshotHead(**{item.name: values[item.name] for item in fields(SnapshotHead)})
