"""A driver that is mostly right: the expert with disturbances, so that data shows mistakes and how to recover."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..scene.actions import ActionChunk
from ..scene.clock import CHUNK_DT_S
from ..scene.ego import EGO_LIMITS
from ..scene.expert import DriverStyle, Expert
from ..scene.scene import Scene

_CALM_S = (1.0, 5.0)
_DISTURBED_S = (0.7, 3.0)
_LOW = np.array([-EGO_LIMITS.steering_rad, -EGO_LIMITS.brake_mps2], np.float32)
_HIGH = np.array([EGO_LIMITS.steering_rad, EGO_LIMITS.accel_mps2], np.float32)


@dataclass(frozen=True)
class Disturbance:
    """How a driver differs from the expert for a while."""

    style: DriverStyle = field(default_factory=DriverStyle)
    steering_rad: float = 0.0  # added to the expert's
    accel_mps2: float = 0.0


CALM = Disturbance()


def _style(**changes: float | bool) -> Disturbance:
    return Disturbance(replace(CALM.style, **changes))  # type: ignore[arg-type]


DISTURBANCES: Mapping[str, Callable[[np.random.Generator], Disturbance]] = {
    "drift": lambda draw: Disturbance(steering_rad=draw.normal(0.0, 0.02)),
    "swerve": lambda draw: Disturbance(steering_rad=draw.choice([-1, 1]) * draw.uniform(0.03, 0.08)),
    "beside the line": lambda draw: _style(offset_m=draw.uniform(-1.8, 1.8)),
    "speeding": lambda draw: _style(speed_share=draw.uniform(1.1, 1.4)),
    "dawdling": lambda draw: _style(speed_share=draw.uniform(0.1, 0.7)),
    "braking": lambda draw: Disturbance(accel_mps2=-draw.uniform(2.0, 7.0)),
    "blind": lambda draw: _style(sees=False),
}


class PerturbedExpert:
    """The expert, disturbed now and then by one of `DISTURBANCES`; in between it drives well, from wherever that has
    brought it.

    Args:
        scene: what it drives.
        seed: decides which disturbances, and when.
    """

    def __init__(self, scene: Scene, seed: int):
        self._draw = np.random.default_rng((seed, 1))
        self._expert = Expert(scene, CALM.style)
        self._now, self._left_s = CALM, self._draw.uniform(*_CALM_S)

    def act(self) -> ActionChunk:
        """Controls for the next chunk."""
        if self._left_s <= 0.0:
            self._next_phase()
        self._left_s -= CHUNK_DT_S
        added = np.array([self._now.steering_rad, self._now.accel_mps2], np.float32)
        return ActionChunk("controls", np.clip(self._expert.act().values + added, _LOW, _HIGH))

    def _next_phase(self) -> None:
        """From calm to a disturbance, or back."""
        if self._now is CALM:
            chosen = list(DISTURBANCES)[int(self._draw.integers(len(DISTURBANCES)))]
            self._now, self._left_s = DISTURBANCES[chosen](self._draw), self._draw.uniform(*_DISTURBED_S)
        else:
            self._now, self._left_s = CALM, self._draw.uniform(*_CALM_S)
        self._expert.style = self._now.style
