"""A run as a LeRobotDataset, version 3.0, for training.

    data/chunk-000/file-000.parquet              one row per frame
    videos/observation.images.CAMERA/chunk-000/file-000.mp4
    meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet

A row is a frame and the action that leads to the next one, so the last frame of a rollout has none. Pictures come from the logs of the run (`--mcap`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RoadloopError
from ..extras import need
from ..observation import decode_image
from ..protocol.replies import EGO_COLUMNS
from .column_stats import pooled, statistics
from .lerobot_info import (
    CHECKS,
    DATA,
    DATA_MB,
    FILES_PER_CHUNK,
    STATE,
    VIDEO,
    VIDEO_MB,
    dataset_info,
    tasks_table,
)
from .results import Result, RunFolder
from .stats import scored
from .trace import Trace
from .video import write_mp4

SAMPLES = 64  # frames of an episode whose pixels are measured


class DatasetError(RoadloopError, ValueError):
    """A run that cannot become a dataset."""


@dataclass(frozen=True)
class Episode:
    """One rollout: its rows and the log with its pictures."""

    result: Result
    trace: Trace
    log: Path

    @property
    def length(self) -> int:
        """Rows: frames that an action follows."""
        return len(self.trace.ego) - 1

    @property
    def space(self) -> str:
        """The action space."""
        return str(self.trace.about["spaces"][0])

    @property
    def task(self) -> str:
        """What it was asked to do."""
        return self.result.scenario.replace("_", " ")

    def columns(self) -> dict[str, np.ndarray]:
        """Features without pictures: [length, ...]."""
        trace, count = self.trace, self.length
        state = [trace.ego[:count, EGO_COLUMNS.index(name)] for name in STATE]
        state += [trace.frames[name][:count] for name in CHECKS]
        ends = np.arange(1, count + 1) % trace.actions.shape[1] == 0
        reward = np.where(ends, np.repeat(trace.reward, trace.actions.shape[1]), 0.0)
        last = np.arange(count) == count - 1
        return {
            "observation.state": np.stack(state, axis=1).astype(np.float32),
            "action": trace.actions.reshape(-1, trace.actions.shape[2]),
            "next.reward": reward.astype(np.float32),
            "next.done": last & (trace.about["outcome"] != "running"),
            "next.success": last & (trace.about["outcome"] == "success"),
        }


def write_dataset(folder: RunFolder, out: Path) -> int:
    """Write the rollouts that have scores and logs; returns how many.

    Raises:
        DatasetError: no such rollouts, several action spaces or camera sets, or `out` is not empty.
        MissingExtraError: without the extra `eval`.
    """
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"expected an empty folder, got {out}")
    episodes = _episodes(folder)
    cameras = {camera["name"]: camera for camera in episodes[0].trace.about["cameras"]}
    fps = 1.0 / episodes[0].trace.dt_s
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    starts = np.cumsum([0, *(episode.length for episode in episodes)])
    rows: list[dict[str, Any]] = [
        {
            "episode_index": index,
            "tasks": [episode.task],
            "length": episode.length,
            "dataset_from_index": int(starts[index]),
            "dataset_to_index": int(starts[index + 1]),
        }
        for index, episode in enumerate(episodes)
    ]
    _write_data(out, episodes, rows, tasks, fps)
    stats: list[dict[str, dict[str, list[Any]]]] = [{} for _ in episodes]
    for name in cameras:
        _write_videos(out, name, episodes, rows, stats, fps)
    for episode, row, stat in zip(episodes, rows, stats, strict=True):
        stat |= _stats_of_rows(episode, row, tasks, fps)
        row |= {f"stats/{key}/{name}": value for key, each in stat.items() for name, value in each.items()}
    _write_meta(out, episodes, rows, stats, tasks, fps, cameras)
    return len(episodes)


def _episodes(folder: RunFolder) -> list[Episode]:
    found = []
    for result in scored(folder.ordered()):
        if (log := folder.log_path(result.key)).exists():
            found.append(Episode(result, folder.trace(result.key), log))
    found = [episode for episode in found if episode.length > 0]
    if not found:
        raise DatasetError(f"expected a run with pictures, got none in {folder.path}: run it with --mcap")
    for what, values in {
        "action space": {space for episode in found for space in episode.trace.about["spaces"]},
        "set of cameras": {json.dumps(episode.trace.about["cameras"]) for episode in found},
    }.items():
        if len(values) > 1:
            raise DatasetError(f"expected one {what} in a dataset, got {len(values)}")
    return found


# Rows ---------------------------------------------------------------------------------------------------------------


def _write_data(
    out: Path, episodes: Sequence[Episode], rows: list[dict[str, Any]], tasks: list[str], fps: float
) -> None:
    """The frames; a new file begins with the episode that would make one too large."""
    parquet = need("pyarrow.parquet", "eval", "LeRobot datasets")
    writer, size, files = None, 0, 0
    for episode, row in zip(episodes, rows, strict=True):
        table = _table(episode, row, tasks, fps)
        if writer is None or size + table.nbytes > DATA_MB << 20:
            if writer is not None:
                writer.close()
            path = out / DATA.format(**_place(files))
            path.parent.mkdir(parents=True, exist_ok=True)
            writer, size, files = parquet.ParquetWriter(path, table.schema), 0, files + 1
        writer.write_table(table)
        size += table.nbytes
        row |= {f"data/{name}": value for name, value in _place(files - 1).items()}
    if writer is not None:
        writer.close()


def _table(episode: Episode, row: dict[str, Any], tasks: list[str], fps: float) -> Any:
    pyarrow = need("pyarrow", "eval", "LeRobot datasets")
    columns = {**episode.columns(), **_indices(episode, row, tasks, fps)}
    return pyarrow.table({name: _array(pyarrow, values) for name, values in columns.items()})


def _indices(episode: Episode, row: dict[str, Any], tasks: list[str], fps: float) -> dict[str, np.ndarray]:
    frames = np.arange(episode.length)
    return {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(episode.length, row["episode_index"]),
        "index": frames + row["dataset_from_index"],
        "task_index": np.full(episode.length, tasks.index(episode.task)),
    }


def _array(pyarrow: Any, values: np.ndarray) -> Any:
    flat = pyarrow.array(values.reshape(-1))
    return (
        flat
        if values.ndim == 1
        else pyarrow.FixedSizeListArray.from_arrays(flat, type=pyarrow.list_(flat.type, values.shape[1]))
    )


# Pictures -----------------------------------------------------------------------------------------------------------


def _write_videos(
    out: Path,
    camera: str,
    episodes: Sequence[Episode],
    rows: list[dict[str, Any]],
    stats: list[dict[str, Any]],
    fps: float,
) -> None:
    """All episodes of a camera one behind the other; a new file begins when their pictures weigh enough."""
    key, files, at = f"observation.images.{camera}", 0, 0
    while at < len(episodes):
        count, weight = 0, 0
        while at + count < len(episodes) and (not count or weight < VIDEO_MB << 20):
            weight += episodes[at + count].log.stat().st_size
            count += 1
        path = out / VIDEO.format(video_key=key, **_place(files))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(
            path, _frames(camera, episodes[at : at + count], stats[at : at + count], key), fps, crf=18, gop=2
        )
        frame = 0
        for episode, row in zip(episodes[at : at + count], rows[at : at + count], strict=True):
            row |= {f"videos/{key}/{name}": value for name, value in _place(files).items()}
            row |= {
                f"videos/{key}/from_timestamp": frame / fps,
                f"videos/{key}/to_timestamp": (frame + episode.length) / fps,
            }
            frame += episode.length
        at, files = at + count, files + 1


def _frames(
    camera: str, episodes: Sequence[Episode], stats: list[dict[str, Any]], key: str
) -> Iterator[np.ndarray]:
    """Pictures in order; on the way the pixels of some are measured."""
    for episode, stat in zip(episodes, stats, strict=True):
        wanted = set(
            np.linspace(0, episode.length - 1, min(SAMPLES, episode.length)).round().astype(int).tolist()
        )
        sample = []
        for k, picture in enumerate(_pictures(episode, camera)):
            if k in wanted:
                sample.append(picture[::4, ::4].reshape(-1, 3) / 255.0)
            yield picture
        measured = statistics(np.concatenate(sample))
        stat[key] = {
            name: [len(sample)] if name == "count" else [[[value]] for value in values]
            for name, values in measured.items()
        }


def _pictures(episode: Episode, camera: str) -> Iterator[np.ndarray]:
    reader = need("mcap.reader", "eval", "LeRobot datasets")
    image = need("foxglove_schemas_protobuf.CompressedImage_pb2", "eval", "LeRobot datasets").CompressedImage
    with episode.log.open("rb") as file:
        messages = reader.make_reader(file).iter_messages(topics=[f"/camera/{camera}/image"])
        for k, (_, _, message) in enumerate(messages):
            if k == episode.length:
                return
            yield decode_image(image.FromString(message.data).data)


# What describes it --------------------------------------------------------------------------------------------------


def _stats_of_rows(episode: Episode, row: dict[str, Any], tasks: list[str], fps: float) -> dict[str, Any]:
    columns = {**episode.columns(), **_indices(episode, row, tasks, fps)}
    return {name: statistics(values) for name, values in columns.items()}


def _write_meta(
    out: Path,
    episodes: Sequence[Episode],
    rows: list[dict[str, Any]],
    stats: list[dict[str, Any]],
    tasks: list[str],
    fps: float,
    cameras: dict[str, dict[str, Any]],
) -> None:
    pyarrow = need("pyarrow", "eval", "LeRobot datasets")
    parquet = need("pyarrow.parquet", "eval", "LeRobot datasets")
    meta = out / "meta"
    path = meta / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    placed = [row | {f"meta/episodes/{name}": value for name, value in _place(0).items()} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(placed), path)
    parquet.write_table(tasks_table(pyarrow, tasks), meta / "tasks.parquet")
    whole = {key: pooled([stat[key] for stat in stats]) for key in stats[0]}
    (meta / "stats.json").write_text(json.dumps(whole, indent=4))
    info = dataset_info([episode.length for episode in episodes], tasks, cameras, episodes[0].space, fps)
    (meta / "info.json").write_text(json.dumps(info, indent=4))


def _place(file: int) -> dict[str, int]:
    """Which file of which chunk."""
    return {"chunk_index": file // FILES_PER_CHUNK, "file_index": file % FILES_PER_CHUNK}
