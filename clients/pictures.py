"""Pictures in other sizes, with whichever of opencv and pillow is installed."""

import numpy as np


def shrink(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A smaller picture whose pixels are means of the areas that they cover: uint8 [h, w, 3]."""
    if picture.shape[:2] == size:
        return picture
    try:
        import cv2
    except ImportError:
        from PIL import Image

        return np.array(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BOX))
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA))
