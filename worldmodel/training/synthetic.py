"""A world that needs no renderer: a striped plane under a plain sky, driven over. For tests and for trying out a run."""

from pathlib import Path

import numpy as np
import torch

from ..model.config import FRAMES, RASTER_STRIDE
from ..model.rays import CameraTensors, ground_depth
from ..model.road_users import COLUMNS
from ..rig import Rig
from ..scene.state import Atmosphere
from .clips import Clip, ClipArrays, write_clip

CHANNELS = 3  # ground, and two phases anchored in the world


def write_synthetic_clips(folder: Path, rig: Rig, count: int, latents: int, seed: int = 0) -> list[Clip]:
    """Drive over stripes, each clip with its own speed and turn."""
    rng = np.random.default_rng(seed)
    return [
        write_clip(
            folder / f"{index:05d}", drive(rig, latents, rng), rig, Atmosphere(), {"scenario": "stripes"}
        )
        for index in range(count)
    ]


def drive(rig: Rig, latents: int, rng: np.random.Generator) -> ClipArrays:
    """One clip at constant speed and yaw rate."""
    count = FRAMES * latents
    speed, turn = rng.uniform(0.3, 1.5), rng.uniform(-0.04, 0.04)
    deltas = np.tile(np.array([speed, 0.0, turn], np.float32), (count, 1))
    poses = np.zeros((count + 1, 3))
    for k, (dx, _, dyaw) in enumerate(deltas):
        x, y, yaw = poses[k]
        poses[k + 1] = x + dx * np.cos(yaw), y + dx * np.sin(yaw), yaw + dyaw
    poses[:, :2] += rng.uniform(-50, 50, 2)
    fine, coarse = (_seen(rig, poses, stride) for stride in (1, RASTER_STRIDE))
    layout = np.stack([coarse[0], *coarse[1]], axis=2)
    frames = np.stack(
        [0.5 + 0.5 * fine[1][0] * fine[0], 0.6 * fine[0] + 0.2, 0.5 + 0.5 * fine[1][1] * fine[0]], axis=-1
    )
    return ClipArrays(
        layout=np.rint(layout * 127).astype(np.int8),
        depth=coarse[2].clip(0, 60000).astype(np.float16),
        deltas=deltas,
        boxes=np.full((count + 1, 1, COLUMNS), -1, np.float32),  # nobody
        frames=_bytes(frames),
    )


def _seen(rig: Rig, poses: np.ndarray, stride: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Ground mask, two stripe phases and distance, each [F, V, h, w]."""
    cameras = CameraTensors.from_rig(
        rig.scaled(rig.height * RASTER_STRIDE // stride, rig.width * RASTER_STRIDE // stride)
    )
    depth = torch.nan_to_num(ground_depth(cameras), posinf=1e6)
    points = (cameras.position[:, None, None] + depth[..., None] * cameras.rays).double().numpy()
    cos, sin = np.cos(poses[:, 2])[:, None, None, None], np.sin(poses[:, 2])[:, None, None, None]
    x = poses[:, 0, None, None, None] + cos * points[..., 0] - sin * points[..., 1]
    y = poses[:, 1, None, None, None] + sin * points[..., 0] + cos * points[..., 1]
    distance = np.broadcast_to(depth.numpy(), x.shape)
    ground = (distance < 60).astype(np.float64)
    fade = np.clip(1 - distance / 60, 0, 1)  # stripes too fine to be seen fade out
    return ground, [np.sin(0.8 * x) * fade, np.sin(0.8 * y) * fade], distance


def _bytes(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255).round().astype(np.uint8)
