"""Run a recording again, without a server, and compare every chunk: frames, ego, gate decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.engine import ActionChunk, ChunkResult, OpenRequest, SessionOptions, WorldEngine
from worldmodel.rig import load_rig

from .encode import encode_camera
from .engines import EngineChoice, build_engine
from .observe import observe
from .recording import RecordingError, frame_digest, read_recording


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found."""

    chunks: int
    difference: str | None = None  # the first chunk that differs, and how

    @property
    def same(self) -> bool:
        """Whether every recorded chunk came out again."""
        return self.difference is None

    def __str__(self) -> str:
        return f"{self.chunks} chunks replayed, " + (self.difference or "all as recorded")


def replay(path: Path, engine: WorldEngine | None = None) -> ReplayReport:
    """Compare a recording with what its engine makes now, up to the first difference.

    Raises:
        RecordingError: no recording, or one that starts or goes on from a snapshot, which only its server had.
    """
    records = read_recording(path)
    header = next(records, {"engine": "nothing"})
    engine = engine or build_engine(EngineChoice(header["engine"]))
    opened = next(records, None)
    if opened is None or opened["kind"] != "reset":
        raise RecordingError(
            "expected a reset after the header, got " + ("nothing" if opened is None else opened["kind"])
        )
    result, cameras = _open(engine, opened)
    count, difference = 0, _compare(result, opened, cameras, header["encoding"])
    for record in records:
        if record["kind"] != "chunk":
            raise RecordingError(f"expected chunks from one reset, got {record['kind']} after {count} chunks")
        if difference is not None:
            break
        action = ActionChunk(record["space"], record["actions"])
        stepped = engine.step({result.session: action})[result.session]
        if not isinstance(stepped, ChunkResult):
            return ReplayReport(count, f"chunk {record['chunk']} was refused: {stepped}")
        difference, count = _compare(stepped, record, cameras, header["encoding"]), count + 1
    return ReplayReport(count, difference)


def _open(engine: WorldEngine, record: dict[str, Any]) -> tuple[ChunkResult, list[str]]:
    options = record["options"]
    cameras = options["cameras"]
    chosen = SessionOptions(**options | {"cameras": tuple(cameras) if cameras else None})
    result = engine.open(OpenRequest(record["scenario"], record["rig"], record["seed"], chosen))
    return result, list(cameras or load_rig(record["rig"]).names)


def _compare(result: ChunkResult, record: dict[str, Any], cameras: list[str], encoding: str) -> str | None:
    frames = {name: encode_camera(result.frames[view], encoding) for view, name in enumerate(cameras)}
    seen, where = observe(result), f"chunk {result.chunk} differs in its"
    if frame_digest(frames) != record["frame_digest"]:
        return f"{where} frames"
    if "ego" in record and not np.array_equal(seen["ego"], record["ego"]):
        return f"{where} ego"
    if record.get("cache") is not None and not _decided_alike(seen["cache"], record["cache"]):
        return f"{where} cache decisions"
    return None


def _decided_alike(seen: Mapping[str, Any] | None, recorded: Mapping[str, Any]) -> bool:
    """Whether the same blocks were computed for the same reasons; the times spent on deciding differ from run to run."""
    return seen is not None and np.array_equal(seen["reason"], recorded["reason"])
