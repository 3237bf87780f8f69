"""The vector environment as the network knows the world: pictures and numbers in, accelerations out, eased as `policies.vision` drives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from .accelerations import HIGH, LOW, eased, to_controls
from .network import CAMERAS, COLUMNS, NUMBERS, SIZE, scaled

MOVING = ("steering_rad", "accel_mps2")  # where commands start from: actions are eased from there
NEEDED: Mapping[str, Any] = {  # of `DriveConfig`
    "cameras": list(CAMERAS),
    "image_size": SIZE,
    "frame_stack": 4,  # of which the first and the last are looked at
    "ego": (*COLUMNS, *MOVING),
    "space": "controls",
    "rows": "each",
}


class Accelerating(VecEnvWrapper):
    """Worlds that are driven by accelerations (see `accelerations`), and seen as the network sees them.

    Args:
        venv: a `DriveVecEnv` made with NEEDED, perhaps wrapped.
        reward_scale: rewards are multiplied by this.
    """

    def __init__(self, venv: VecEnv, reward_scale: float = 1.0) -> None:
        images = spaces.Box(0, 255, (len(CAMERAS), 2, *SIZE, 3), np.uint8)
        seen = spaces.Dict({"images": images, "numbers": spaces.Box(-np.inf, np.inf, (NUMBERS,), np.float32)})
        super().__init__(venv, seen, spaces.Box(LOW, HIGH, dtype=np.float32))
        (scale, *_), (about, *_) = venv.get_attr("scale"), venv.get_attr("metadata")
        self._low, self._high, self._rows = -scale.low, scale.high, scale.rows
        self._dt_s, self._reward_scale = 1.0 / (about["render_fps"] * scale.rows), reward_scale

    def reset(self) -> VecEnvObs:
        """Begin an episode in every world."""
        return self._look(self.venv.reset())

    def step_async(self, actions: np.ndarray) -> None:
        """The controls that accelerate the cars so, in the environment's -1..1."""
        rows = np.stack(
            [
                eased(controls, steering, accel, self._rows, self._dt_s)
                for controls, (steering, accel) in zip(
                    to_controls(actions, self._speed_mps), self._moving, strict=True
                )
            ]
        )
        reach = np.where(rows >= 0, self._high, self._low)
        self.venv.step_async(np.clip(rows / reach, -1.0, 1.0).astype(np.float32))

    def step_wait(self) -> VecEnvStepReturn:
        """Generate the next chunk of every world."""
        seen, rewards, done, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = observed(info["terminal_observation"])
        return self._look(seen), self._reward_scale * rewards, done, infos

    def _look(self, seen: Any) -> dict[str, np.ndarray]:
        self._speed_mps, self._moving = seen["ego"][:, 0], seen["ego"][:, -len(MOVING) :]
        return observed(seen)


def observed(seen: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the network takes, of observations with or without a batch axis: `images` uint8 [..., V, 2, H, W, 3], `numbers` [..., 7]."""
    views = [seen[f"image_{camera}"] for camera in CAMERAS]  # [..., H, W, 3 frames]
    both = [np.stack([view[..., :3], view[..., -3:]], axis=-4) for view in views]
    return {"images": np.stack(both, axis=-5), "numbers": scaled(seen["ego"][..., : len(COLUMNS)])}
