"""Clips: a few frames of some cameras with everything that conditions them, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..rig import Rig
from ..scene.state import Atmosphere
from .episode import LAYOUT_SCALE, Episode, EpisodeInfo
from .shard import Shard


@dataclass(frozen=True)
class Clip:
    """F frames in a row, seen by V cameras. Row k of `pose_deltas` and `actions` led to frame k."""

    frames: Tensor  # uint8 [V, F, H, W, 3] RGB
    pose_deltas: Tensor  # float32 [F, 3]: dx [m], dy [m], dyaw [rad]
    actions: Tensor  # float32 [F, A]
    layouts: Tensor | None  # int8 [V, F, C, h, w], 127 is 1; see `layout_values`
    depth_m: Tensor | None  # float32 [V, F, h, w]
    rig: Rig  # the cameras of the clip, in its order
    atmosphere: Atmosphere
    scenario: str
    seed: int
    start: int  # frame of the episode at which the clip begins

    def layout_values(self) -> Tensor:
        """Layouts as the model takes them, float32 [V, F, C, h, w] in -1..1. Raises ValueError without layouts."""
        if self.layouts is None:
            raise ValueError("expected a clip with layouts, got one without")
        return self.layouts.float() / LAYOUT_SCALE


def shard_clip(shard: Shard, start: int, frames: int, cameras: Sequence[str] | None = None) -> Clip:
    """A clip of an episode on disk; only its own pictures are read and decoded.

    Args:
        shard: the episode.
        start: first frame.
        frames: how many.
        cameras: names, in the order wanted; None is all.
    """
    views, stop = _views(shard.info, cameras), start + frames
    return _clip(
        shard.info,
        views,
        start,
        shard.frames(views, start, stop),
        shard.pose_deltas[start:stop],
        shard.actions[start:stop],
        shard.layouts(views, start, stop) if shard.has_layout else None,
        shard.depth_m(views, start, stop) if shard.has_layout else None,
    )


def episode_clip(episode: Episode, start: int, frames: int, cameras: Sequence[str] | None = None) -> Clip:
    """A clip of an episode in memory; see `shard_clip`."""
    views, stop = _views(episode.info, cameras), start + frames
    if not 0 <= start < stop <= len(episode):
        raise IndexError(f"expected frames within 0..{len(episode)}, got {start}..{stop}")
    return _clip(
        episode.info,
        views,
        start,
        episode.frames[views, start:stop],
        episode.pose_deltas[start:stop],
        episode.actions[start:stop],
        None if episode.layouts is None else episode.layouts[views, start:stop],
        None if episode.depth_m is None else episode.depth_m[views, start:stop],
    )


def _views(info: EpisodeInfo, cameras: Sequence[str] | None) -> list[int]:
    names = info.rig.names
    chosen = names if cameras is None else cameras
    for name in chosen:
        if name not in names:
            raise KeyError(f"expected cameras of {', '.join(names)}, got {name!r}")
    return [names.index(name) for name in chosen]


def _clip(
    info: EpisodeInfo,
    views: Sequence[int],
    start: int,
    frames: np.ndarray,
    pose_deltas: np.ndarray,
    actions: np.ndarray,
    layouts: np.ndarray | None,
    depth_m: np.ndarray | None,
) -> Clip:
    return Clip(
        frames=torch.from_numpy(frames),
        pose_deltas=torch.from_numpy(pose_deltas.copy()),
        actions=torch.from_numpy(actions.copy()),
        layouts=None if layouts is None else torch.from_numpy(layouts),
        depth_m=None if depth_m is None else torch.from_numpy(depth_m.astype(np.float32)),
        rig=info.rig.subset([info.rig.names[view] for view in views]),
        atmosphere=info.atmosphere,
        scenario=info.scenario,
        seed=info.seed,
        start=start,
    )
