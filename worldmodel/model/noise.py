"""Counter-based Gaussian noise: a pure function of what it is for, never of what was drawn before.

Drawn on the host with Philox (Salmon et al. 2011, as in numpy), so CPU and CUDA runs start from the same bits and a
session's noise does not depend on which other sessions share its batch, nor on which other cameras it has.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def chunk_noise(seed: int, cycle: int, cameras: Sequence[str], shape: tuple[int, int, int]) -> Tensor:
    """Noise of one KV cycle of one session.

    Args:
        seed: the session's seed.
        cycle: index of the KV cycle; all chunks of a cycle start from the same noise.
        cameras: names of the cameras; each has its own stream.
        shape: channels, rows and columns of a latent frame.

    Returns:
        float32 [V, C, h, w] on the CPU.
    """
    streams = [camera_noise(seed, cycle, camera, shape) for camera in cameras]
    return torch.from_numpy(np.stack(streams))


@lru_cache(maxsize=256)  # the chunks of a cycle ask for the same
def camera_noise(seed: int, cycle: int, camera: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Noise of one camera in one cycle, read-only float32 [C, h, w]. The element index is the counter's fourth coordinate."""
    mask = (1 << 64) - 1
    key = [seed & mask, zlib.crc32(camera.encode())]
    # The low word counts within the stream; the higher words separate cycles.
    bits = np.random.Philox(key=key, counter=[0, cycle & mask, 0, 0])
    noise = np.random.Generator(bits).standard_normal(shape, dtype=np.float32)
    noise.flags.writeable = False
    return noise
