"""People on foot: some walk along sidewalks, some wait at crossings and cross when it is safe, some are sent by events."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import shapely

from .clock import FRAME_DT_S
from .state import AgentState
from .world import StaticWorld

FIRST_ID = 20_000
SIZE_M = (0.5, 0.6, 1.75)  # along, across, height
LOOK_AHEAD_S = 2.2  # drivers keep clear of where somebody will be within this time
_FROM_KERB_M = 2.1
_BESIDE_KERB_M = 1.1  # where people wait
_SHORTEST_M = 12.0
_LOOK_AGAIN_S = 0.5

Role = Literal["walker", "crosser", "actor"]


@dataclass
class Pedestrian:
    """Somebody who walks along a polyline, to and fro. Actors go once, when told."""

    id: int
    role: Role
    line: int  # index into the walking lines, the crossings, or the actors' lines
    s_m: float
    direction: int
    speed_mps: float
    aside_m: float
    color_rgb: tuple[int, int, int]
    walking: bool
    wait_s: float = 0.0


class Walk:
    """A polyline [N, 2] that people walk along."""

    def __init__(self, line: np.ndarray):
        self.line = line
        steps = np.diff(line, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        self._xy: list[list[float]] = line.tolist()
        self._yaw: list[float] = np.arctan2(steps[:, 1], steps[:, 0]).tolist()
        self._s: list[float] = [0.0, *np.cumsum(lengths).tolist()]
        self.length_m = self._s[-1]

    def pose(self, s_m: float, aside_m: float) -> tuple[float, float, float]:
        """x, y and heading at an arc length and a left offset."""
        k = min(max(bisect_right(self._s, s_m) - 1, 0), len(self._yaw) - 1)
        (x, y), yaw, along = self._xy[k], self._yaw[k], s_m - self._s[k]
        cos, sin = math.cos(yaw), math.sin(yaw)
        return x + along * cos - aside_m * sin, y + along * sin + aside_m * cos, yaw


class Pedestrians:
    """Everybody on foot."""

    def __init__(self, world: StaticWorld, generator: np.random.Generator):
        self.generator = generator
        self.crossings = [Walk(_extended(crossing.line)) for crossing in world.crossings]
        self.walks = _walks(world)
        self.actor_lines: list[Walk] = []
        self.people: list[Pedestrian] = []

    def populate(self, walkers: int, crossers: int) -> None:
        """Add people at random places; a map without sidewalks or crossings stays empty."""
        lengths = np.array([walk.length_m for walk in self.walks])
        for _ in range(walkers if self.walks else 0):
            line = int(self.generator.choice(len(lengths), p=lengths / lengths.sum()))
            self._add("walker", line, float(self.generator.uniform(0.0, lengths[line])), True)
        for _ in range(crossers if self.crossings else 0):
            line = int(self.generator.integers(len(self.crossings)))
            person = self._add("crosser", line, 0.0, False)
            person.s_m = 0.0 if person.direction > 0 else self.crossings[line].length_m
            person.wait_s = float(self.generator.uniform(0.0, 4.0))

    def add_actor(self, line: np.ndarray, speed_mps: float) -> int:
        """Somebody who waits at the start of a line [2, 2] until `send` is called. Returns the id."""
        self.actor_lines.append(Walk(line))
        person = self._add("actor", len(self.actor_lines) - 1, 0.0, False)
        person.direction, person.speed_mps, person.aside_m = 1, speed_mps, 0.0
        return person.id

    def send(self, id: int) -> None:
        """Let an actor go."""
        next(p for p in self.people if p.id == id).walking = True

    def step(self, may_cross: Callable[[int, float], bool], dt_s: float = FRAME_DT_S) -> None:
        """Move everybody. `may_cross(crossing, seconds)` says whether a crossing is safe for so long."""
        for person in self.people:
            length = self._walk(person).length_m
            if person.walking:
                person.s_m = float(
                    np.clip(person.s_m + person.direction * person.speed_mps * dt_s, 0.0, length)
                )
                if person.s_m in (0.0, length):
                    self._arrive(person)
            elif person.role == "crosser":
                person.wait_s -= dt_s
                if person.wait_s <= 0.0:
                    person.walking = may_cross(person.line, length / person.speed_mps)
                    person.wait_s = _LOOK_AGAIN_S

    def agents(self) -> list[AgentState]:
        """Everybody as agents, by id."""
        return [self._agent(person) for person in self.people]

    def claims(self, look_ahead_s: float = LOOK_AHEAD_S) -> np.ndarray:
        """Ground that people use now or soon (walkers on the sidewalk: within 2 s at most), as boxes [M, 6]: x, y, yaw, length, width, speed 0."""
        rows = []
        for person in self.people:
            x, y, yaw, speed = self._pose(person)
            ahead = speed * (LOOK_AHEAD_S if person.role == "walker" else look_ahead_s)
            if person.role != "walker":
                walk = self._walk(person)
                ahead = min(ahead, walk.length_m - person.s_m if person.direction > 0 else person.s_m)
            middle = (x + 0.5 * ahead * math.cos(yaw), y + 0.5 * ahead * math.sin(yaw))
            rows.append((*middle, yaw, SIZE_M[0] + ahead, SIZE_M[1], 0.0))
        return np.array(rows, float).reshape(-1, 6)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the generator."""
        return {
            "people": [{**vars(person), "color_rgb": list(person.color_rgb)} for person in self.people],
            "actor_lines": [walk.line.tolist() for walk in self.actor_lines],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.people = [Pedestrian(**{**p, "color_rgb": tuple(p["color_rgb"])}) for p in state["people"]]
        self.actor_lines = [Walk(np.array(line)) for line in state["actor_lines"]]

    def _add(self, role: Role, line: int, s_m: float, walking: bool) -> Pedestrian:
        g = self.generator
        person = Pedestrian(
            FIRST_ID + len(self.people),
            role,
            line,
            s_m,
            1 if g.uniform() < 0.5 else -1,
            float(g.uniform(1.1, 1.7)),
            float(g.uniform(-0.35, 0.35)),
            tuple(int(c) for c in g.integers(30, 220, 3)),  # type: ignore[arg-type]
            walking,
        )
        self.people.append(person)
        return person

    def _arrive(self, person: Pedestrian) -> None:
        person.direction = -person.direction
        if person.role == "crosser":
            person.walking, person.wait_s = False, float(self.generator.uniform(6.0, 20.0))
        elif person.role == "actor":
            person.walking = False

    def _walk(self, person: Pedestrian) -> Walk:
        walks = {"walker": self.walks, "crosser": self.crossings, "actor": self.actor_lines}
        return walks[person.role][person.line]

    def _pose(self, person: Pedestrian) -> tuple[float, float, float, float]:
        """x, y, heading, speed."""
        x, y, yaw = self._walk(person).pose(person.s_m, person.aside_m)
        if person.direction < 0:
            yaw += math.pi
        return x, y, (yaw + math.pi) % (2 * math.pi) - math.pi, person.speed_mps * person.walking

    def _agent(self, person: Pedestrian) -> AgentState:
        x, y, yaw, speed = self._pose(person)
        return AgentState(person.id, "pedestrian", x, y, yaw, speed, *SIZE_M, person.color_rgb)


def _extended(line: np.ndarray) -> np.ndarray:
    """A crossing from where people wait to where they arrive."""
    along = (line[1] - line[0]) / np.linalg.norm(line[1] - line[0])
    return np.stack([line[0] - _BESIDE_KERB_M * along, line[1] + _BESIDE_KERB_M * along])


def _walks(world: StaticWorld) -> list[Walk]:
    """Lines on sidewalks, parallel to the kerbs."""
    areas = [shapely.Polygon(s.polygon) for s in world.surfaces if s.kind == "sidewalk"]
    if not areas:
        return []
    area = shapely.union_all(areas).buffer(-0.4)
    road = shapely.union_all(
        [shapely.Polygon(s.polygon) for s in world.surfaces if s.kind in ("asphalt", "parking")]
    )
    walkable = area.difference(road.buffer(0.8))
    shapely.prepare(walkable)
    lines = []
    for marking in world.markings:
        if marking.kind == "kerb":
            for side in (-_FROM_KERB_M, _FROM_KERB_M):
                moved = shapely.LineString(marking.line).offset_curve(side)
                lines += [
                    Walk(_resampled(part))
                    for part in shapely.get_parts(moved.intersection(walkable))
                    if part.length > _SHORTEST_M
                ]
    return lines


def _resampled(line: shapely.LineString) -> np.ndarray:
    at = np.linspace(0.0, line.length, max(2, round(line.length / 1.5) + 1))
    return np.array([line.interpolate(s).coords[0] for s in at])
