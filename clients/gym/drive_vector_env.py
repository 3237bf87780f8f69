"""`roadloop/Drive-v0` times N: sessions on one socket, stepped together in one round trip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .actions import ActionScale
from .config import DriveConfig
from .drive_env import RENDER_MODES, check_render_mode
from .fleet import Fleet, Seen
from .pictures import mosaic
from .slot import Outcome

Stepped = tuple[Seen, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class DriveVectorEnv(VectorEnv[Seen, np.ndarray, np.ndarray]):
    """N worlds. `gymnasium.make_vec("roadloop/Drive-v0", num_envs=N)` makes it.

    Observations and infos are those of `DriveEnv`, batched as Gymnasium does; every array is the caller's own.

    Args:
        num_envs: N.
        render_mode: `rgb_array` or None; a window for N worlds there is not.
        autoreset_mode: `NextStep`: a finished world begins anew with the next step; `SameStep`: at once, and its last observation
            is in `info["final_obs"]`; `Disabled`: when `reset(options={"reset_mask": mask})` says so.
        choices: see `DriveConfig`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **choices: Any,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"expected at least one environment, got num_envs={num_envs}")
        check_render_mode(render_mode, [mode for mode in RENDER_MODES if mode != "human"])
        self.num_envs, self.render_mode = num_envs, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self._fleet = Fleet(DriveConfig.of(**choices), num_envs)
        self.single_observation_space = self._fleet.observation_space
        self.single_action_space = self._fleet.scale.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        rate = self._fleet.steps_per_second
        self.metadata = {**self.metadata, "render_fps": rate, "autoreset_mode": self.autoreset_mode}
        self._seeded = [seeding.np_random() for _ in range(num_envs)]
        self._done = np.zeros(num_envs, np.bool_)

    @property
    def scale(self) -> ActionScale:
        """How actions in [-1, 1] become the server's."""
        return self._fleet.scale

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random numbers of each world."""
        return tuple(rng for rng, _ in self._seeded)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What each was seeded with last."""
        return tuple(seed for _, seed in self._seeded)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Begin episodes in all worlds, or in those of `options["reset_mask"]` (bool [N]).

        Args:
            seed: s seeds the worlds with s, s + 1, ...; a list has one for each.
            options: `reset_mask`, and those of `DriveEnv.reset`.
        """
        seeds, chosen = self._seeds(seed), dict(options or {})
        mask = self._mask(chosen.pop("reset_mask", None))
        infos: dict[str, Any] = {}
        for k in np.flatnonzero(mask):
            if seeds[k] is not None:
                self._seeded[k] = seeding.np_random(seeds[k])
            infos = self._add_info(infos, self._begin(int(k), seeds[k], chosen), int(k))
        seen = self._fleet.fresh()
        self._fleet.write(range(self.num_envs), seen)
        return seen, infos

    def step(self, actions: np.ndarray) -> Stepped:
        """Generate the next chunk of every world that is not about to begin anew."""
        if len(actions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} actions, got {len(actions)}")
        beginning = np.flatnonzero(self._done) if self.autoreset_mode is AutoresetMode.NEXT_STEP else ()
        running = [k for k in range(self.num_envs) if k not in beginning]
        seen = self._fleet.fresh()
        taken = self._fleet.step(running, np.asarray(actions, np.float32)[running], seen)
        infos: dict[str, Any] = {}
        for k in range(self.num_envs):
            info = self._finish(k, taken[k], seen) if k in taken else self._begin_anew(k, seen)
            infos = self._add_info(infos, info, k)
        return seen, *self._columns(taken), infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One mosaic per world, uint8 [H, W, 3]."""
        if self.render_mode is None:
            return None
        return tuple(mosaic(slot.seen) for slot in self._fleet.slots)

    def close_extras(self, **_: Any) -> None:
        """End the sessions, and the local server if nobody else uses it."""
        self._fleet.close()

    # Private ----------------------------------------------------------------------------------------------------

    def _begin(
        self, k: int, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        self._done[k] = False
        return self._fleet.begin(k, self._seeded[k][0], seed, options)

    def _begin_anew(self, k: int, seen: Seen) -> dict[str, Any]:
        info = self._begin(k)
        self._fleet.write([k], seen)
        return info

    def _finish(self, k: int, outcome: Outcome, seen: Seen) -> dict[str, Any]:
        """The info of a world that was stepped; with same-step resets it may already be that of the next episode."""
        self._done[k] = outcome.done
        if not (outcome.done and self.autoreset_mode is AutoresetMode.SAME_STEP):
            return outcome.info
        last = {name: rows[k].copy() for name, rows in seen.items()}
        return {"final_obs": last, "final_info": outcome.info, **self._begin_anew(k, seen)}

    def _columns(self, taken: dict[int, Outcome]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward, terminated, truncated of all worlds; those that have just begun have none."""
        reward = np.zeros(self.num_envs, np.float64)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for k, outcome in taken.items():
            reward[k], terminated[k], truncated[k] = outcome.reward, outcome.terminated, outcome.truncated
        return reward, terminated, truncated

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + k for k in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, got {len(seed)}")
        return list(seed)

    def _mask(self, mask: Any) -> np.ndarray:
        """Which worlds to reset: bool [N]."""
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"expected options['reset_mask'] as a bool array, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"expected a reset_mask of {self.num_envs} values, not all False, got {mask!r}")
        if not all(self._fleet.slots[k].begun for k in np.flatnonzero(~mask)):
            raise ResetNeeded(
                "expected every world in the first reset, got a reset_mask that leaves some out"
            )
        return mask
