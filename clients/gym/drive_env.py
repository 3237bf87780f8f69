"""`roadloop/Drive-v0`: one world."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict

from .config import DriveConfig
from .fleet import Fleet, Seen
from .pictures import mosaic
from .window import Window

RENDER_MODES = ("human", "rgb_array")


class DriveEnv(gymnasium.Env[Seen, np.ndarray]):
    """Drive one world; a step is one chunk (a third of a second).

    Observation: `image_<camera>` uint8 [H, W, 3 * frame_stack] and `ego` float32 [E], arrays that are the caller's own.
    Action: float32 in [-1, 1], see `ActionScale`. `info` has the world, the driving checks at the last frame, the terms of
    the reward, and at the end of an episode its `outcome`, `reason` and `is_success`.

    Args:
        render_mode: `rgb_array` (all cameras on one sheet), `human` (the same in a window) or None.
        choices: see `DriveConfig`.

    Raises:
        ValueError: unknown or impossible choices.
        ConnectionLostError, ProtocolError, RoadloopError: no server, or it refuses.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 3}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **choices: Any) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self._window = Window("roadloop") if render_mode == "human" else None
        self._fleet = Fleet(DriveConfig.of(**choices), 1)
        self.observation_space: Dict = self._fleet.observation_space  # type: ignore[assignment]
        self.action_space = self._fleet.scale.space
        self.metadata = {**self.metadata, "render_fps": self._fleet.steps_per_second}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of the world, and of what later episodes draw.
            options: `scenario`, `world_seed`: this world and no other.
        """
        super().reset(seed=seed)
        info = self._fleet.begin(0, self.np_random, seed, options)
        seen = self._fleet.fresh()
        self._fleet.write([0], seen)
        self._show()
        return _only(seen), info

    def step(self, action: np.ndarray) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Generate the next chunk."""
        seen = self._fleet.fresh()
        outcome = self._fleet.step([0], np.asarray(action, np.float32)[None], seen)[0]
        self._show()
        return _only(seen), outcome.reward, outcome.terminated, outcome.truncated, outcome.info

    def render(self) -> np.ndarray | None:
        """The mosaic, uint8 [H, W, 3]; None where a window shows it or nothing is to be rendered."""
        return self._mosaic() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """End the session, and the local server if nobody else uses it. Harmless the second time."""
        if self._window is not None:
            self._window.close()
        self._fleet.close()

    def _show(self) -> None:
        if self._window is not None:
            self._window.show(self._mosaic())

    def _mosaic(self) -> np.ndarray:
        return mosaic(self._fleet.slots[0].seen)


def _only(seen: Seen) -> Seen:
    """The one row of a batch."""
    return {name: rows[0] for name, rows in seen.items()}


def check_render_mode(render_mode: str | None, modes: Sequence[str] = RENDER_MODES) -> None:
    """Raises ValueError for a mode that there is not."""
    if render_mode not in (None, *modes):
        raise ValueError(f"expected a render_mode of {', '.join(modes)} or None, got {render_mode!r}")
