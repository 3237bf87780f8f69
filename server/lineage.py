"""The records that lead to a recording's last chunk: its own, after those of the recording that it branched from."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .recording import RecordingError, read_recording

MAX_BRANCHES = 64  # of branches of branches

Record = dict[str, Any]


def read_header(path: Path) -> Record:
    """What a file says about itself. Raises RecordingError."""
    header = next(read_recording(path), None)
    if header is None or header.get("kind") != "header":
        raise RecordingError(f"expected a recording with a header, got {path.name}")
    return header


def lineage(path: Path, limit: int | None = None, depth: int = 0) -> Iterator[Record]:
    """All records but headers, from the first reset or restore on.

    Args:
        path: a recording; those that it branched from lie beside it.
        limit: how many of the file's own records count.
        depth: how many branches led here.

    Raises:
        RecordingError: no recording, or one whose origin is missing or too short.
    """
    if depth > MAX_BRANCHES:
        raise RecordingError(f"expected at most {MAX_BRANCHES} branches of branches, got more at {path.name}")
    count = 0
    for record in islice(read_recording(path), 1, None if limit is None else limit + 1):
        count += 1
        if record["kind"] == "fork":
            yield from lineage(_origin(path, record["of"]), record["records"], depth + 1)
        else:
            yield record
    if limit is not None and count < limit:
        raise RecordingError(f"expected {limit} records in {path.name}, which a fork began from, got {count}")


def _origin(path: Path, name: str) -> Path:
    origin = path.with_name(Path(name).name)
    if not origin.is_file():
        raise RecordingError(f"expected {origin.name} beside {path.name}, which branched from it")
    return origin
