"""Episodes -> clips ready to train on: unpacked once, encoded once."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..data.episode import Episode
from ..data.folder import EpisodeFolder
from ..data.shard import Shard
from ..data.tables import tables_to_frames
from ..model.config import FRAMES
from ..model.road_users import user_boxes
from .clips import Clip, ClipArrays, write_clip

MIN_LATENTS = 9  # shorter episodes teach little about the past


def cache_episodes(
    episodes: Path, clips: Path, longest: int, on_clip: Callable[[Clip], None] = lambda clip: None
) -> int:
    """Unpack episodes that are not there yet; an episode is cut into clips of at most `longest` latent frames.

    Args:
        episodes: a data folder, complete or still growing.
        clips: where clips go, one folder each.
        longest: latent frames per clip.
        on_clip: called with every new clip.

    Returns:
        How many new clips there are.
    """
    count = 0
    for entry in EpisodeFolder(episodes).entries():
        spans = _spans((entry.frames - 1) // FRAMES, longest)
        names = [f"{entry.index:06d}_{start:04d}" for start, _ in spans]
        if all((clips / name / "clip.json").exists() for name in names):
            continue
        episode = Shard(episodes / entry.file).load()
        for name, span in zip(names, spans, strict=True):
            on_clip(unpack(episode, span, clips / name))
            count += 1
    return count


def unpack(episode: Episode, span: tuple[int, int], folder: Path) -> Clip:
    """Write latent frames span[0] to span[1] - 1 of an episode as a clip."""
    images = slice(FRAMES * span[0], FRAMES * span[1] + 1)
    if episode.layouts is None or episode.depth_m is None:
        raise ValueError("expected an episode with layout, got one without: build the data with layout")
    arrays = ClipArrays(
        layout=np.ascontiguousarray(episode.layouts[:, images].swapaxes(0, 1)),
        depth=np.ascontiguousarray(episode.depth_m[:, images].swapaxes(0, 1)),
        deltas=episode.pose_deltas[images][1:],
        boxes=np.stack([user_boxes(frame) for frame in tables_to_frames(episode.tables)[images]]),
        frames=np.ascontiguousarray(episode.frames[:, images].swapaxes(0, 1)),
    )
    info = episode.info
    notes = {
        "scenario": info.scenario,
        "group": info.group,
        "seed": info.seed,
        "driver": info.driver,
        "layout_channels": list(info.layout_channels),
    }
    return write_clip(folder, arrays, info.rig, info.atmosphere, notes)


def _spans(latents: int, longest: int) -> list[tuple[int, int]]:
    """Cut into pieces of equal size, none longer than allowed; nothing where there is too little."""
    if latents < MIN_LATENTS:
        return []
    pieces = -(-latents // longest)
    edges = np.linspace(0, latents, pieces + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]
