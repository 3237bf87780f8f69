"""Scripted events: each waits for its trigger, then does one thing to traffic, people or lights.

A script is prepared when the scene is made (it puts its actor in place), asked once per frame whether its moment has come,
and steers its actor before and after that moment.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from .lane_graph import LaneGraph
from .pedestrians import Pedestrians
from .route import FRONT_M, Route
from .scenario import (
    CrossingPedestrian,
    CutIn,
    Event,
    HardBrake,
    LightChange,
    ScenarioError,
    Trigger,
    VehicleSpawn,
)
from .signals import Signals
from .spawning import Spawner
from .state import EgoState
from .traffic import Traffic
from .vehicle import TrafficVehicle

_ROOM_M = 100.0  # free lane ahead of who has to keep level with the ego
_KERB_NEAR_M, _KERB_FAR_M = 2.9, 2.9  # beyond the carriageway's edge: past parking bays, on the sidewalk


@dataclass(frozen=True, eq=False)
class Stage:
    """What scripts may look at and act on."""

    graph: LaneGraph
    route: Route
    traffic: Traffic
    pedestrians: Pedestrians
    signals: Signals


@dataclass(frozen=True)
class Moment:
    """One frame, as triggers see it."""

    time_s: float
    ego: EgoState
    ego_s_m: float  # along the route
    start_s_m: float  # where the ego started

    def reached(self, trigger: Trigger, distance_m: float | None) -> bool:
        """Whether a trigger's moment has come; `distance_m` is the way to where the event happens, if known."""
        if trigger.time_s is not None:
            return self.time_s >= trigger.time_s - 1e-6
        if trigger.ego_s_m is not None:
            return self.ego_s_m - self.start_s_m >= trigger.ego_s_m
        assert trigger.time_gap_s is not None
        return distance_m is not None and distance_m <= trigger.time_gap_s * max(self.ego.speed_mps, 0.5)


class Script(ABC):
    """One event of a running scene."""

    def __init__(self, trigger: Trigger):
        self.trigger = trigger
        self.actor = -1  # id of its vehicle or person
        self.started_s: float | None = None

    def step(self, stage: Stage, moment: Moment) -> None:
        """One frame."""
        if self.started_s is None:
            distance = self.distance_m(stage, moment)
            if moment.reached(self.trigger, distance) and self.start(stage, moment):
                self.started_s = moment.time_s
            else:
                self.hold(stage, moment)

    @abstractmethod
    def distance_m(self, stage: Stage, moment: Moment) -> float | None:
        """Way from the ego's front bumper to where it happens; None if there is no such place now."""

    @abstractmethod
    def start(self, stage: Stage, moment: Moment) -> bool:
        """Do it. False if it cannot be done yet."""

    def hold(self, stage: Stage, moment: Moment) -> None:  # noqa: B027 - most actors need no holding
        """Keep the actor ready."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that can change."""
        return {"actor": self.actor, "started_s": self.started_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.actor, self.started_s = state["actor"], state["started_s"]


class CutInScript(Script):
    """A vehicle keeps level with a place ahead of the ego on the lane beside it, then moves over."""

    def __init__(self, spec: CutIn, stage: Stage, spawner: Spawner, moment: Moment, where: str):
        super().__init__(spec.trigger)
        self.spec = spec
        ahead = spec.gap_m + 5.0
        spawn = VehicleSpawn(kind=spec.vehicle, ahead_m=ahead, side=spec.side, speed_mps=moment.ego.speed_mps)
        vehicle = spawner.place(spawn, stage.route.path, moment.ego_s_m, where)
        spawner.reserve(vehicle, _ROOM_M)
        self.actor = vehicle.id

    def distance_m(self, stage: Stage, moment: Moment) -> float | None:
        """Net gap to the vehicle that will cut in."""
        vehicle = _vehicle(stage.traffic, self.actor)
        return None if vehicle is None else _gap(vehicle, moment.ego)

    def hold(self, stage: Stage, moment: Moment) -> None:
        """Follow the ego's speed, and close the distance to the wanted gap."""
        vehicle = _vehicle(stage.traffic, self.actor)
        if vehicle is not None:
            faster, short = moment.ego.speed_mps - vehicle.speed, self.spec.gap_m - _gap(vehicle, moment.ego)
            vehicle.paced_mps2 = float(np.clip(1.2 * faster + 0.35 * short, -3.0, 3.0))

    def start(self, stage: Stage, moment: Moment) -> bool:
        """Change to the ego's lane."""
        vehicle = _vehicle(stage.traffic, self.actor)
        if vehicle is None or _gap(vehicle, moment.ego) < 0.8 * self.spec.gap_m:
            return False
        start, end, lane = vehicle.plan[0]
        target = (start, end, lane + (1 if self.spec.side == "left" else -1))
        if (
            target not in stage.graph.lanes
            or vehicle.leaving
            or stage.graph[target].length_m - vehicle.s_m < 60.0
        ):
            return False
        vehicle.leaving, vehicle.plan = vehicle.plan[0], [target]
        vehicle.locate(stage.graph)
        vehicle.paced_mps2 = None
        vehicle.wanted_mps = self.spec.speed_share * moment.ego.speed_mps
        return True


class HardBrakeScript(Script):
    """The vehicle that the ego follows brakes for a while."""

    def __init__(self, spec: HardBrake):
        super().__init__(spec.trigger)
        self.spec = spec

    def distance_m(self, stage: Stage, moment: Moment) -> float | None:
        """Net gap to the leader."""
        leader = _leader(stage, moment)
        return None if leader is None else _gap(leader, moment.ego)

    def start(self, stage: Stage, moment: Moment) -> bool:
        """Force the leader's brakes."""
        leader = _leader(stage, moment)
        if leader is None or leader.speed < 2.0:
            return False
        leader.forced_accel, leader.forced_s = -self.spec.brake_mps2, self.spec.duration_s
        self.actor = leader.id
        return True


class CrossingPedestrianScript(Script):
    """Somebody waits beside the road and walks across it."""

    def __init__(self, spec: CrossingPedestrian, stage: Stage, moment: Moment):
        super().__init__(spec.trigger)
        path = stage.route.path
        self.s_m = min(moment.start_s_m + spec.at_s_m, path.length_m)
        half = float(np.interp(self.s_m, path.s_m, path.half_width_m))
        right, left = -half - _KERB_NEAR_M, 3.0 * half + _KERB_FAR_M  # the ego drives right of the middle
        ends = [path.pose_at(self.s_m, offset)[:2] for offset in (right, left)]
        line = np.array(ends if spec.side == "right" else ends[::-1])
        self.actor = stage.pedestrians.add_actor(line, spec.speed_mps)

    def distance_m(self, stage: Stage, moment: Moment) -> float | None:
        """Way to the crossing line; None once it is behind."""
        distance = self.s_m - moment.ego_s_m - FRONT_M
        return distance if distance > 0.0 else None

    def start(self, stage: Stage, moment: Moment) -> bool:
        """Let the person go."""
        stage.pedestrians.send(self.actor)
        return True


class LightChangeScript(Script):
    """The next light on the route changes."""

    def __init__(self, spec: LightChange):
        super().__init__(spec.trigger)
        self.spec = spec

    def distance_m(self, stage: Stage, moment: Moment) -> float | None:
        """Way to the stop line."""
        found = stage.route.next_light(stage.graph, moment.ego_s_m + FRONT_M)
        return None if found is None else found[1]

    def start(self, stage: Stage, moment: Moment) -> bool:
        """Turn it, if it does not show that already."""
        found = stage.route.next_light(stage.graph, moment.ego_s_m + FRONT_M)
        if found is None:
            return False
        stage.signals.turn(stage.signals.group_of[found[0]], self.spec.to)
        return True


def prepare(event: Event, stage: Stage, spawner: Spawner, moment: Moment, where: str) -> Script:
    """Put an event's actor in place.

    Raises:
        ScenarioError: the map has no place for it (no lane beside the ego, no light on the route).
    """
    if isinstance(event, CutIn):
        return CutInScript(event, stage, spawner, moment, where)
    if isinstance(event, HardBrake):
        return HardBrakeScript(event)
    if isinstance(event, CrossingPedestrian):
        return CrossingPedestrianScript(event, stage, moment)
    if not any(stage.graph[lane].light is not None for lane in stage.route.path.lanes):
        raise ScenarioError(f"{where}: expected a light on the route, got none")
    return LightChangeScript(event)


def _vehicle(traffic: Traffic, id: int) -> TrafficVehicle | None:
    return next((vehicle for vehicle in traffic.vehicles if vehicle.id == id), None)


def _gap(vehicle: TrafficVehicle, ego: EgoState) -> float:
    """Net distance ahead of the ego's front bumper, along its heading."""
    dx, dy = vehicle.position[0] - ego.x_m, vehicle.position[1] - ego.y_m
    along = dx * np.cos(ego.yaw_rad) + dy * np.sin(ego.yaw_rad)
    return float(along - FRONT_M - 0.5 * vehicle.body.length_m)


def _leader(stage: Stage, moment: Moment) -> TrafficVehicle | None:
    """The nearest vehicle ahead on the ego's path, within 80 m."""
    near: list[tuple[float, TrafficVehicle]] = []
    for vehicle in stage.traffic.vehicles:
        gap = _gap(vehicle, moment.ego)
        if not vehicle.parked and 0.0 < gap < 80.0:
            pose = stage.route.path.project(
                vehicle.position[0], vehicle.position[1], vehicle.heading, moment.ego_s_m + gap
            )
            if abs(pose.offset_m) < 1.3 and abs(pose.heading_error_rad) < 0.6:
                near.append((gap, vehicle))
    return min(near, key=lambda pair: pair[0], default=(0.0, None))[1]
