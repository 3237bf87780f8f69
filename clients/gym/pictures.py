"""Pictures of observations: newest frames, resized and stacked, and all cameras on one sheet."""

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from ..observation import Observation
from ..pictures import shrink
from ..protocol import Camera


class FrameStack:
    """The newest frames of every camera.

    Args:
        cameras: names.
        count: frames to keep of each.
        size: (height, width) to resize to; None keeps the camera's.
    """

    def __init__(self, cameras: Sequence[str], count: int, size: tuple[int, int] | None) -> None:
        self._count, self._size = count, size
        self._frames: dict[str, deque[np.ndarray]] = {name: deque(maxlen=count) for name in cameras}

    def begin(self, seen: Observation) -> None:
        """Start with an opening frame, which stands for those before it too."""
        for name, frames in self._frames.items():
            frames.extend([self._picture(seen, name, -1)] * self._count)

    def push(self, seen: Observation) -> None:
        """Take in the frames of a chunk; those that are not wanted are never decoded."""
        for name, frames in self._frames.items():
            newest = min(self._count, len(seen.frames[name]))
            frames.extend(self._picture(seen, name, index) for index in range(-newest, 0))

    def write(self, out: Mapping[str, np.ndarray]) -> None:
        """Copy into `image_<camera>`: uint8 [H, W, 3 * count], oldest frame first."""
        for name, frames in self._frames.items():
            np.concatenate(frames, axis=2, out=out[f"image_{name}"])

    def _picture(self, seen: Observation, camera: str, index: int) -> np.ndarray:
        picture = seen.image(camera, index)
        return picture if self._size is None else shrink(picture, self._size)


def mosaic(seen: Observation) -> np.ndarray:
    """The newest frames of all cameras on one sheet, as they look out of the car: uint8 [H, W, 3].

    The upper row looks ahead, the lower one back; what looks left is left.
    """
    ahead = [camera for camera in seen.cameras.values() if math.cos(camera.yaw_rad) > 1e-6]
    behind = [camera for camera in seen.cameras.values() if camera not in ahead]
    rows = [_row(seen, cameras) for cameras in (ahead, behind) if cameras]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_padded(row, width) for row in rows])


def _row(seen: Observation, cameras: Sequence[Camera]) -> np.ndarray:
    """Pictures of one row from left to right, aligned at the top."""
    ordered = sorted(cameras, key=lambda camera: -math.sin(camera.yaw_rad))
    height = max(camera.height for camera in ordered)
    pictures = [seen.image(camera.name) for camera in ordered]
    return np.concatenate([np.pad(p, ((0, height - len(p)), (0, 0), (0, 0))) for p in pictures], axis=1)


def _padded(row: np.ndarray, width: int) -> np.ndarray:
    """The row in the middle of a black one."""
    gap = width - row.shape[1]
    return np.pad(row, ((0, 0), (gap // 2, gap - gap // 2), (0, 0)))
