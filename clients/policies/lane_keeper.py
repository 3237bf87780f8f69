"""A driver of a few lines that looks at no picture: keeps to the lane, the speed limit and its distance.

It sees where it stands on its route (offset, heading error) and everybody around it, but neither the bend ahead nor the lights. What it
fails at is what looking ahead is for.
"""

import numpy as np

from ..observation import Observation
from ..protocol.replies import AGENT_COLUMNS
from ..protocol.requests import ActionSpaceName
from .policy import EpisodeInfo

WHEELBASE_M, FRONT_M = 2.8, 3.75  # the front bumper, from the rear axle
STEERING_RAD, BRAKE_MPS2, ACCEL_MPS2 = 0.5, 6.0, 2.0
LATERAL_MPS2 = 2.5  # in bends
CORRIDOR_M = 1.3  # half of the width that must be free
X, Y, YAW, SPEED, LENGTH, WIDTH = (
    AGENT_COLUMNS.index(name) for name in ("x_m", "y_m", "yaw_rad", "speed_mps", "length_m", "width_m")
)


class LaneKeeper:
    """Stanley's steering law with the curvature felt so far, and the intelligent driver model.

    Sources: Hoffmann et al. 2007; Treiber, Hennecke and Helbing 2000.

    Args:
        speed_share: wanted speed, as a share of the limit.
        headway_s: distance to the vehicle ahead, in time.
        gain: of the lateral offset.
        sees: False notices nobody.
    """

    space: ActionSpaceName = "controls"

    def __init__(
        self, speed_share: float = 0.9, headway_s: float = 1.5, gain: float = 0.8, sees: bool = True
    ) -> None:
        self.speed_share, self.headway_s, self.gain, self.sees = speed_share, headway_s, gain, sees

    def reset(self, info: EpisodeInfo) -> None:
        """Forget the road."""
        self._rows, self._dt_s = info.frames_per_chunk, info.dt_s
        self._curvature_per_m = 0.0

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [F, 2]: the law at every frame of the chunk, on where the car will be by then."""
        self._feel(seen)
        offset, heading = (float(seen.metrics[name][-1]) for name in ("lane_offset_m", "heading_error_rad"))
        speed = max(seen.ego["speed_mps"], 0.0)
        accel = self._acceleration(seen, speed)
        rows = []
        for _ in range(self._rows):
            steering = self._steering(offset, heading, speed)
            rows.append((steering, accel))
            speed = max(0.0, speed + accel * self._dt_s)
            turned = np.tan(steering) / WHEELBASE_M - self._curvature_per_m
            offset += speed * np.sin(heading) * self._dt_s
            heading += speed * turned * self._dt_s
        return np.array(rows, np.float32)

    def _feel(self, seen: Observation) -> None:
        """The curvature of the route here: the car's own turning less its turning against the route."""
        error = np.unwrap(np.asarray(seen.metrics["heading_error_rad"], np.float64))
        speed, rate = seen.ego["speed_mps"], seen.ego["yaw_rate_radps"]
        if len(error) < 2 or speed < 1.0:
            return
        felt = (rate - (error[-1] - error[-2]) / self._dt_s) / speed
        self._curvature_per_m = 0.5 * self._curvature_per_m + 0.5 * float(np.clip(felt, -0.2, 0.2))

    def _steering(self, offset: float, heading: float, speed: float) -> float:
        bend = np.arctan(WHEELBASE_M * self._curvature_per_m)
        back = np.arctan(self.gain * offset / (speed + 2.0))
        return float(np.clip(bend - heading - back, -STEERING_RAD, STEERING_RAD))

    def _acceleration(self, seen: Observation, speed: float) -> float:
        limit = self.speed_share * float(seen.metrics["speed_limit_mps"][-1])
        wanted = max(1.0, min(limit, np.sqrt(LATERAL_MPS2 / max(abs(self._curvature_per_m), 1e-4))))
        free = 1.5 * (1.0 - (speed / wanted) ** 4)
        gap, closing = self._leader(seen, speed) if self.sees else (np.inf, 0.0)
        safe = 2.5 + max(0.0, speed * self.headway_s + speed * closing / (2.0 * np.sqrt(1.5 * 2.5)))
        return float(np.clip(free - 1.5 * (safe / max(gap, 0.1)) ** 2, -BRAKE_MPS2, ACCEL_MPS2))

    def _leader(self, seen: Observation, speed: float) -> tuple[float, float]:
        """Free way to whoever is next on the arc that the car is on, and how fast it closes."""
        ego, agents = seen.ego, np.asarray(seen.agents, np.float64)
        if not len(agents):
            return np.inf, 0.0
        dx, dy = agents[:, X] - ego["x_m"], agents[:, Y] - ego["y_m"]
        cos, sin = np.cos(ego["yaw_rad"]), np.sin(ego["yaw_rad"])
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        aside = np.abs(left - 0.5 * self._curvature_per_m * ahead**2)
        turned = agents[:, YAW] - ego["yaw_rad"] - self._curvature_per_m * ahead
        half_length = (
            np.abs(np.cos(turned)) * agents[:, LENGTH] / 2 + np.abs(np.sin(turned)) * agents[:, WIDTH] / 2
        )
        half_width = (
            np.abs(np.sin(turned)) * agents[:, LENGTH] / 2 + np.abs(np.cos(turned)) * agents[:, WIDTH] / 2
        )
        gap = ahead - half_length - FRONT_M
        gap[(aside > CORRIDOR_M + half_width) | (ahead < FRONT_M)] = np.inf
        nearest = int(gap.argmin())
        return float(gap[nearest]), float(speed - agents[nearest, SPEED] * np.cos(turned[nearest]))
