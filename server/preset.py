"""What this machine should run when nobody says: the engine, where it runs, and the words for it."""

import ctypes
import os
from dataclasses import dataclass

from .weights import shipped_weights


@dataclass(frozen=True)
class Preset:
    """Arguments of `roadloop serve`, and why these."""

    engine: str  # that sessions have unless they ask
    workers: tuple[str, ...]
    words: str


def choose_preset(engine: str | None = None, device: str | None = None) -> Preset:
    """A GPU where there is one, the world model where its weights are; what is given stays.

    Args:
        engine: as of `roadloop serve`.
        device: `cpu` or `cuda`.
    """
    gpu = None if device == "cpu" else gpu_name()
    place = (
        f"GPU 0 ({gpu})" if gpu else "the CPU" if device == "cpu" else "the CPU (no CUDA device was found)"
    )
    workers = "cuda:0" if gpu or device == "cuda" else "cpu:1"
    if engine is not None:
        return Preset(engine, (workers,), f"engine {engine} on {place}")
    if weights := shipped_weights():
        both = (f"worldmodel={workers}", "reference=cpu:1")  # the second one to compare with
        return Preset("worldmodel", both, f"engine worldmodel ({', '.join(weights)}) on {place}")
    return Preset(
        "reference", (workers,), f"engine reference (no weights of the world model are here) on {place}"
    )


def gpu_name() -> str | None:
    """The first CUDA device that torch can use, or None."""
    try:
        ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return None  # no driver: importing torch, which takes seconds, would tell no more
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
