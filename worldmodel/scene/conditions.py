"""What a seed makes of a scenario before anybody moves: which map, weather, light, density, start."""

from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np

from .randomness import make_generator
from .scenario import Scenario, ScenarioError
from .state import Atmosphere, TimeOfDay, Weather

_Choice = TypeVar("_Choice")

WEATHERS: tuple[str, ...] = get_args(Weather)
TIMES_OF_DAY: tuple[str, ...] = get_args(TimeOfDay)

_SUN_ELEVATION_RAD = {"day": (0.5, 1.1), "dusk": (0.06, 0.16), "night": (-0.5, -0.3)}


@dataclass(frozen=True)
class Conditions:
    """The drawn values."""

    map_seed: int
    atmosphere: Atmosphere
    per_km: float
    start_s_m: float
    start_speed_mps: float


def draw_conditions(scenario: Scenario, seed: int) -> Conditions:
    """Draw everything that `randomise` leaves to the seed. A fixed value uses up its draw too, so that setting one
    does not change the others."""
    generator, randomise = make_generator(seed, "conditions"), scenario.randomise
    weather = _choose(generator, randomise.weather, scenario.weather)
    time_of_day = _choose(generator, randomise.time_of_day, scenario.time_of_day)
    density = randomise.per_km
    share = float(generator.uniform())
    per_km = density.low + share * (density.high - density.low) if density else scenario.traffic.per_km
    shift = float(generator.uniform(randomise.start_shift_m.low, randomise.start_shift_m.high))
    speed = float(generator.uniform(scenario.ego.speed_mps.low, scenario.ego.speed_mps.high))
    azimuth = float(generator.uniform(-np.pi, np.pi))
    elevation = float(generator.uniform(*_SUN_ELEVATION_RAD[time_of_day]))
    return Conditions(
        map_seed=seed % randomise.map_variants,
        atmosphere=Atmosphere(weather, time_of_day, azimuth, elevation),
        per_km=per_km,
        start_s_m=scenario.ego.s_m + shift,
        start_speed_mps=speed,
    )


def fix_conditions(scenario: Scenario, weather: str | None, time_of_day: str | None) -> Scenario:
    """The scenario with another weather or time of day, whatever it leaves to the seed; None leaves it alone.

    Traffic, map and start stay those of the seed.

    Raises:
        ScenarioError: no such weather or time of day; the message lists those there are.
    """
    for name, value, valid in (("weather", weather, WEATHERS), ("time of day", time_of_day, TIMES_OF_DAY)):
        if value is not None and value not in valid:
            raise ScenarioError(f"expected a {name} of {', '.join(valid)}, got {value!r}")
    fixed: dict[str, Any] = {}
    free: dict[str, Any] = {}
    if weather is not None:
        fixed["weather"], free["weather"] = weather, ()
    if time_of_day is not None:
        fixed["time_of_day"], free["time_of_day"] = time_of_day, ()
    return scenario.model_copy(update={**fixed, "randomise": scenario.randomise.model_copy(update=free)})


def _choose(generator: np.random.Generator, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
    draw = int(generator.integers(0, 1 << 30))
    return choices[draw % len(choices)] if choices else default
