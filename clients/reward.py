"""Reward and termination, composed in YAML from the driving checks that every reply carries.

    extends: default          # a shipped reward or a file, whose values the ones below replace
    weights:                  # reward of a chunk = sum of weight * term
      progress_m: 1.0
      collision: -20.0
    ends:                     # rules that end the episode, besides the server's own
      off_road_s: 1.0

`clients.reward_terms` lists the terms with their formulas. The rules under `ends`, each with the reason it gives; all are off unless they are named:

| rule | the episode terminates |
|---|---|
| `collision: any` or `at_fault` | in a frame with such a collision (`collision`) |
| `red_light: true` | in a frame that crosses a stop line on red (`red_light`) |
| `off_road_s`, `wrong_way_s` | after longer than this without interruption (`off_road`, `wrong_way`) |
| `stuck_s` | after standing longer than this without interruption (`stuck`) |
| `off_route_m` | further than this from the reference path (`off_route`) |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .observation import Observation, StepResult
from .reward_terms import STANDING_MPS, TERMS, ChunkFrames

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RewardError(ValueError):
    """A reward that makes no sense. The message names the key and the valid ones."""


class Ends(BaseModel):
    """Rules that end an episode, besides the server's own; the module documents them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collision: Literal["never", "at_fault", "any"] = "never"
    red_light: bool = False
    off_road_s: Positive | None = None
    wrong_way_s: Positive | None = None
    stuck_s: Positive | None = None
    off_route_m: Positive | None = None


class RewardConfig(BaseModel):
    """What a chunk is worth, and what ends an episode."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: dict[str, Finite]
    ends: Ends = Ends()

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(weights) - set(TERMS)):
            raise ValueError(f"expected terms of {', '.join(TERMS)}, got {', '.join(unknown)}")
        return weights


def load_reward(reward: "str | Path | Mapping[str, Any] | RewardConfig" = "default") -> RewardConfig:
    """A shipped reward by name, a YAML file, or the values themselves.

    Raises:
        RewardError: unknown name, missing file, unknown or wrong keys.
    """
    if isinstance(reward, RewardConfig):
        return reward
    try:
        return RewardConfig.model_validate(_resolve(reward, ()))
    except ValidationError as error:
        raise RewardError(f"{_named(reward)}: {_first(error)}") from None


def reward_names() -> tuple[str, ...]:
    """The shipped rewards, in alphabetical order."""
    folder = resources.files(__package__) / "rewards"
    return tuple(
        sorted(file.name[: -len(".yaml")] for file in folder.iterdir() if file.name.endswith(".yaml"))
    )


@dataclass(frozen=True)
class Judgement:
    """What one chunk was worth and whether it ended the episode."""

    reward: float
    terms: Mapping[str, float]  # weight * term, by term; they add up to the reward
    terminated: bool
    reason: str  # why it ended, or ""


@dataclass
class Judge:
    """Judges the chunks of one episode in order.

    Args:
        config: the reward.
        opening: the observation with which the episode starts.
        frame_dt_s: time between frames.
    """

    config: RewardConfig
    opening: Observation
    frame_dt_s: float
    _before: "ChunkFrames" = field(init=False, repr=False)
    _lasting_s: dict[str, float] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._before = ChunkFrames(self.opening, self.frame_dt_s)

    def judge(self, result: StepResult) -> Judgement:
        """Judge the next chunk."""
        chunk = ChunkFrames(result, self.frame_dt_s, self._before)
        terms = {
            name: weight * float(TERMS[name](chunk)) + 0.0 for name, weight in self.config.weights.items()
        }
        reason = result.reason if result.done else self._broken_rule(chunk)
        self._before = chunk
        ended = result.terminated or (not result.truncated and bool(reason))
        return Judgement(sum(terms.values()), terms, ended, reason)

    def _broken_rule(self, chunk: "ChunkFrames") -> str:
        """The first rule that some frame breaks, in the order of the frames."""
        ends = self.config.ends
        if ends == Ends():
            return ""
        for k in range(chunk.count):
            broken = {
                "collision": ends.collision != "never" and chunk.collided(whoever=ends.collision == "any")[k],
                "red_light": ends.red_light and chunk.check("red_light")[k],
                "off_road": self._lasts("off_road", chunk.check("off_road")[k], ends.off_road_s),
                "wrong_way": self._lasts("wrong_way", chunk.check("wrong_way")[k], ends.wrong_way_s),
                "stuck": self._lasts("stuck", abs(chunk.ego("speed_mps")[k]) < STANDING_MPS, ends.stuck_s),
                "off_route": ends.off_route_m is not None
                and abs(chunk.check("lane_offset_m")[k]) > ends.off_route_m,
            }
            if reason := next((name for name, holds in broken.items() if holds), ""):
                return reason
        return ""

    def _lasts(self, name: str, holds: bool, limit_s: float | None) -> bool:
        """Whether something has held for longer than its limit without interruption."""
        self._lasting_s[name] = self._lasting_s.get(name, 0.0) + self.frame_dt_s if holds else 0.0
        return limit_s is not None and self._lasting_s[name] > limit_s + 1e-9


def _resolve(reward: str | Path | Mapping[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
    """The values with everything that they extend."""
    if not isinstance(reward, Mapping):
        if (name := str(reward)) in seen:
            raise RewardError(
                f"expected rewards that do not extend each other, got {' -> '.join([*seen, name])}"
            )
        seen = (*seen, name)
    values = dict(reward) if isinstance(reward, Mapping) else _read(reward)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    base = _resolve(parent, seen)
    for section in ("weights", "ends"):
        if isinstance(values.get(section, {}), Mapping):
            values[section] = {**base.get(section, {}), **values.get(section, {})}
    return values


def _read(reward: str | Path) -> dict[str, Any]:
    name = str(reward)
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise RewardError(f"expected a reward file, got {name!r}, which does not exist")
        text = path.read_text(encoding="utf-8")
    elif name in reward_names():
        text = (resources.files(__package__) / "rewards" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise RewardError(f"expected a reward of {', '.join(reward_names())} or a YAML file, got {name!r}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RewardError(f"{name}: expected YAML: {error}") from None
    if not isinstance(values, dict):
        raise RewardError(f"{name}: expected a map of weights and ends, got {type(values).__name__}")
    return values


def _named(reward: object) -> str:
    return "reward" if isinstance(reward, Mapping) else str(reward)


def _first(error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        section = Ends if first["loc"][0] == "ends" else RewardConfig
        return f"{where}: expected one of {', '.join(section.model_fields)}, got {first['loc'][-1]!r}"
    return f"{where}: {first['msg']}"
