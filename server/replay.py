"""Run a recording again, without a server, and compare every chunk: frames, ego, gate decisions."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.engine import (
    ActionChunk,
    ChunkResult,
    EngineError,
    OpenRequest,
    SessionId,
    SessionOptions,
    WorldEngine,
)
from worldmodel.rig import load_rig

from .encode import encode_camera
from .engines import EngineChoice, build_engine, camera_dicts
from .lineage import Record, lineage, read_header
from .observe import observe
from .recording import RecordingError, frame_digest


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


@dataclass(frozen=True)
class Moment:
    """One opening or chunk of a recording, made again."""

    record: Record
    result: ChunkResult
    cameras: list[dict[str, Any]]  # as on the wire
    encoding: str
    frames: dict[str, list[bytes]]  # as recorded
    difference: str | None  # from what was recorded


class Refused(RuntimeError):
    """The engine refused a recorded action."""


def replay(path: Path, engine: WorldEngine | None = None, device: str | None = None) -> ReplayReport:
    """Compare a recording with what its engine makes now, up to the first difference.

    Args:
        path: a recording. One of a fork needs the recording that it branched from beside it.
        engine: instead of the recorded one.
        device: instead of the recorded one's.

    Raises:
        RecordingError: no recording, or none of this engine and model.
    """
    count = 0
    try:
        for moment in moments(path, engine, device):
            count += moment.record["kind"] == "chunk"
            if moment.difference is not None:
                return ReplayReport(count, moment.difference)
    except Refused as refused:
        return ReplayReport(count, str(refused))
    return ReplayReport(count)


def moments(path: Path, engine: WorldEngine | None = None, device: str | None = None) -> Iterator[Moment]:
    """Every opening and chunk again, in the order in which they happened; restores and tiers are followed on the way.

    Raises:
        RecordingError: as `replay`.
        Refused: the engine refused an action.
    """
    header = read_header(path)
    player = _Player(engine or _build(header, device), header, _wanted(path))
    for record in lineage(path):
        moment = player.follow(record)
        if moment is not None:
            yield moment


class _Player:
    """An engine with the one session that the records speak of."""

    def __init__(self, engine: WorldEngine, header: Record, wanted: set[str]) -> None:
        found = getattr(engine, "state_version", "")
        if found != header["model_digest"]:
            raise RecordingError(f"expected model {header['model_digest']!r} as recorded, got {found!r}")
        self._engine, self._encoding, self._wanted = engine, header["encoding"], wanted
        self._session: SessionId | None = None
        self._cameras: list[dict[str, Any]] = []
        self._kept: dict[str, bytes] = {}  # handle -> state
        self._newest: int | None = None  # how many of each camera's newest frames the driver got

    def follow(self, record: Record) -> Moment | None:
        """Do what was done; a moment if there is something to see."""
        if record["kind"] == "reset":
            return self._open(record)
        if record["kind"] == "restore":
            self._restore(record)
        elif self._session is None:
            raise RecordingError(f"expected a reset or a restore first, got {record['kind']}")
        elif record["kind"] == "chunk":
            return self._step(self._session, record)
        elif record["kind"] == "tier":
            self._engine.set_tier(self._session, record["tier"])
        elif record["kind"] == "snapshot" and record["handle"] in self._wanted:
            self._kept[record["handle"]] = self._engine.snapshot(self._session)
        return None

    def _open(self, record: Record) -> Moment:
        options, self._newest = record["options"], record.get("newest_frames")
        cameras = options["cameras"]
        chosen = SessionOptions(**options | {"cameras": tuple(cameras) if cameras else None})
        request = OpenRequest(record["scenario"], record["rig"], record["seed"], chosen)
        result = self._engine.open(request)
        rig = load_rig(record["rig"])
        rig = (rig.subset(cameras) if cameras else rig).scaled(*result.frames.shape[2:4])
        self._stand_in(result.session, camera_dicts(rig))
        return self._moment(record, result)

    def _restore(self, record: Record) -> None:
        self._encoding, self._newest = record["encoding"], record.get("newest_frames")
        if "state" in record:
            state = record["state"]
            if hashlib.sha256(state).hexdigest() != record["digest"]:
                raise RecordingError(f"expected a state of digest {record['digest']}, got another one")
        elif record["handle"] in self._kept:
            state = self._kept[record["handle"]]
        else:
            raise RecordingError(f"expected snapshot {record['handle']} before its restore, got none")
        self._stand_in(self._engine.restore(state), record["cameras"])

    def _step(self, session: SessionId, record: Record) -> Moment:
        action = ActionChunk(record["space"], record["actions"])
        result = self._engine.step({session: action})[session]
        if not isinstance(result, ChunkResult):
            raise Refused(f"chunk {record['chunk']} was refused: {result}")
        return self._moment(record, result)

    def _stand_in(self, session: SessionId, cameras: list[dict[str, Any]]) -> None:
        if self._session is not None:
            self._engine.close(self._session)
        self._session, self._cameras = session, cameras

    def _moment(self, record: Record, result: ChunkResult) -> Moment:
        frames = {
            camera["name"]: encode_camera(result.frames[view], self._encoding)
            for view, camera in enumerate(self._cameras)
        }
        seen = {name: images[-(self._newest or 0) :] for name, images in frames.items()}
        difference = _difference(record, result, seen)
        return Moment(record, result, self._cameras, self._encoding, frames, difference)


def _wanted(path: Path) -> set[str]:
    """Snapshots that the recording comes back to, so that no others need to be taken."""
    return {r["handle"] for r in lineage(path) if r["kind"] == "restore" and "state" not in r}


def _build(header: Record, device: str | None) -> WorldEngine:
    choice = header.get("choice", {"name": header["engine"]})
    try:
        return build_engine(EngineChoice(**choice | ({"device": device} if device else {})))
    except EngineError as error:
        raise RecordingError(str(error)) from None


def _difference(record: Record, result: ChunkResult, frames: Mapping[str, list[bytes]]) -> str | None:
    seen, where = observe(result), f"chunk {result.chunk} differs in its"
    if result.chunk != record.get("chunk", -1):
        return f"chunk {record['chunk']} was recorded where chunk {result.chunk} comes"
    if frame_digest(dict(frames)) != record["frame_digest"]:
        return f"{where} frames"
    if "ego" in record and not np.array_equal(seen["ego"], record["ego"]):
        return f"{where} ego"
    if record.get("cache") is not None and not _decided_alike(seen["cache"], record["cache"]):
        return f"{where} cache decisions"
    return None


def _decided_alike(seen: Mapping[str, Any] | None, recorded: Mapping[str, Any]) -> bool:
    """Whether the same blocks were computed for the same reasons; the times spent on deciding differ from run to run."""
    return seen is not None and np.array_equal(seen["reason"], recorded["reason"])
