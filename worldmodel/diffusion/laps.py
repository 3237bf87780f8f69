"""How long the stages of a chunk take."""

import time

import torch


class Laps:
    """Milliseconds between laps, by name."""

    def __init__(self, laps: dict[str, float], device: torch.device) -> None:
        self._laps, self._device, self._start = laps, device, time.perf_counter()

    def lap(self, name: str) -> None:
        """End the present lap."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._laps[name] = (now - self._start) * 1e3
        self._start = now
