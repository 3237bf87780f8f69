"""The vision policy's network, in NumPy: two cameras and four numbers in, two accelerations out.

Two towers of strided convolutions, one per camera, see the first and the last frame of the newest chunk, which tells how fast gaps close;
their features and the numbers go through three dense layers. The last one takes the numbers as they are, too: staying in an empty lane is
nearly linear in them. About 0.3 M parameters and 4 M multiplications.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import RoadloopError

CAMERAS = ("front_wide", "front_narrow")
SIZE = (48, 80)  # height, width
CONVOLUTIONS = ((6, 32, 4, 4), (32, 48, 3, 2), (48, 64, 3, 2))  # channels in and out, kernel, stride
SEEN = 1920  # features of both towers
COLUMNS = ("speed_mps", "lane_offset_m", "heading_error_rad", "speed_limit_mps")
NUMBERS = 7  # of `scaled`
OF_THE_LANE = (1, 2, 6)  # which of those are 0 for who is not told where the lane is
HIDDEN = 96
FEATURES = HIDDEN + NUMBERS  # that the last layer takes
FORMAT = "roadloop-vision-1"
Learns = Literal["last", "driving", "all"]  # the last layer; all that does not read pictures; everything


class WeightsError(RoadloopError, ValueError):
    """A file that holds no weights of this network. The message names it."""


class VisionNetwork:
    """What drives.

    Args:
        weights: by name, as `TorchNetwork.state_dict` has them.
        digest: see `digest_of`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], digest: str = "") -> None:
        self._weights, self.digest = (
            {name: value.astype(np.float32) for name, value in weights.items()},
            digest,
        )

    @classmethod
    def load(cls, path: str | Path) -> "VisionNetwork":
        """Read a safetensors file.

        Raises:
            WeightsError: no such file, not of this network, or not as it was written.
            ImportError: safetensors is not installed.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                about: Mapping[str, str] = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dictionary
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"expected weights in {path}, got {error}") from None
        if {name: value.shape for name, value in weights.items()} != SHAPES:
            raise WeightsError(f"expected the tensors {', '.join(SHAPES)} of {FORMAT} in {path}, got others")
        expected, found = about.get("digest", "none"), digest_of(weights)
        if found != expected:
            raise WeightsError(f"expected digest {expected[:16]} in {path}, got {found[:16]}: corrupted")
        return cls(weights, found)

    def __call__(self, images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """What to do.

        Args:
            images: uint8 [V, 2, H, W, 3]: of each of CAMERAS the first and the last frame of the newest chunk.
            numbers: float32 [4]: COLUMNS at its last frame; NaN for the lane's where it is to be seen.

        Returns:
            Accelerations to the left and forwards [m/s^2]: float32 [2].
        """
        towers = [self._tower(name, frames) for name, frames in zip(CAMERAS, images, strict=True)]
        seen = np.maximum(self._dense("seen", np.concatenate(towers)), 0.0)
        known = scaled(numbers)
        hidden = np.maximum(self._dense("hidden", np.concatenate([seen, known])), 0.0)
        hidden = np.maximum(self._dense("hidden2", hidden), 0.0)
        return self._dense("action", np.concatenate([hidden, known]))

    def _tower(self, camera: str, frames: np.ndarray) -> np.ndarray:
        """Features of one camera: float32 [960]."""
        values = frames.transpose(0, 3, 1, 2).reshape(-1, *SIZE).astype(np.float32) / 127.5 - 1.0
        for k in range(len(CONVOLUTIONS)):
            weight, bias = (self._weights[f"towers.{camera}.{2 * k}.{part}"] for part in ("weight", "bias"))
            values = np.maximum(_convolve(values, weight, bias, CONVOLUTIONS[k][3]), 0.0)
        return values.reshape(-1)

    def _dense(self, name: str, values: np.ndarray) -> np.ndarray:
        result: np.ndarray = self._weights[f"{name}.weight"] @ values + self._weights[f"{name}.bias"]
        return result


def digest_of(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names and values: what a file says of itself, and what who learns anew compares."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return sha.hexdigest()


def scaled(numbers: np.ndarray) -> np.ndarray:
    """The columns as the network takes them: float32 [..., 7].

    The heading error is taken times the speed: how fast the car leaves its lane; and what is left to the speed limit also as the expert goes for it,
    which is soon as fast as it likes. The scales make the expert's answer about the sum of them. The last one is 1, or 0 where the lane offset is NaN:
    then the network is not told where the lane is, and must see it.
    """
    speed, offset, heading, limit = np.moveaxis(numbers, -1, 0)
    told, left = np.isfinite(offset), limit - speed
    parts = (
        speed / 15.0,
        np.where(told, offset * 2.0, 0.0),
        np.where(told, speed * heading * 2.0, 0.0),
        limit / 15.0,
        left / 5.0,
        np.clip(left, -3.0, 1.5),
        told,
    )
    return np.stack(parts, axis=-1).astype(np.float32)


def _convolve(values: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """Convolution, padded as `margin` says: [I, H, W] with [O, I, k, k] to [O, H / stride, W / stride]."""
    kernel = weight.shape[-1]
    edge = margin(kernel, stride)
    padded = np.pad(values, ((0, 0), (edge, edge), (edge, edge)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))[
        :, ::stride, ::stride
    ]
    height, width = patches.shape[1:3]
    rows = patches.transpose(1, 2, 0, 3, 4).reshape(height * width, -1)  # [H W, I k k]
    out = rows @ weight.reshape(len(weight), -1).T + bias
    result: np.ndarray = out.T.reshape(-1, height, width)
    return result


def margin(kernel: int, stride: int) -> int:
    """Pixels of padding on every side: patches that do not overlap need none."""
    return 0 if kernel == stride else kernel // 2


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for camera in CAMERAS:
        for k, (taken, given, kernel, _) in enumerate(CONVOLUTIONS):
            shapes[f"towers.{camera}.{2 * k}.weight"] = (given, taken, kernel, kernel)
            shapes[f"towers.{camera}.{2 * k}.bias"] = (given,)
    dense = {
        "seen": (HIDDEN, SEEN),
        "hidden": (HIDDEN, HIDDEN + NUMBERS),
        "hidden2": (HIDDEN, HIDDEN),
        "action": (2, FEATURES),
    }
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


SHAPES: Mapping[str, tuple[int, ...]] = _shapes()
