"""Who drives a scene: the drivers that episodes and videos can be made with, by name."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from ..scene.actions import ActionChunk
from ..scene.clock import FRAMES_PER_CHUNK
from ..scene.expert import Expert
from ..scene.scene import Scene
from .perturbed import PerturbedExpert


class Driver(Protocol):
    """Drives one scene, chunk by chunk."""

    def act(self) -> ActionChunk:
        """The action for the next chunk of its scene."""
        ...


class Constant:
    """The same steering and acceleration for ever: a driver that looks at nothing."""

    def __init__(self, steering_rad: float = 0.0, accel_mps2: float = 0.0):
        self._values = np.tile(np.array([steering_rad, accel_mps2], np.float32), (FRAMES_PER_CHUNK, 1))

    def act(self) -> ActionChunk:
        """The constant controls."""
        return ActionChunk("controls", self._values.copy())


DRIVERS: Mapping[str, Callable[[Scene, int], Driver]] = {
    "expert": lambda scene, seed: Expert(scene),
    "perturbed": PerturbedExpert,
    "constant": lambda scene, seed: Constant(),
    "brake": lambda scene, seed: Constant(accel_mps2=-3.0),
}


def make_driver(name: str, scene: Scene, seed: int) -> Driver:
    """A driver for a scene. Raises ValueError for an unknown name; the message lists the valid ones."""
    if name not in DRIVERS:
        raise ValueError(f"expected a driver of {', '.join(DRIVERS)}, got {name!r}")
    return DRIVERS[name](scene, seed)
