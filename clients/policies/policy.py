"""What drives: the contract of every policy, and what it is told at the start of an episode.

    class Cautious:
        space = "controls"

        def reset(self, info):
            self.info = info

        def act(self, seen):
            return [0.0, 1.0 if seen.ego["speed_mps"] < 5.0 else 0.0]

A policy needs no base class and no import. `load_policy("my_module:Cautious")` makes it drive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from ..errors import RoadloopError
from ..observation import Observation
from ..protocol import ActionSpace
from ..protocol.requests import ActionSpaceName


class PolicyError(RoadloopError):
    """The policy's own fault: it failed, or its actions are none. Trying again would not help."""


class PolicyUnavailableError(RoadloopError, ConnectionError):
    """The policy cannot be reached at the moment. Trying again may help."""


@dataclass(frozen=True)
class PastAction:
    """One chunk that was driven before the policy took over: float32 [F, A] in that space."""

    space: ActionSpaceName
    values: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class EpisodeInfo:
    """What a policy is told before an episode."""

    scenario: str
    seed: int  # of the world; a policy that draws numbers draws them from `policy_seed`
    frames_per_chunk: int
    dt_s: float  # between frames
    action_spaces: Mapping[str, ActionSpace]
    cameras: Sequence[str] = ()
    policy_seed: int = 0
    past: Sequence[PastAction] = ()  # not empty: the policy takes over in the middle of an episode


@runtime_checkable
class Policy(Protocol):
    """Turns what is seen into the actions of the next chunk. One object drives one world at a time.

    `space` (an attribute, "controls" where there is none) names the action space; it may be set in `reset`. A `close()` is called at the end,
    where there is one.
    """

    def reset(self, info: EpisodeInfo) -> None:
        """A new episode begins: forget the last one."""

    def act(self, seen: Observation) -> ArrayLike:
        """Actions for the next chunk: [F, A], or one row [A] that is held for the whole chunk."""


def space_of(policy: Any) -> ActionSpaceName:
    """The action space in which a policy answers."""
    space: ActionSpaceName = getattr(policy, "space", "controls")
    return space


def checked_actions(values: Any, info: EpisodeInfo, space: str, clip: bool = False) -> np.ndarray:
    """What a policy returned, as float32 [F, A] within the bounds.

    Args:
        values: [F, A], or [A].
        info: of the episode.
        space: the policy's action space.
        clip: move values outside the bounds to them instead of refusing them.

    Raises:
        PolicyError: another shape, not numbers, not finite, or out of bounds.
    """
    if space not in info.action_spaces:
        raise PolicyError(f"expected an action space of {', '.join(info.action_spaces)}, got {space!r}")
    bounds = info.action_spaces[space]
    try:
        actions = np.array(values, np.float32)
    except (TypeError, ValueError):
        raise PolicyError(f"expected actions as numbers, got {type(values).__name__}") from None
    width = len(bounds.columns)
    if actions.shape not in ((width,), (info.frames_per_chunk, width)):
        raise PolicyError(
            f"expected {space} actions of shape ({info.frames_per_chunk}, {width}) or ({width},), got {actions.shape}"
        )
    if not np.isfinite(actions).all():
        raise PolicyError("expected finite actions, got NaN or infinity")
    low, high = np.array(bounds.low, np.float32), np.array(bounds.high, np.float32)
    if clip:
        actions = np.clip(actions, low, high)
    elif ((actions < low) | (actions > high)).any():
        column = int(np.argwhere((actions < low) | (actions > high))[0, -1])
        raise PolicyError(
            f"expected {bounds.columns[column]} in [{low[column]:g}, {high[column]:g}], "
            f"got {float(np.atleast_2d(actions)[:, column][np.abs(np.atleast_2d(actions)[:, column]).argmax()]):g}"
        )
    return np.tile(actions, (info.frames_per_chunk, 1)) if actions.ndim == 1 else actions
