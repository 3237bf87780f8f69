"""From actions in [-1, 1] to what the server takes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gymnasium.spaces import Box

from ..protocol import ActionSpace, Welcome
from .config import DriveConfig


@dataclass(frozen=True)
class ActionScale:
    """-1, 0 and 1 are the lowest value, no command and the highest value of each column; linear in between.

    So 0 coasts straight on, although braking reaches further than throttle.
    """

    low: np.ndarray  # float32 [A]
    high: np.ndarray  # float32 [A]
    rows: int  # 1: one row, held for the chunk; F: one per frame
    clip: bool

    @cached_property
    def space(self) -> Box:
        """Float32 [A] for one row, else [F, A]."""
        count = len(self.low)
        return Box(-1.0, 1.0, (count,) if self.rows == 1 else (self.rows, count), np.float32)

    def to_server(self, actions: np.ndarray) -> np.ndarray:
        """Actions of several worlds, [N, *shape], in the server's units and within its bounds: float32 of the same shape.

        Raises:
            ValueError: wrong shape, not a number, or outside [-1, 1] and not to be clipped.
        """
        values, shape = np.asarray(actions, np.float32), self.space.shape
        if values.shape[1:] != shape:
            raise ValueError(f"expected an action of shape {shape}, got {values.shape[1:]}")
        if not np.isfinite(values).all():
            raise ValueError(f"expected a finite action, got {values.tolist()}")
        if not self.clip and np.abs(values).max(initial=0.0) > 1.0:
            raise ValueError(f"expected an action in [-1, 1] (or clip_actions=True), got {values.tolist()}")
        values = np.clip(values, -1.0, 1.0)
        neutral = np.clip(np.float32(0.0), self.low, self.high)
        reach = np.where(values >= 0, self.high - neutral, neutral - self.low)
        scaled: np.ndarray = np.clip(neutral + values * reach, self.low, self.high)
        return scaled.astype(np.float32)


def action_scale(config: DriveConfig, server: Welcome) -> ActionScale:
    """The scale for the server's bounds.

    Raises:
        ValueError: an action space that the server has not.
    """
    spaces: dict[str, ActionSpace] = {space.name: space for space in server.action_spaces}
    if config.space not in spaces:
        raise ValueError(f"expected a space of {', '.join(spaces)}, got {config.space!r}")
    chosen, rows = spaces[config.space], config.rows or ("each" if config.space == "trajectory" else "one")
    low, high = np.array(chosen.low, np.float32), np.array(chosen.high, np.float32)
    return ActionScale(low, high, server.frames_per_chunk if rows == "each" else 1, config.clip_actions)
