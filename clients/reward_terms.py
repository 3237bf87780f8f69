"""What a reward can be made of: one number per term and chunk.

The terms of one chunk, whose frames are 1..F and whose last frame before is 0; dt is the time between frames:

| term | formula |
|---|---|
| `progress_m` | route_progress_F - route_progress_0 |
| `completion` | route_completion_F - route_completion_0 |
| `collision`, `collision_at_fault`, `off_road`, `red_light`, `wrong_way` | 1 if it holds in any frame, else 0 |
| `close_call` | share of frames with ttc <= 1 s (the bound of NAVSIM) |
| `lane_offset_m` | mean abs(lane_offset) |
| `heading_error_rad` | mean abs(heading_error) |
| `overspeed_mps` | mean max(0, speed - speed_limit) |
| `speed_mps` | mean speed |
| `accel_mps2` | mean abs(accel) |
| `jerk_mps3` | mean abs(accel_k - accel_(k-1)) / dt |
| `lateral_accel_mps2` | mean abs(speed * yaw_rate) |
| `steering_rate_radps` | mean abs(steering_k - steering_(k-1)) / dt |
| `standing` | share of frames with abs(speed) < 0.1 m/s |
| `success`, `failure` | 1 in the chunk with which the server ends the episode so |
| `step` | 1 |
"""

from collections.abc import Callable, Mapping

import numpy as np

from .observation import Observation
from .protocol.replies import EGO_COLUMNS

CLOSE_CALL_S = 1.0
STANDING_MPS = 0.1


class ChunkFrames:
    """The columns of a chunk, and those of the frame before it."""

    def __init__(self, seen: Observation, dt_s: float, before: "ChunkFrames | None" = None) -> None:
        self.seen, self.dt_s = seen, dt_s
        self.count = len(seen.ego_frames)
        self._last = (before or self)._values_at_end()

    def ego(self, column: str) -> np.ndarray:
        """float64 [F]."""
        return np.asarray(self.seen.ego_frames[:, EGO_COLUMNS.index(column)])

    def check(self, name: str) -> np.ndarray:
        """One driving check: [F]."""
        return np.asarray(self.seen.metrics[name])

    def collided(self, whoever: bool) -> np.ndarray:
        """bool [F]."""
        if whoever:
            return np.array([other is not None for other in self.seen.metrics["collision_with"]])
        return self.check("collision_at_fault")

    def gain(self, name: str) -> float:
        """How much a check grew over the chunk."""
        return float(self.check(name)[-1]) - self._last[name]

    def rate(self, column: str) -> float:
        """Mean absolute change per second of an ego column."""
        values = np.concatenate([[self._last[column]], self.ego(column)])
        return float(np.abs(np.diff(values)).mean()) / self.dt_s

    def outcome(self) -> str:
        """The server's verdict so far."""
        return getattr(self.seen, "outcome", "running")

    def _values_at_end(self) -> dict[str, float]:
        ego = dict(zip(EGO_COLUMNS, self.seen.ego_frames[-1].tolist(), strict=True))
        return ego | {
            name: float(self.seen.metrics[name][-1]) for name in ("route_progress_m", "route_completion")
        }


def _any(name: str) -> Callable[[ChunkFrames], float]:
    return lambda chunk: float(chunk.check(name).any())


TERMS: Mapping[str, Callable[[ChunkFrames], float]] = {
    "progress_m": lambda chunk: chunk.gain("route_progress_m"),
    "completion": lambda chunk: chunk.gain("route_completion"),
    "collision": lambda chunk: float(chunk.collided(whoever=True).any()),
    "collision_at_fault": _any("collision_at_fault"),
    "off_road": _any("off_road"),
    "red_light": _any("red_light"),
    "wrong_way": _any("wrong_way"),
    "close_call": lambda chunk: float((chunk.check("ttc_s") <= CLOSE_CALL_S).mean()),
    "lane_offset_m": lambda chunk: float(np.abs(chunk.check("lane_offset_m")).mean()),
    "heading_error_rad": lambda chunk: float(np.abs(chunk.check("heading_error_rad")).mean()),
    "overspeed_mps": lambda chunk: float(
        np.maximum(0.0, chunk.ego("speed_mps") - chunk.check("speed_limit_mps")).mean()
    ),
    "speed_mps": lambda chunk: float(chunk.ego("speed_mps").mean()),
    "accel_mps2": lambda chunk: float(np.abs(chunk.ego("accel_mps2")).mean()),
    "jerk_mps3": lambda chunk: chunk.rate("accel_mps2"),
    "lateral_accel_mps2": lambda chunk: float(
        np.abs(chunk.ego("speed_mps") * chunk.ego("yaw_rate_radps")).mean()
    ),
    "steering_rate_radps": lambda chunk: chunk.rate("steering_rad"),
    "standing": lambda chunk: float((np.abs(chunk.ego("speed_mps")) < STANDING_MPS).mean()),
    "success": lambda chunk: float(chunk.outcome() == "success"),
    "failure": lambda chunk: float(chunk.outcome() == "failure"),
    "step": lambda chunk: 1.0,
}
