"""From images in [0, 1] to what is kept and what is sent."""

import numpy as np
from torch import Tensor

from .first_images import resized


def to_frames(pictures: Tensor, size: tuple[int, int] | None) -> np.ndarray:
    """[1, V, F, 3, H, W] in [0, 1] -> uint8 [1, V, F, H, W, 3], at (height, width) if a size is given."""
    if size is not None:
        pictures = resized(pictures, size)
    return to_bytes(pictures).movedim(3, -1).cpu().numpy()


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8."""
    return (images * 255).round_().byte()
