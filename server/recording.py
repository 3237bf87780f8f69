"""Recordings: an append-only log of what happened to a session, from which it can be run again.

A file is a sequence of records: 4 bytes length, 4 bytes CRC-32 (both little-endian), then a msgpack map. The first is the
header, one `reset`, `chunk` or `restore` record follows per operation. Frames are kept as digests unless asked for. A file that was cut
anywhere is readable up to the cut.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from clients.protocol import CodecError, pack, unpack

MAGIC = b"RLREC\x00\x01\n"
HEADER = struct.Struct("<II")
MAX_RECORD_BYTES = 1 << 28


class RecordingError(ValueError):
    """A file that is not a recording of this version."""


class Recorder:
    """Appends records; each is flushed, so that a crash loses at most the one being written."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: BinaryIO = path.open("xb")
        self._file.write(MAGIC)
        self.write({"kind": "header", **header})

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        body = pack(record)
        self._file.write(HEADER.pack(len(body), zlib.crc32(body)) + body)
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read_recording(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, up to the end or to where it was cut.

    Raises:
        RecordingError: not a recording, or a record that was changed.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise RecordingError(f"expected a recording, got {path.name}")
        while len(header := file.read(HEADER.size)) == HEADER.size:
            size, crc = HEADER.unpack(header)
            body = file.read(size) if size <= MAX_RECORD_BYTES else b""
            if len(body) < size:
                return
            if zlib.crc32(body) != crc:
                raise RecordingError(
                    f"expected an unharmed record at byte {file.tell() - size}, got a wrong checksum"
                )
            try:
                yield unpack(body, MAX_RECORD_BYTES)
            except CodecError as error:
                raise RecordingError(str(error)) from None


def frame_digest(frames: dict[str, list[bytes]]) -> str:
    """SHA-256 over all encoded images, by camera in order."""
    digest = hashlib.sha256()
    for name, images in frames.items():
        digest.update(name.encode() + b"\0")
        for image in images:
            digest.update(len(image).to_bytes(4, "little") + image)
    return digest.hexdigest()
