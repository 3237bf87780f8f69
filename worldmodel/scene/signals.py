"""Traffic lights: groups take turns, each green, yellow, then red for everybody for a moment."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .clock import FRAME_DT_S
from .state import LightState
from .world import StaticWorld

YELLOW_S = 3.0
ALL_RED_S = 1.5
_ALONE_RED_S = 9.0  # red of a group that has no other to give way to


@dataclass
class Signals:
    """The cycle of all lights of a world. `group_of[i]` is the group of light i."""

    group_of: tuple[int, ...]
    green_s: dict[int, float]
    time_s: float = 0.0
    groups: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = tuple(sorted(set(self.group_of)))

    @staticmethod
    def of(world: StaticWorld, generator: np.random.Generator) -> "Signals":
        """Green times and the moment in the cycle are drawn."""
        group_of = tuple(light.group for light in world.lights)
        green = {group: float(generator.uniform(9.0, 14.0)) for group in sorted(set(group_of))}
        signals = Signals(group_of, green)
        signals.time_s = float(generator.uniform(0.0, max(signals.cycle_s, 1.0)))
        return signals

    @property
    def cycle_s(self) -> float:
        """Length of one whole cycle."""
        rest = _ALONE_RED_S if len(self.groups) == 1 else 0.0
        return sum(self.green_s[group] + YELLOW_S + ALL_RED_S for group in self.groups) + rest

    @property
    def states(self) -> tuple[LightState, ...]:
        """What every light shows."""
        shown = {group: self.state_of(group) for group in self.groups}
        return tuple(shown[group] for group in self.group_of)

    def state_of(self, group: int) -> LightState:
        """What the lights of a group show."""
        since = self._since_green(group)
        if since < self.green_s[group]:
            return "green"
        return "yellow" if since < self.green_s[group] + YELLOW_S else "red"

    def red_for_s(self, group: int) -> float:
        """How long a group that shows red stays so; 0 if it does not."""
        return self.cycle_s - self._since_green(group) if self.state_of(group) == "red" else 0.0

    def step(self, dt_s: float = FRAME_DT_S) -> None:
        """Let time pass."""
        self.time_s += dt_s

    def turn(self, group: int, to: LightState) -> None:
        """Jump in the cycle: a green group starts its yellow; for a red one, whoever goes before it does."""
        start = self._start_of(group)
        if to == "red" and self.state_of(group) == "green":
            self.time_s = start + self.green_s[group]
        elif to == "green" and self.red_for_s(group) > YELLOW_S + ALL_RED_S:
            self.time_s = start - YELLOW_S - ALL_RED_S + (self.cycle_s if start == 0.0 else 0.0)

    def begin_green(self, group: int) -> None:
        """Show the start of a group's green at once; for the making of a scene."""
        self.time_s = self._start_of(group)

    def state_dict(self) -> dict[str, Any]:
        """Everything that can change."""
        return {"time_s": self.time_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.time_s = state["time_s"]

    def _start_of(self, group: int) -> float:
        before = self.groups[: self.groups.index(group)]
        return sum(self.green_s[g] + YELLOW_S + ALL_RED_S for g in before)

    def _since_green(self, group: int) -> float:
        return (self.time_s - self._start_of(group)) % self.cycle_s
