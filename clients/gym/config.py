"""What an environment is asked to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from ..protocol.requests import ActionSpaceName, Encoding
from ..reward import RewardConfig
from .ego import DEFAULT_COLUMNS, check_columns

NEVER_AGAIN = 100_000  # chunks between automatic snapshots: more than an episode has


class UnknownOptionError(TypeError, ValueError):
    """A keyword argument that there is not: a TypeError to Python, which TorchRL counts on when it tries `frameskip`."""


@dataclass(frozen=True)
class DriveConfig:
    """Keyword arguments of `gymnasium.make` and `make_vec` for `roadloop/Drive-v0`."""

    # Where the worlds run
    url: str | None = (
        None  # of a server; None starts one on this machine and ends it with the last environment
    )
    token: str | None = None
    engine: str = "reference"  # of the server that is started: reference, worldmodel, ...
    encoding: Encoding = "jpeg"  # raw has no artefacts and needs no decoder, but is some 20 times larger
    # Which worlds
    scenario: str | Sequence[str] = "highway_cruise"  # of several, each episode draws one
    world_seeds: Sequence[int] | None = None  # episodes draw from these; None takes whatever seed comes
    rig: str | None = None  # None is the server's own
    options: Mapping[str, Any] = field(default_factory=dict)  # of `reset`: steps, tier, layout
    restore: bool = True  # begin a world that was begun twice from a snapshot: much faster than opening it
    # What is seen
    cameras: Sequence[str] | None = None  # None is all of the rig; others are not even rendered
    image_size: tuple[int, int] | None = (
        None  # (height, width), no larger than the camera's; None is the camera's
    )
    frame_stack: int = (
        1  # newest frames (12 a second, not one a step) side by side in the channels, oldest first
    )
    ego: Sequence[str] = DEFAULT_COLUMNS  # columns of `clients.gym.ego`
    # What is done
    space: ActionSpaceName = "controls"
    rows: Literal["one", "each"] | None = (
        None  # one row held for the chunk, or one per frame; None: what suits
    )
    clip_actions: bool = False  # move actions outside [-1, 1] to the bounds instead of refusing them
    # What it is worth
    reward: str | Path | Mapping[str, Any] | RewardConfig = "default"  # see `clients.reward`
    max_episode_steps: int | None = None  # then truncated; the scenario's own time limit holds as well

    @classmethod
    def of(cls, **choices: Any) -> Self:
        """The configuration with these values.

        Raises:
            UnknownOptionError: an unknown one; the message lists those that there are.
            ValueError: wrong values.
        """
        known = [each.name for each in fields(cls)]
        if unknown := sorted(set(choices) - set(known)):
            names = ", ".join(map(repr, unknown))
            raise UnknownOptionError(
                f"expected options of {', '.join(known)}, got an unexpected keyword argument {names}"
            )
        return cls(**choices)

    def __post_init__(self) -> None:
        check_columns(self.ego)
        if self.frame_stack < 1:
            raise ValueError(f"expected a frame_stack of at least 1, got {self.frame_stack}")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise ValueError(f"expected max_episode_steps of at least 1, got {self.max_episode_steps}")
        if self.world_seeds is not None and not len(self.world_seeds):
            raise ValueError("expected at least one of world_seeds, got none")
        if not self.scenarios:
            raise ValueError("expected at least one scenario, got none")

    @property
    def scenarios(self) -> tuple[str, ...]:
        """The scenarios to draw from."""
        return (self.scenario,) if isinstance(self.scenario, str) else tuple(self.scenario)

    @property
    def choices(self) -> dict[str, Any]:
        """What `Session.reset` is given besides scenario and seed; kept at its beginning, a session survives the loss of its worker."""
        cameras = {} if self.cameras is None else {"cameras": list(self.cameras)}
        rig = {} if self.rig is None else {"rig": self.rig}
        return rig | {"options": {**self.options, **cameras}, "snapshot_every": NEVER_AGAIN}
