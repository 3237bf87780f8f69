"""Band-limited noise that repeats without a seam: the grain of the ground, of clouds and of leaves."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def tile(seed: int, shape: tuple[int, int], low: float, high: float, falloff: float = 1.0) -> np.ndarray:
    """Periodic noise with energy between two frequencies.

    Args:
        seed: which noise.
        shape: rows, columns.
        low: lowest frequency, in cycles per tile (of the longer side).
        high: highest frequency.
        falloff: amplitude goes with frequency to the power of minus this.

    Returns:
        float32, zero mean, unit deviation.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    longest = max(shape)
    rows = np.fft.fftfreq(shape[0]) * longest
    columns = np.fft.rfftfreq(shape[1]) * longest
    frequency = np.hypot(rows[:, None], columns[None])
    band = (frequency >= low) & (frequency <= high)
    spectrum *= np.where(band, np.maximum(frequency, 1e-6) ** -falloff, 0.0)
    noise = np.fft.irfft2(spectrum, s=shape)
    unit: np.ndarray = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return unit
