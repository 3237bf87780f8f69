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
    encode = ENCODERS[encoding]
    return [encode(frame) for frame in frames]


def _jpeg(frame: np.ndarray) -> bytes:
    return _with_opencv(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _png(frame: np.ndarray) -> bytes:
    return _with_opencv(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _raw(frame: np.ndarray) -> bytes:
    return frame.tobytes()


def _with_opencv(suffix: str, frame: np.ndarray, options: list[int]) -> bytes:
    done, buffer = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"expected a picture that {suffix} can hold, got shape {frame.shape}")
    return buffer.tobytes()


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {"jpeg": _jpeg, "png": _png, "raw": _raw}
