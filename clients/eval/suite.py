"""A suite: which worlds are driven, how often, and what is asked of the server. YAML.

name: my_suite
title: Two of my worlds
repeats: 3                       # worlds per scenario
rig: front3                      # None: the server's own
options: {tier: exact}           # of `reset`: cameras, steps, tier, layout
scenarios:
  - highway_cruise
  - {scenario: urban_cruise, group: town, repeats: 5, max_s: 20}
  - scenario: highway_cut_in     # counterfactual: the same world, driven in several ways from one moment on
    decision: {at_s: 5.0, for_s: 2.0, branches: {go_on: policy, brake: "constant?accel=-4"}}
"""

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import RoadloopError

Count = Annotated[int, Field(ge=1, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
SELF = "policy"  # as a branch: the policy that is evaluated goes on


class SuiteError(RoadloopError, ValueError):
    """A suite that makes no sense. The message names the key and the valid ones."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Part):
    """Of the protocol's `reset`; what is not given is left to the server."""

    cameras: Annotated[list[str], Field(min_length=1)] | None = None
    steps: Count | None = None
    tier: str | None = None
    layout: bool | None = None

    def given(self) -> dict[str, Any]:
        """The values that were given."""
        return self.model_dump(exclude_none=True)


class Decision(_Part):
    """Where a counterfactual scenario forks, and who drives each branch: a policy spec, or `policy` for the one evaluated."""

    at_s: Seconds
    for_s: Seconds | None = None  # then the evaluated policy takes over again; None: to the end
    branches: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], str], Field(min_length=2)]


class Entry(_Part):
    """One scenario of a suite."""

    scenario: Annotated[str, Field(min_length=1)]
    group: str | None = None
    repeats: Count | None = None
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None  # instead of the drawn ones
    max_s: Seconds | None = None  # end there, besides the scenario's own end
    decision: Decision | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"scenario": value} if isinstance(value, str) else value


class Suite(_Part):
    """Everything that an evaluation asks of the server. See the module for an example."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str = ""
    seed: Seed = 0
    repeats: Count = 1
    rig: str | None = None
    options: Options = Options()
    scenarios: Annotated[list[Entry], Field(min_length=1)]

    @field_validator("scenarios")
    @classmethod
    def _once(cls, entries: list[Entry]) -> list[Entry]:
        names = [entry.scenario for entry in entries]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected every scenario once, got {', '.join(twice)} more often")
        return entries

    def rollouts(self) -> "list[RolloutPlan]":
        """Every rollout, in order: scenario by scenario, world by world."""
        return [plan for entry in self.scenarios for plan in self._of(entry)]

    def _of(self, entry: Entry) -> "list[RolloutPlan]":
        drawn = [world_seed(self.seed, entry.scenario, k) for k in range(entry.repeats or self.repeats)]
        return [
            RolloutPlan(
                scenario=entry.scenario,
                group=entry.group or self.name,
                seed=seed,
                repeat=repeat,
                policy_seed=_number(f"policy/{self.seed}/{entry.scenario}/{repeat}"),
                max_s=entry.max_s,
                decision=entry.decision,
            )
            for repeat, seed in enumerate(entry.seeds or drawn)
        ]


class RolloutPlan(_Part):
    """One world to drive: a single rollout, or the branches of one."""

    scenario: str
    group: str
    seed: int
    repeat: int
    policy_seed: int
    max_s: float | None = None
    decision: Decision | None = None

    @property
    def world(self) -> str:
        """The name of its world, unique in the suite."""
        return f"{self.scenario}.{self.repeat}.{self.seed}".replace("/", "_")

    @property
    def keys(self) -> dict[str, str]:
        """Branch -> the name of its rollout, unique in the suite; without branches the only one is ""."""
        if self.decision is None:
            return {"": self.world}
        return {branch: f"{self.world}.{branch}" for branch in self.decision.branches}


def world_seed(suite_seed: int, scenario: str, repeat: int) -> int:
    """The seed of a world: suites with the same seed share the worlds of the scenarios that they share."""
    return _number(f"{suite_seed}/{scenario}/{repeat}")


def load_suite(suite: "str | Path | Mapping[str, Any] | Suite") -> Suite:
    """A shipped suite by name, a YAML file, or the values themselves.

    Raises:
        SuiteError: unknown name, missing file, unknown or wrong keys.
    """
    if isinstance(suite, Suite):
        return suite
    values = suite if isinstance(suite, Mapping) else _read(str(suite))
    try:
        return Suite.model_validate(values)
    except ValidationError as error:
        where = "suite" if isinstance(suite, Mapping) else str(suite)
        raise SuiteError(f"{where}: {_first(error)}") from None


def suite_names() -> tuple[str, ...]:
    """The shipped suites, in alphabetical order."""
    files = (resources.files(__package__) / "suites").iterdir()
    return tuple(sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml")))


def _read(name: str) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise SuiteError(f"expected a suite file, got {name!r}, which does not exist")
        text = path.read_text(encoding="utf-8", errors="replace")
    elif name in suite_names():
        text = (resources.files(__package__) / "suites" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise SuiteError(f"expected a suite of {', '.join(suite_names())} or a YAML file, got {name!r}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SuiteError(f"{name}: expected YAML: {error}") from None
    if not isinstance(values, dict):
        raise SuiteError(f"{name}: expected a map of suite keys, got {type(values).__name__}")
    return values


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1


_SECTIONS: dict[Literal["options", "decision", "scenarios"], type[_Part]] = {
    "options": Options,
    "decision": Decision,
    "scenarios": Entry,
}


def _first(error: ValidationError) -> str:
    """One complaint, an unknown key before all others."""
    errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        inside = next((part for part in reversed(first["loc"][:-1]) if part in _SECTIONS), None)
        section = _SECTIONS[inside] if inside is not None else Suite
        return f"{where}: expected one of {', '.join(section.model_fields)}, got {first['loc'][-1]!r}"
    return f"{where or 'the suite'}: {first['msg'].removeprefix('Value error, ')}"
