"""A recording as files that others open: a video (MP4), or a log with pictures, poses and actions (MCAP, Foxglove's schemas).

Recordings hold digests, not pictures: an export runs the recording again, and says if what comes out is not what was recorded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.eval.mcap_log import write_log
from clients.eval.mosaic import mosaic_frames
from clients.eval.trace import TraceRecorder
from clients.eval.video import write_mp4
from clients.observation import Observation, StepResult
from clients.protocol import CacheTelemetry, Camera
from clients.protocol.replies import EGO_COLUMNS
from worldmodel.engine import FPS, FRAME_DT_S, WorldEngine

from .lineage import Record, lineage, read_header
from .observe import observe
from .recording import RecordingError
from .replay import Moment, moments

FORMATS = ("mp4", "mcap")
X, Y = EGO_COLUMNS.index("x_m"), EGO_COLUMNS.index("y_m")


@dataclass
class Exported:
    """What came of an export."""

    frames: int = 0
    difference: str | None = None  # the first chunk that is not as it was recorded


def export(
    path: Path,
    target: Path,
    to: str = "mp4",
    camera: str | None = None,
    engine: WorldEngine | None = None,
    device: str | None = None,
) -> Exported:
    """Write a recording as a video or a log; the file is there as a whole or not at all.

    Args:
        path: a recording; those that it branched from lie beside it.
        target: file to write.
        to: `mp4` or `mcap`.
        camera: of the video; None is a mosaic of all with the scene from above.
        engine: instead of the recorded one.
        device: instead of the recorded one's.

    Raises:
        RecordingError: as `replay`; also for one without a world.
        ValueError: another format, no such camera.
        MissingExtraError: the libraries of the extra `eval` are not installed.
    """
    if to not in FORMATS:
        raise ValueError(f"expected a format of {', '.join(FORMATS)}, got {to!r}")
    exported = Exported()
    seen = _observations(path, engine, device, exported)
    if to == "mp4":
        exported.frames = write_mp4(target, _pictures(seen, camera), FPS)
    else:
        recorder = _retell(seen, path)
        write_log(target, recorder, recorder.trace())
        exported.frames = sum(len(each.ego_frames) for each in recorder.pictures)
    return exported


def _observations(
    path: Path, engine: WorldEngine | None, device: str | None, exported: Exported
) -> Iterator[tuple[Record, Observation]]:
    """Every record that shows something, with what it showed: the opening (one frame) first."""
    first = next(lineage(path), None)
    if first is None:
        raise RecordingError(f"expected a world in {path.name}, got none")
    if first["kind"] == "restore":
        yield first, _before(first)
    for moment in moments(path, engine, device):
        exported.difference = exported.difference or moment.difference
        yield moment.record, _observation(moment)


def _before(restore: Record) -> Observation:
    """What was seen last before the recording began with a restore."""
    seen = {**restore["seen"], "cameras": restore["cameras"], "encoding": restore["encoding"]}
    return Observation(session="", chunk=restore["next_chunk"] - 1, **_fields(seen))


def _observation(moment: Moment) -> Observation:
    seen = observe(moment.result)
    values = _fields(
        {**seen, "frames": moment.frames, "cameras": moment.cameras, "encoding": moment.encoding}
    )
    cache = None if seen["cache"] is None else CacheTelemetry.model_validate(seen["cache"])
    values |= {"outcome": seen["outcome"], "cache": cache, "timing": dict(moment.result.timings_ms)}
    if moment.record["kind"] != "chunk":
        return Observation(session="", chunk=-1, **values)
    reward = float(moment.record["reward"])
    return StepResult(session="", chunk=moment.result.chunk, reward=reward, reason=seen["reason"], **values)


def _fields(seen: dict[str, Any]) -> dict[str, Any]:
    return {
        "cameras": {camera["name"]: Camera(**camera) for camera in seen["cameras"]},
        "encoding": seen["encoding"],
        "frames": seen["frames"],
        "ego_frames": seen["ego"],
        "agents": seen["agents"],
        "agent_kinds": seen["agent_kinds"],
        "metrics": {"free_drive_m": [], **seen["metrics"]},  # engines without a route tell none
    }


def _pictures(seen: Iterator[tuple[Record, Observation]], camera: str | None) -> Iterator[np.ndarray]:
    """Frames of the video, uint8 [H, W, 3], one chunk in memory at a time."""
    trail: list[Sequence[float]] = []
    last = -2
    for _, each in seen:
        if camera is not None:
            yield from _one(each, camera)
            continue
        if each.chunk <= last:  # the session went back
            trail.clear()
        last = each.chunk
        trail += each.ego_frames[:, [X, Y]].tolist()
        yield from mosaic_frames(each, np.array(trail))


def _one(seen: Observation, camera: str) -> np.ndarray:
    if camera not in seen.frames:
        raise ValueError(f"expected a camera of {', '.join(seen.frames)}, got {camera!r}")
    return seen.decode(camera)


def _retell(seen: Iterator[tuple[Record, Observation]], path: Path) -> TraceRecorder:
    """The recording as a rollout of the evaluation harness, whose writer makes the log."""
    opening, first = next(seen)
    header = read_header(path)
    about = {name: header[name] for name in ("session", "engine", "model_digest", "determinism")}
    about |= {name: opening[name] for name in ("scenario", "seed", "rig") if name in opening}
    recorder = TraceRecorder(first, about | {"dt_s": FRAME_DT_S}, keep_pictures=True)
    for record, each in seen:
        assert isinstance(each, StepResult)
        recorder.add(record["space"], record["actions"], each, np.nan, np.nan)
    return recorder
