"""Episodes to look at: a contact sheet of many, a video of one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..video import contact_sheet, write_mp4, write_png
from .folder import Entry, EpisodeFolder
from .shard import Shard

SHEET_COLUMNS = 4


def episode_sheet(folder: EpisodeFolder, entries: Sequence[Entry], count: int, path: Path) -> None:
    """Write a PNG with the first camera of `count` episodes, spread evenly over all, each at its middle."""
    chosen = [
        entries[k] for k in np.unique(np.linspace(0, len(entries) - 1, max(1, count)).round().astype(int))
    ]
    pictures, labels = [], []
    for entry in chosen:
        shard = Shard(folder.path / entry.file, verify=True)
        middle = len(shard) // 2
        pictures.append(shard.frames([0], middle, middle + 1)[0, 0])
        sky = shard.info.atmosphere
        labels.append(f"{entry.index} {entry.scenario} {entry.driver} {sky.weather} {sky.time_of_day}")
    write_png(path, contact_sheet(pictures, labels, min(SHEET_COLUMNS, len(pictures))))


def episode_video(folder: EpisodeFolder, entry: Entry, path: Path) -> None:
    """Write an MP4 of all cameras of one episode, and of its layout where there is one."""
    shard = Shard(folder.path / entry.file, verify=True)
    write_mp4(path, _mosaics(shard), shard.info.fps)


def _mosaics(shard: Shard) -> Iterator[np.ndarray]:
    """One picture per frame: the cameras, read a second at a time."""
    names, views = shard.info.rig.names, range(len(shard.info.rig))
    for start in range(0, len(shard), shard.info.fps):
        stop = min(start + shard.info.fps, len(shard))
        frames = shard.frames(views, start, stop)
        layouts = _layout_pictures(shard, start, stop) if shard.has_layout else frames[:0]
        for k in range(stop - start):
            columns = min(SHEET_COLUMNS, len(names))
            blanks = -len(names) % columns  # layouts begin a new row
            pictures = [*frames[:, k], *[np.zeros_like(frames[0, k])] * blanks, *layouts[:, k]]
            labels = [*names, *[""] * blanks, *(f"{name} layout" for name in names[: len(layouts)])]
            yield contact_sheet(pictures, labels, columns)


def _layout_pictures(shard: Shard, start: int, stop: int) -> np.ndarray:
    """Layouts as false colour, uint8 [V, F, H, W, 3]: edges of agents red, lanes green, depth blue."""
    layouts = shard.layouts(range(len(shard.info.rig)), start, stop)
    channels = shard.info.layout_channels

    def strongest(*names: str) -> np.ndarray:
        return np.asarray(layouts[:, :, [channels.index(name) for name in names]].max(axis=2).clip(0))

    colours = (
        strongest("vehicle_edge", "pedestrian_edge", "static_edge"),
        strongest("lane_line", "road_edge", "crossing", "stop_line"),
        strongest("inverse_depth"),
    )
    picture = (2 * np.stack(colours, axis=-1).astype(np.uint8)).repeat(shard.info.layout_stride, axis=2)
    return picture.repeat(shard.info.layout_stride, axis=3)
