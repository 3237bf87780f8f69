"""Snapshots: one scene at one time, and what both renderers need of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene.state import EgoState, SceneFrame
from worldmodel.scene.world import StaticWorld

from . import faces
from .faces import Faces
from .pairs import FARTHEST_M
from .structure_faces import signal_faces, structure_faces
from .weak_cache import WeakCache

_static_faces: WeakCache[Faces] = WeakCache()
# Lights of a group change together, so there are few combinations of their states.
_signal_faces: WeakCache[Faces] = WeakCache(keep=16)


def standing_faces(world: StaticWorld, frame: SceneFrame) -> Faces:
    """Structures and traffic lights near the ego at one time."""
    static = _static_faces.get(world, "faces", lambda: structure_faces(world))
    ego = np.array([frame.ego.x_m, frame.ego.y_m], dtype=np.float32)
    near = (np.abs(static.corners[:, :, :2] - ego).min(axis=1) < FARTHEST_M).all(axis=1)
    signals = _signal_faces.get(world, frame.lights, lambda: signal_faces(world.lights, frame.lights))
    return faces.concat([static.select(near), signals])


def pose_tensor(egos: Sequence[EgoState], device: torch.device) -> Tensor:
    """float32 [N, 4]: x, y, cos yaw, sin yaw."""
    rows = [[ego.x_m, ego.y_m, np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)] for ego in egos]
    return torch.tensor(np.array(rows).reshape(-1, 4), dtype=torch.float32, device=device)


@dataclass(frozen=True)
class Run:
    """Neighbouring snapshots, `rows` of a block, of one world."""

    world: StaticWorld
    rows: slice


def runs_of(worlds: Sequence[StaticWorld], keys: Sequence[object] | None = None) -> Iterator[Run]:
    """Cut a block where the world (or the key) changes."""
    start = 0
    for k in range(1, len(worlds) + 1):
        same = k < len(worlds) and worlds[k] is worlds[start] and (keys is None or keys[k] == keys[start])
        if not same:
            yield Run(worlds[start], slice(start, k))
            start = k
