"""Frames to bytes, once. JPEG (quality 90, 4:2:0), PNG, or the raw pixels."""

from collections.abc import Callable

import cv2
import numpy as np

JPEG_QUALITY = 90


def encode_camera(frames: np.ndarray, encoding: str) -> list[bytes]:
    """The F images of one camera, oldest first.

    Args:
        frames: uint8 [F, H, W, 3] RGB.
        encoding: `jpeg`, `png` or `raw`.
    """
    return ENCODERS[encoding](frames)


def _jpeg(frames: np.ndarray) -> list[bytes]:
    return _with_opencv(".jpg", frames, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _png(frames: np.ndarray) -> list[bytes]:
    return _with_opencv(".png", frames, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _raw(frames: np.ndarray) -> list[bytes]:
    return [frame.tobytes() for frame in frames]


def _with_opencv(suffix: str, frames: np.ndarray, options: list[int]) -> list[bytes]:
    count, height, width, _ = frames.shape
    column = frames.reshape(
        count * height, width, 3
    )  # each call waits for the interpreter: few calls, not many
    bgr = cv2.cvtColor(column, cv2.COLOR_RGB2BGR).reshape(frames.shape)
    return [_image(suffix, picture, options) for picture in bgr]


def _image(suffix: str, picture: np.ndarray, options: list[int]) -> bytes:
    done, buffer = cv2.imencode(suffix, picture, options)
    if not done:
        raise ValueError(f"expected a picture that {suffix} can hold, got shape {picture.shape}")
    return buffer.tobytes()


ENCODERS: dict[str, Callable[[np.ndarray], list[bytes]]] = {"jpeg": _jpeg, "png": _png, "raw": _raw}
