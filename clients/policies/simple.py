"""Policies that look at nothing, or hardly anything: the floor that every other policy has to beat."""

import numpy as np

from ..observation import Observation
from ..protocol.requests import ActionSpaceName
from .policy import EpisodeInfo


class Idle:
    """No command: rolls on, straight ahead, at the speed it has."""

    space: ActionSpaceName = "controls"

    def reset(self, info: EpisodeInfo) -> None:
        """Nothing to forget."""

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [2], zeros."""
        return np.zeros(2, np.float32)


class Stop(Idle):
    """Brakes until it stands, then stays.

    Args:
        brake_mps2: deceleration.
    """

    def __init__(self, brake_mps2: float = 3.0) -> None:
        self.brake_mps2 = float(brake_mps2)

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [2]: just enough to stand at the end of the chunk, at most the full deceleration."""
        return np.array([0.0, np.clip(-3.0 * seen.ego["speed_mps"], -self.brake_mps2, 0.0)], np.float32)


class Constant(Idle):
    """The same controls in every frame.

    Args:
        steering: front-wheel angle, left positive [rad].
        accel: acceleration [m/s^2].
    """

    def __init__(self, steering: float = 0.0, accel: float = 0.0) -> None:
        self.action = np.array([steering, accel], np.float32)

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [2]."""
        return self.action.copy()


class ConstantSpeed(Idle):
    """Straight ahead at one speed.

    Args:
        speed_mps: the speed; None keeps that of the start.
    """

    def __init__(self, speed_mps: float | None = None) -> None:
        self.speed_mps = speed_mps
        self._wanted_mps = speed_mps

    def reset(self, info: EpisodeInfo) -> None:
        """Forget the start speed."""
        self._wanted_mps = self.speed_mps

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [2]."""
        speed = seen.ego["speed_mps"]
        if self._wanted_mps is None:
            self._wanted_mps = speed
        return np.array([0.0, np.clip(1.5 * (self._wanted_mps - speed), -3.0, 2.0)], np.float32)


class Random:
    """Uniform noise within the bounds of the action space, other noise in every frame.

    Args:
        scale: share of the bounds.
        space: the action space.
        seed: added to the episode's.
    """

    def __init__(self, scale: float = 1.0, space: ActionSpaceName = "controls", seed: int = 0) -> None:
        self.scale, self.space, self.seed = float(scale), space, int(seed)

    def reset(self, info: EpisodeInfo) -> None:
        """Start the noise of this episode."""
        bounds = info.action_spaces[self.space]
        self._low, self._high = (self.scale * np.array(ends) for ends in (bounds.low, bounds.high))
        self._rows = info.frames_per_chunk
        self._rng = np.random.default_rng([self.seed, info.policy_seed, len(info.past)])

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [F, A]."""
        shape = self._rows, len(self._low)
        return self._rng.uniform(self._low, self._high, shape).astype(np.float32)
