"""A scenario: what is on the road, where the ego starts and has to go, what happens, and when it is over. YAML."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..preset_files import preset_names, preset_path
from .maps import MapSpec
from .state import TimeOfDay, Weather

VehicleKind = Literal["car", "van", "truck", "bus"]
Group = Literal["urban_street", "highway", "turning"]
Side = Literal["left", "same", "right"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Metres = Annotated[float, Field(ge=0.0, le=3000.0)]
Seconds = Annotated[float, Field(ge=0.0, le=600.0)]
Speed = Annotated[float, Field(ge=0.0, le=40.0)]


class ScenarioError(ValueError):
    """A scenario file that cannot be read. The message names the file and the key."""


class Part(BaseModel):
    """Base of all parts: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Part):
    """Drawn uniformly between both ends, from the seed."""

    low: float
    high: float

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)) and len(value) == 2:
            return {"low": value[0], "high": value[1]}
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {"low": value, "high": value}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"expected low <= high, got [{self.low:g}, {self.high:g}]")
        return self


class EgoSpawn(Part):
    """Where the ego starts on its route, and how fast."""

    s_m: Metres = 20.0
    speed_mps: Range = Range(low=8.0, high=10.0)


class VehicleSpawn(Part):
    """A vehicle at a given place: relative to the ego's start on its route, or on a lane of the map.

    With `ahead_m` it stands on the ego's lane (or the one left or right of it), its middle that far ahead of the ego's;
    negative is behind. With `lane` and `s_m` it stands on that lane of the road network.
    """

    kind: VehicleKind = "car"
    ahead_m: float | None = None
    side: Side = "same"
    lane: tuple[str, str, int] | None = None
    s_m: Metres | None = None
    speed_mps: Speed = 10.0
    wanted_mps: Speed | None = Field(
        default=None, description="speed that it strives for, by default the lane's limit"
    )
    parked: bool = Field(default=False, description="never moves")

    @model_validator(mode="after")
    def _placed_once(self) -> "VehicleSpawn":
        on_lane = self.lane is not None and self.s_m is not None
        if (self.ahead_m is not None) == on_lane or (self.lane is None) != (self.s_m is None):
            raise ValueError("expected either ahead_m, or lane and s_m")
        return self


class Traffic(Part):
    """Vehicles that drive."""

    per_km: float = Field(
        default=8.0, ge=0.0, le=40.0, description="vehicles per kilometre of lane around the ego"
    )
    most: int = Field(default=24, ge=0, le=60, description="never more vehicles than this")
    speed_share: Range = Field(
        default=Range(low=0.8, high=1.0), description="wanted speed as a share of the limit"
    )
    mix: dict[VehicleKind, float] = Field(
        default={"car": 0.72, "van": 0.16, "truck": 0.08, "bus": 0.04}, description="weights of kinds"
    )
    lane_changes: bool = True
    respawn: bool = Field(default=True, description="replace vehicles that leave, out of the ego's sight")
    spawns: tuple[VehicleSpawn, ...] = ()


class Pedestrians(Part):
    """People on foot."""

    walkers: int = Field(default=6, ge=0, le=40, description="along the sidewalks")
    crossers: int = Field(default=3, ge=0, le=20, description="who use the crossings")


class Trigger(Part):
    """When an event starts: exactly one of these."""

    time_s: Seconds | None = Field(default=None, description="time since the start")
    ego_s_m: Metres | None = Field(
        default=None, description="distance that the ego has covered along its route"
    )
    time_gap_s: Seconds | None = Field(
        default=None, description="the ego's time to the place where the event happens"
    )

    @model_validator(mode="after")
    def _one(self) -> "Trigger":
        chosen = [name for name, value in self if value is not None]
        if len(chosen) != 1:
            raise ValueError(f"expected one of time_s, ego_s_m, time_gap_s, got {chosen or 'none'}")
        return self


class CutIn(Part):
    """A vehicle beside the ego moves into its lane, closely ahead."""

    kind: Literal["cut_in"]
    trigger: Trigger
    side: Literal["left", "right"] = "left"
    gap_m: float = Field(default=12.0, ge=5.0, le=60.0, description="free way between both at the start")
    speed_share: float = Field(
        default=0.9, ge=0.3, le=1.5, description="of the ego's speed, once it has cut in"
    )
    vehicle: VehicleKind = "car"


class HardBrake(Part):
    """The vehicle ahead of the ego brakes hard."""

    kind: Literal["hard_brake"]
    trigger: Trigger
    brake_mps2: float = Field(default=5.0, ge=1.0, le=8.0)
    duration_s: float = Field(default=2.5, gt=0.0, le=20.0)


class CrossingPedestrian(Part):
    """Somebody steps onto the road ahead of the ego and walks across."""

    kind: Literal["crossing_pedestrian"]
    trigger: Trigger
    at_s_m: Metres = Field(description="distance from the ego's start along its route")
    side: Literal["left", "right"] = "right"
    speed_mps: float = Field(default=1.4, ge=0.5, le=4.0)


class LightChange(Part):
    """The next light on the ego's route changes."""

    kind: Literal["light_change"]
    trigger: Trigger
    to: Literal["red", "green"] = "red"


Event = Annotated[CutIn | HardBrake | CrossingPedestrian | LightChange, Field(discriminator="kind")]


class Randomise(Part):
    """What the seed decides, besides places and kinds of traffic. Left out: as given above."""

    map_variants: int = Field(default=4, ge=1, le=64, description="seeds use this many different maps")
    weather: tuple[Weather, ...] = ()
    time_of_day: tuple[TimeOfDay, ...] = ()
    per_km: Range | None = None
    start_shift_m: Range = Field(default=Range(low=0.0, high=10.0), description="added to the ego's s_m")


class Success(Part):
    """When the ego has made it."""

    distance_m: Metres | None = Field(
        default=None, description="along the route from the start; default is the route's end"
    )


class Failure(Part):
    """What ends the session. A duration is how long a fault must last; null means never."""

    collision: Literal["at_fault", "any", "never"] = "at_fault"
    red_light: bool = True
    off_road_s: Seconds | None = 1.5
    wrong_way_s: Seconds | None = 3.0
    off_route_m: Metres | None = 15.0


class Scenario(Part):
    """Everything about one scenario. Together with a seed and the actions it decides the session."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    group: Group
    split: Literal["train", "heldout"] = "train"
    map: MapSpec
    route: str = Field(description="one of the map's routes")
    ego: EgoSpawn = EgoSpawn()
    traffic: Traffic = Traffic()
    parked: Share = Field(default=0.6, description="share of parking bays that are taken")
    pedestrians: Pedestrians = Pedestrians()
    events: tuple[Event, ...] = ()
    weather: Weather = "clear"
    time_of_day: TimeOfDay = "day"
    randomise: Randomise = Randomise()
    duration_s: float = Field(default=40.0, gt=0.0, le=600.0, description="time limit")
    success: Success = Success()
    failure: Failure = Failure()


def load_scenario(name_or_path: str) -> Scenario:
    """Read a scenario preset or file.

    Raises:
        PresetError: no such preset; the message lists those there are.
        ScenarioError: not YAML, or not a scenario; the message names the file, the key and the valid keys.
    """
    return read_scenario(preset_path("scenarios", name_or_path))


def read_scenario(path: Path) -> Scenario:
    """Read one file. Raises ScenarioError as `load_scenario` does."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: expected YAML, got {error}") from error
    if not isinstance(data, dict):
        raise ScenarioError(f"{path}: expected a mapping of scenario keys, got {type(data).__name__}")
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError("\n".join(f"{path}: {line}" for line in _explain(error))) from error


def scenario_names() -> tuple[str, ...]:
    """Names of all presets."""
    return preset_names("scenarios")


def scenario_json_schema() -> str:
    """The JSON Schema of a scenario file, for editors and other programs."""
    return json.dumps(Scenario.model_json_schema(), indent=2) + "\n"


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            valid = _keys_at(item["loc"][:-1])
            lines.append(
                f"expected a key of {', '.join(valid)} in {'.'.join(place[:-1]) or 'the scenario'}, got {place[-1]!r}"
            )
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{'.'.join(place) or 'the scenario'}: {message}, got {item['input']!r}")
    return lines


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid at a place in the file, found by walking the published schema."""
    schema = Scenario.model_json_schema()
    node: dict[str, Any] = schema
    for part in location:
        node = _resolve(schema, node)
        if isinstance(part, int):
            node = node.get("items", node)
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        else:  # the tag of a discriminated union
            node = {"$ref": node["discriminator"]["mapping"][part]} if "discriminator" in node else node
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        elif "anyOf" in node:  # optional parts
            node = next(choice for choice in node["anyOf"] if choice.get("type") != "null")
        else:
            return node
