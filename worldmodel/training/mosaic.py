"""Pictures of what a run makes, to be looked at."""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor


def write_mosaic(path: Path, images: Tensor | np.ndarray) -> None:
    """Write a grid of images as PNG.

    Args:
        path: where to.
        images: [rows, columns, H, W, 3] RGB, uint8 or float in [0, 1].
    """
    pixels = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    if pixels.dtype != np.uint8:
        pixels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    rows, columns, height, width, _ = pixels.shape
    sheet = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise OSError(f"could not write {path}")
