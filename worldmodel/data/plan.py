"""What a data folder holds: the settings it is built with, and which episode is made of which scenario and seed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from .episode import LAYOUT_STRIDE
from .shard import FRAME_CODECS, FrameCodec

Driver = Literal["expert", "perturbed"]


class BuildError(ValueError):
    """A build that cannot start or go on. The message reads *expected X, got Y*."""


@dataclass(frozen=True)
class BuildSettings:
    """Everything that decides the bytes of a data folder. `episodes` may grow later; nothing else may change."""

    scenarios: tuple[str, ...]
    episodes: int
    seed: int = 0
    split: str = "train"
    seconds: float = 20.0  # at most; an episode ends earlier when its scenario does
    rig: str = "surround7"
    height: int = 128
    width: int = 224
    layout: bool = True
    codec: FrameCodec = "png"
    perturbed_share: float = 0.5
    rig_jitter: float = 0.0  # 1 moves each camera by about 10 cm, 2 degrees and 4 % of its focal length
    weather: str | None = None  # in all episodes; None is what scenario and seed say
    time_of_day: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if not self.scenarios:
            raise BuildError("expected at least one scenario, got none")
        if self.codec not in FRAME_CODECS:
            raise BuildError(f"expected a codec of {', '.join(FRAME_CODECS)}, got {self.codec!r}")
        for name in ("episodes", "seconds", "height", "width"):
            if getattr(self, name) <= 0:
                raise BuildError(f"expected {name} > 0, got {getattr(self, name)}")
        if self.layout and (self.height % LAYOUT_STRIDE or self.width % LAYOUT_STRIDE):
            raise BuildError(
                f"expected a camera size that is a multiple of {LAYOUT_STRIDE}, got {self.height}x{self.width}"
            )
        if not 0.0 <= self.perturbed_share <= 1.0 or self.rig_jitter < 0.0:
            raise BuildError(
                f"expected perturbed_share in 0..1 and rig_jitter >= 0, got {self.perturbed_share}, {self.rig_jitter}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BuildSettings":
        """The inverse of `to_dict`; what came later may be missing. Raises BuildError for other keys."""
        names = {field.name for field in fields(cls)}
        if not names - {"weather", "time_of_day"} <= set(data) <= names:
            raise BuildError(f"expected settings {', '.join(sorted(names))}, got {', '.join(sorted(data))}")
        return cls(**{**data, "scenarios": tuple(data["scenarios"])})

    def check_continues(self, before: "BuildSettings") -> None:
        """Raise BuildError where a folder begun with other settings cannot be continued with these."""
        mine, theirs = self.to_dict(), before.to_dict()
        changed = [name for name in mine if name != "episodes" and mine[name] != theirs[name]]
        if changed:
            words = "; ".join(f"{name} {theirs[name]!r}, got {mine[name]!r}" for name in changed)
            raise BuildError(f"expected the settings this folder was begun with: {words}")


@dataclass(frozen=True)
class EpisodePlan:
    """One episode before it is made."""

    index: int
    scenario: str
    seed: int
    driver: Driver
    rig_seed: int


def plan_episode(settings: BuildSettings, index: int) -> EpisodePlan:
    """What episode `index` is made of; a pure function, so that any worker can make any episode.

    Scenarios take turns; seeds depend on the build's seed, the split and the index.
    """
    split = int.from_bytes(settings.split.encode()[:8], "big")
    draw = np.random.default_rng((settings.seed, split, index))
    seed, rig_seed = (int(value) for value in draw.integers(0, 2**31, size=2))
    driver: Driver = "perturbed" if draw.uniform() < settings.perturbed_share else "expert"
    return EpisodePlan(index, settings.scenarios[index % len(settings.scenarios)], seed, driver, rig_seed)
