"""One world of an environment: begins episodes, judges chunks, writes observations. Steps are sent by its owner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Dict

from ..client import Session
from ..observation import Observation, StepResult
from ..protocol import Camera, ProtocolError
from ..reward import Judge, RewardConfig
from .config import DriveConfig
from .ego import ego_bounds, ego_vector
from .pictures import FrameStack
from .worlds import Worlds

_NOT_NUMBERS = ("collision_with", "lights")  # of the driving checks


@dataclass(frozen=True)
class Outcome:
    """What a step was worth."""

    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


class Slot:
    """One session's episodes.

    Args:
        session: the world's session.
        worlds: shared by all slots of a client.
        config: of the environment.
        reward: its reward.
        cameras: that are observed.
        frame_dt_s: time between frames.
    """

    def __init__(
        self,
        session: Session,
        worlds: Worlds,
        config: DriveConfig,
        reward: RewardConfig,
        cameras: Sequence[Camera],
        frame_dt_s: float,
    ) -> None:
        self.session = session
        self._seen: Observation | None = None
        self._worlds, self._config, self._reward, self._frame_dt_s = worlds, config, reward, frame_dt_s
        self._stack = FrameStack([camera.name for camera in cameras], config.frame_stack, config.image_size)

    @property
    def begun(self) -> bool:
        """Whether there has been a reset."""
        return self._seen is not None

    @property
    def seen(self) -> Observation:
        """The newest observation. Raises ResetNeeded before the first reset."""
        if self._seen is None:
            raise ResetNeeded("expected reset() first")
        return self._seen

    def begin(
        self, rng: np.random.Generator, seed: int | None, options: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Begin an episode; returns its info. See `Worlds.draw`."""
        self._world = self._worlds.draw(rng, seed, options)
        seen = self._seen = self._worlds.begin(self.session, self._world)
        self._judge = Judge(self._reward, seen, self._frame_dt_s)
        self._stack.begin(seen)
        self._steps = 0
        return self._info(seen)

    def take(self, result: StepResult) -> Outcome:
        """Take in a chunk."""
        self._seen = result
        self._stack.push(result)
        self._steps += 1
        judged = self._judge.judge(result)
        too_long = self._steps == self._config.max_episode_steps
        truncated = result.truncated or (too_long and not judged.terminated)
        reason = judged.reason or ("max_episode_steps" if truncated else "")
        info = self._info(result) | {"outcome": result.outcome, "reason": reason}
        info["reward_terms"] = dict(judged.terms)
        if judged.terminated or truncated:
            info["is_success"] = result.outcome == "success"
        return Outcome(judged.reward, judged.terminated, truncated, info)

    def lose(self, error: ProtocolError) -> Outcome:
        """The chunk was lost with the worker that ran it: the episode is cut off where it was last seen."""
        info = self._info(self.seen) | {"outcome": "running", "reason": "worker_lost", "error": str(error)}
        return Outcome(0.0, False, True, info | {"reward_terms": {}, "is_success": False})

    def write(self, out: Mapping[str, np.ndarray]) -> None:
        """Copy the newest observation into these arrays."""
        self._stack.write(out)
        out["ego"][...] = ego_vector(self.seen, self._config.ego)

    def _info(self, seen: Observation) -> dict[str, Any]:
        """Fresh every time: the world, the chunk, and the driving checks at the last frame."""
        metrics = {name: values[-1] for name, values in seen.metrics.items() if name not in _NOT_NUMBERS}
        metrics["collision"] = seen.metrics["collision_with"][-1] is not None
        scenario, seed = self._world
        return {"scenario": scenario, "world_seed": seed, "chunk": seen.chunk, "metrics": metrics}


def observation_space(config: DriveConfig, cameras: Sequence[Camera]) -> Dict:
    """A flat Dict: `image_<camera>` uint8 [H, W, 3 * frame_stack] and `ego` float32 [E].

    Raises:
        ValueError: an image size that is larger than a camera's.
    """
    spaces: dict[str, Any] = {}
    for camera in cameras:
        height, width = config.image_size or (camera.height, camera.width)
        if not (0 < height <= camera.height and 0 < width <= camera.width):
            largest = f"({camera.height}, {camera.width})"
            raise ValueError(f"expected an image_size of at most {largest}, got ({height}, {width})")
        spaces[f"image_{camera.name}"] = Box(0, 255, (height, width, 3 * config.frame_stack), np.uint8)
    low, high = ego_bounds(tuple(config.ego))
    return Dict(spaces | {"ego": Box(low, high, dtype=np.float32)})
