"""The bare warp: one true moment, moved to where the ego is by exact motion and exact depth. What a model must beat."""

import numpy as np
import torch

from ..model.config import RASTER_STRIDE
from ..model.rays import CameraTensors
from ..model.reproject import reproject
from ..rig import Rig


def bare_warp(
    images: torch.Tensor, source_depth_m: torch.Tensor, depth_m: torch.Tensor, poses: np.ndarray, rig: Rig
) -> torch.Tensor:
    """Warp a moment of all cameras into later ones; what nobody saw then keeps the old picture.

    Args:
        images: uint8 [V, H, W, 3].
        source_depth_m: [V, H, W] along each pixel's ray, at that moment.
        depth_m: [F, V, H, W] at the later ones.
        poses: [F, 3] later ego poses (x, y, yaw) in the ego frame of that moment.
        rig: the cameras, at the size of the images.

    Returns:
        float32 0..255, [V, F, H, W, 3].
    """
    # Camera tensors are made at raster resolution; four times the size makes that the pictures' own.
    cameras = CameraTensors.from_rig(rig.scaled(rig.height * RASTER_STRIDE, rig.width * RASTER_STRIDE))
    source = images.movedim(-1, 1).float() / 255
    warped = reproject(
        source[None],
        source_depth_m[None],
        depth_m.transpose(0, 1)[None],
        torch.from_numpy(np.asarray(poses, np.float32))[None],
        CameraTensors.stack([cameras]),
    )[0]  # V F 4 H W
    colour, valid = warped[:, :, :3], warped[:, :, 3:]
    return ((colour + (1 - valid) * source[:, None]) * 255).movedim(2, -1)
