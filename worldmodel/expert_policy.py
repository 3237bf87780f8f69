"""The expert as a policy for the evaluation harness: `roadloop eval --policy expert`.

The expert sees the whole scene, which no server tells its clients. But a session is a pure function of (scenario, seed, actions), so the policy
runs the scene a second time beside the server's, and looks into that one.
"""

from typing import Any

import numpy as np

from .scene.actions import ACTION_SPACES, ActionChunk
from .scene.expert import DriverStyle, Expert
from .scene.idm import IdmParameters
from .scene.scenario import load_scenario
from .scene.scene import Scene

_SAME_M = 1e-6


class ExpertPolicy:
    """Drives like `Expert`, with as much noise as asked for.

    Args:
        noise: standard deviation of what is added to steering and acceleration of each chunk, as a share of their bounds.
        speed_share: wanted speed, as a share of the limit.
        headway_s: distance to the vehicle ahead, in time; None is the expert's own.
        offset_m: left of the reference path.
        sees: False notices nobody.
    """

    space = "controls"

    def __init__(
        self,
        noise: float = 0.0,
        speed_share: float = DriverStyle.speed_share,
        headway_s: float | None = None,
        offset_m: float = 0.0,
        sees: bool = True,
    ):
        careful = DriverStyle().idm
        idm = IdmParameters(**{**vars(careful), "headway_s": headway_s or careful.headway_s})
        self.noise, self.style = float(noise), DriverStyle(idm, speed_share, offset_m, sees)

    def reset(self, info: Any) -> None:
        """Open the same scene (`clients.policies.EpisodeInfo`) and drive what was driven before."""
        self._scene = Scene(load_scenario(info.scenario), info.seed)
        self._expert = Expert(self._scene, self.style)
        self._rng = np.random.default_rng([info.policy_seed, len(info.past)])
        for past in info.past:
            self._scene.step(ActionChunk(past.space, past.values))

    def act(self, seen: Any) -> np.ndarray:
        """float32 [F, 2]: steering and acceleration for the next chunk.

        Raises:
            RuntimeError: the server's world is another one: another version, or a scenario that is not from here.
        """
        ego, here = seen.ego, self._scene.frame.ego
        if np.hypot(ego["x_m"] - here.x_m, ego["y_m"] - here.y_m) > _SAME_M:
            raise RuntimeError(
                f"expected the server's ego at ({here.x_m:.3f}, {here.y_m:.3f}), got ({ego['x_m']:.3f}, {ego['y_m']:.3f}): "
                "the expert needs a server with the same scenarios and version"
            )
        values = self._noisy(self._expert.act().values)
        self._scene.step(ActionChunk("controls", values))
        return values

    def _noisy(self, values: np.ndarray) -> np.ndarray:
        if not self.noise:
            return values
        space = ACTION_SPACES["controls"]
        low, high = np.array(space.low, np.float32), np.array(space.high, np.float32)
        shift = self._rng.normal(0.0, self.noise, 2).astype(np.float32) * (high - low) / 2
        return np.clip(values + shift, low, high)
