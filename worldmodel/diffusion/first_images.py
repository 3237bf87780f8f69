"""Pictures in and out at any size: a user's images as first frames, frames at the size that is asked for."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..engine import EngineError
from ..rig import Rig

SMALLEST_PX = 16
ASPECT_TOLERANCE = 0.02  # relative: a picture cut from another shape has other intrinsics than the rig says


def checked_images(images: Mapping[str, np.ndarray], rig: Rig, height: int, width: int) -> np.ndarray:
    """First images at the model's size.

    Args:
        images: by camera name, one for every camera of the rig: uint8 [H, W, 3] RGB of any size, of the whole view
            that the rig's intrinsics describe.
        rig: the cameras that took them, at any resolution of the same shape.
        height, width: of the model. Shrinking averages areas, enlarging is bilinear; the rig's intrinsics scale along.

    Returns:
        uint8 [V, height, width, 3], in the rig's order.

    Raises:
        EngineError: cameras missing or unknown, not uint8 RGB, smaller than 16 pixels, or of another shape than the
            camera's view.
    """
    if set(images) != set(rig.names):
        raise EngineError(f"expected images of {', '.join(rig.names)}, got {', '.join(images) or 'none'}")
    for camera in rig.cameras:
        shape = (camera.width / camera.fx) / (
            camera.height / camera.fy
        )  # whatever size the rig was scaled to
        _check(images[camera.name], camera.name, shape)
    return np.stack([_fitted(images[name], height, width) for name in rig.names])


def resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """[..., 3, H, W] -> [..., 3, *size], bilinear; smoothed first where it shrinks."""
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    flat = pictures.flatten(0, -4)
    shrinks = size[0] < pictures.shape[-2] or size[1] < pictures.shape[-1]
    fitted = F.interpolate(flat, size, mode="bilinear", align_corners=False, antialias=shrinks)
    return fitted.clamp(0, 1).unflatten(0, pictures.shape[:-3])


def _check(image: np.ndarray, name: str, aspect: float) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise EngineError(f"expected an image uint8 [H, W, 3] RGB of {name}, got {got}")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_PX:
        raise EngineError(
            f"expected an image of at least {SMALLEST_PX} pixels of {name}, got {height}x{width}"
        )
    if abs(width / height / aspect - 1) > ASPECT_TOLERANCE:
        raise EngineError(
            f"expected an image of {name} {aspect:.3f} times as wide as high, like the rig's camera, got {height}x{width}"
        )


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    shrinks = image.shape[0] > height or image.shape[1] > width
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)
