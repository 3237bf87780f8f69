"""Our vector environment as Stable-Baselines3 wants it: one round trip a step for all worlds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from .drive_vector_env import DriveVectorEnv


class DriveVecEnv(VecEnv):
    """N worlds for `stable_baselines3.PPO("MultiInputPolicy", DriveVecEnv(8, scenario="highway_cruise"))`.

    A world that ends begins anew at once; its last observation is in `info["terminal_observation"]`.

    Args:
        num_envs: N.
        render_mode: `rgb_array` or None.
        choices: see `DriveConfig`.
    """

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **choices: Any) -> None:
        self.drives = DriveVectorEnv(num_envs, render_mode, AutoresetMode.SAME_STEP, **choices)
        space, action_space = self.drives.single_observation_space, self.drives.single_action_space
        super().__init__(num_envs, space, action_space)
        self._actions = np.zeros((num_envs, *(action_space.shape or ())), np.float32)

    def reset(self) -> VecEnvObs:
        """Begin an episode in every world, with the seeds of `seed` if it was called since the last reset."""
        seen, infos = self.drives.reset(seed=self._seeds)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [_info(infos, k) for k in range(self.num_envs)]
        return dict(seen)

    def step_async(self, actions: np.ndarray) -> None:
        """Remember what `step_wait` does."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Generate the next chunk of every world."""
        seen, rewards, terminated, truncated, infos = self.drives.step(self._actions)
        done = terminated | truncated
        each = [_info(infos, k) for k in range(self.num_envs)]
        for k in np.flatnonzero(done):
            self.reset_infos[k] = {
                name: value for name, value in each[k].items() if not name.startswith("final")
            }
            final: dict[str, Any] = {**each[k]["final_info"], "terminal_observation": each[k]["final_obs"]}
            each[k] = final | {"TimeLimit.truncated": bool(truncated[k] and not terminated[k])}
        return dict(seen), rewards.astype(np.float32), done, each

    def close(self) -> None:
        """End the sessions, and the local server if nobody else uses it."""
        self.drives.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One mosaic per world."""
        return self.drives.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The vector environment's, for each world."""
        return [getattr(self.drives, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raises NotImplementedError: the worlds have nothing of their own to set."""
        raise NotImplementedError(f"expected no attribute to be set, got {attr_name!r}")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Raises NotImplementedError: the worlds have no methods of their own."""
        raise NotImplementedError(f"expected no method to be called, got {method_name!r}")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No wrappers here."""
        return [False] * len(list(self._get_indices(indices)))


def _info(infos: dict[str, Any], k: int) -> dict[str, Any]:
    """World k's part of a vector environment's infos."""
    own: dict[str, Any] = {}
    for name, values in infos.items():
        if name.startswith("_") or not infos.get(f"_{name}", np.ones(k + 1, bool))[k]:
            continue
        own[name] = _info(values, k) if isinstance(values, dict) else values[k]
    return own
