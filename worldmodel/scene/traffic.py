"""Everybody else who drives: decide, move, leave, come back. Reacts to the ego, lights, people and each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .clock import FRAME_DT_S
from .corridor import Boxes, gaps
from .idm import IdmParameters, follow_accel, free_term, stop_accel
from .lane_graph import LaneGraph
from .path import LaneIndex
from .right_of_way import Mover, settle
from .state import AgentState, LightState
from .traffic_road import TrafficRoad
from .vehicle import PLAN_M, EgoVehicle, TrafficVehicle

_IDM = IdmParameters()  # how all keep distance; they differ in how they speed up
_STRIDES = 2 * np.arange(46)  # samples of a corridor: about 90 m
_SIDE_M = 0.3  # free space wanted beside the vehicle
_LONG_M = 7.0  # longer vehicles need more room in turns than our junctions have
DRIVEN_OFF_MPS = 3.0  # from here on, a vehicle does not wait any more
FIRST_AT_LINE_M, CLEARS_AFTER_S = 5.0, 2.5  # see must_stop
_REACH_M = 70.0  # how far ahead junctions matter


@dataclass(frozen=True)
class RoadView:
    """What traffic reacts to besides itself, at one frame."""

    boxes: np.ndarray  # float64 [M, 6] x, y, yaw, length, width, speed: people and things, not vehicles
    lights: tuple[LightState, ...]
    ego_box: np.ndarray  # float64 [6], as above
    ego_lane: LaneIndex
    ego_wanted_mps: float
    ego_mover: Mover  # the ego's coming lanes


class Traffic:
    """All vehicles but the ego."""

    def __init__(self, graph: LaneGraph, network: Any, generator: np.random.Generator):
        self.graph = graph
        self.generator = generator
        self.road = TrafficRoad(graph, network)
        self.road.np_random = generator
        self.vehicles: list[TrafficVehicle] = self.road.vehicles
        self.ego = EgoVehicle(self.road)
        self._path_cache: dict[int, tuple[tuple[LaneIndex, ...], np.ndarray, np.ndarray, np.ndarray]] = {}

    def step(self, view: RoadView, dt_s: float = FRAME_DT_S) -> None:
        """Move everybody by one frame."""
        moving = [v for v in self.vehicles if not v.parked]
        self._see_ego(view)
        self.road.index([*self.vehicles, self.ego])
        for vehicle in moving:
            self._extend_plan(vehicle)
            vehicle.target_speed = self._wanted_mps(vehicle)
            if vehicle.enable_lane_change or self.graph[vehicle.plan[0]].dead_end:
                self._change_lane(vehicle)
        if moving:
            self._decide(moving, view, dt_s)
        for vehicle in moving:
            vehicle.step(dt_s)
            vehicle.locate(self.graph)
            if vehicle.speed > DRIVEN_OFF_MPS or self._at_red(vehicle, view.lights):
                vehicle.waited_s = 0.0
            elif vehicle.speed < 0.5:
                vehicle.waited_s += dt_s

    def boxes(self, brakes_s: float = 0.0) -> np.ndarray:
        """Boxes of all vehicles, float64 [K, 6]: x, y, yaw, length, width, speed after braking on for `brakes_s`."""
        rows = []
        for v in self.vehicles:
            speed = max(v.speed + brakes_s * min(v.action["acceleration"], 0.0), 0.0)
            rows.append((*v.position, v.heading, v.body.length_m, v.body.width_m, speed))
        return np.array(rows, float).reshape(-1, 6)

    def intents(self) -> tuple[list[int], np.ndarray]:
        """Who changes lane, with the box that each will soon fill on the new lane: ids, float64 [N, 6]."""
        changing = [v for v in self.vehicles if v.leaving]
        rows = []
        for v in changing:
            lane = self.graph[v.plan[0]].lane
            rows.append(
                (*lane.position(v.s_m, 0.0), lane.heading_at(v.s_m), v.body.length_m, v.body.width_m, v.speed)
            )
        return [v.id for v in changing], np.array(rows, float).reshape(-1, 6)

    def agents(self) -> list[AgentState]:
        """All vehicles as agents, by id."""
        return [_agent(vehicle) for vehicle in sorted(self.vehicles, key=lambda v: v.id)]

    def movers(self, lights: Sequence[LightState]) -> list[Mover]:
        """Every vehicle as an onlooker sees it: copies that ask for nothing."""
        movers = [self._mover(vehicle, lights) for vehicle in self.vehicles if not vehicle.parked]
        return [replace(m, cleared=set(m.cleared), asks=False) for m in movers]

    def remove(self, vehicle: TrafficVehicle) -> None:
        """Take a vehicle off the road."""
        self.vehicles.remove(vehicle)
        self._path_cache.pop(vehicle.id, None)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the generator."""
        return {"vehicles": [vehicle.state_dict() for vehicle in self.vehicles]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.vehicles[:] = [TrafficVehicle.from_state(s, self.road, self.graph) for s in state["vehicles"]]
        self._path_cache.clear()

    # Lanes ------------------------------------------------------------------------------------------------------

    def _see_ego(self, view: RoadView) -> None:
        x, y, yaw, _, _, speed = view.ego_box
        ego = self.ego
        ego.position, ego.heading, ego.speed = np.array([x, y]), float(yaw), float(speed)
        ego.plan = [view.ego_lane]
        ego.lane_index = ego.target_lane_index = view.ego_lane
        ego.target_speed = view.ego_wanted_mps
        ego.s_m = float(self.graph[view.ego_lane].lane.local_coordinates(ego.position)[0])

    def _extend_plan(self, vehicle: TrafficVehicle) -> None:
        ahead = sum(self.graph[lane].length_m for lane in vehicle.plan) - vehicle.s_m
        while ahead < PLAN_M and (after := self.graph[vehicle.plan[-1]].after):
            lane = self._choose(after, vehicle.body.length_m)
            vehicle.plan.append(lane)
            ahead += self.graph[lane].length_m

    def _choose(self, after: Sequence[LaneIndex], length_m: float) -> LaneIndex:
        """Any of the lanes that follow; long vehicles go straight on where they can."""
        if length_m > _LONG_M:
            after = [lane for lane in after if abs(self.graph[lane].turn_rad) < 0.5] or after
        return after[int(self.generator.integers(len(after)))] if len(after) > 1 else after[0]

    def _change_lane(self, vehicle: TrafficVehicle) -> None:
        before = vehicle.plan[0]
        vehicle.consider_lane_change(self.graph)
        if vehicle.plan[0] != before:
            self.road.enter(vehicle, vehicle.plan[0])
            self._extend_plan(vehicle)

    def _path(self, vehicle: TrafficVehicle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points [N, 2], arc lengths [N] and speed limits [N] along its plan, from the start of plan[0]."""
        key = tuple(vehicle.plan)
        cached = self._path_cache.get(vehicle.id)
        if cached is None or cached[0] != key:
            infos = [self.graph[lane] for lane in key]
            start = np.concatenate([[0.0], np.cumsum([info.length_m for info in infos])])
            points = np.concatenate([info.points for info in infos])
            s = np.concatenate([info.s_m + at for info, at in zip(infos, start, strict=False)])
            speed = np.concatenate([info.speed_mps for info in infos])
            cached = self._path_cache[vehicle.id] = (key, points, s, speed)
        return cached[1:]

    def _wanted_mps(self, vehicle: TrafficVehicle) -> float:
        """Limit and bends ahead, such that comfortable braking is enough."""
        _, s, speed = self._path(vehicle)
        low = int(s.searchsorted(vehicle.s_m))
        high = min(low + 80, len(s))
        if low >= high:
            low = high - 1
        share = vehicle.speed_share
        room = np.maximum(s[low:high] - vehicle.s_m, 0.0)
        limit = np.sqrt((share * speed[low:high]) ** 2 + 2.0 * 1.8 * room)
        own = vehicle.wanted_mps if vehicle.wanted_mps is not None else np.inf
        return float(min(limit.min(), own))

    # Decisions --------------------------------------------------------------------------------------------------

    def _decide(self, moving: list[TrafficVehicle], view: RoadView, dt_s: float) -> None:
        rows = [(v, v.plan[0]) for v in moving] + [(v, v.leaving) for v in moving if v.leaving]
        corridors = [self._corridor(vehicle, lane) for vehicle, lane in rows]
        points, s = (np.stack(part) for part in zip(*corridors, strict=True))
        width = np.array([0.5 * v.body.width_m + _SIDE_M for v, _ in rows])
        changing, soon = self.intents()
        boxes = Boxes.of(np.concatenate([self.boxes(), soon, view.ego_box[None], view.boxes]))
        gap, leader = gaps(points, s, width, boxes)
        owners = np.array([*(v.id for v in self.vehicles), *changing])
        mine = np.array([v.id for v, _ in rows])[:, None] == owners
        gap[:, : len(owners)][mine] = np.inf
        slow_m = np.where(np.abs(leader) < 1.5, gap, np.inf).min(axis=1)
        holds = self._holds(moving, view, slow_m)
        free = {vehicle.id: self._free_accel(vehicle) for vehicle in moving}
        speed, want = (
            np.array(part)[:, None] for part in zip(*((v.speed, free[v.id]) for v, _ in rows), strict=True)
        )
        accel = follow_accel(want, speed, gap, np.maximum(leader, 0.0), _IDM).min(axis=1)
        least: dict[int, float] = {}
        for (vehicle, _), value in zip(rows, accel.tolist(), strict=True):
            least[vehicle.id] = min(value, least.get(vehicle.id, np.inf))
        for vehicle in moving:
            stop_m = min(holds[vehicle.id], self._stop_m(vehicle, view.lights))
            vehicle.drive(min(least[vehicle.id], stop_accel(vehicle.speed, stop_m, 2.0)), dt_s)

    def _free_accel(self, vehicle: TrafficVehicle) -> float:
        if vehicle.paced_mps2 is not None:
            return vehicle.paced_mps2
        return free_term(vehicle.speed, vehicle.target_speed, vehicle.idm)

    def _corridor(self, vehicle: TrafficVehicle, lane: LaneIndex) -> tuple[np.ndarray, np.ndarray]:
        """Points [P, 2] and arc lengths [P] from the front bumper on, along the plan or along the lane being left."""
        if lane == vehicle.plan[0]:
            points, s, _ = self._path(vehicle)
            front = vehicle.s_m + 0.5 * vehicle.body.length_m
        else:
            info = self.graph[lane]
            points, s = info.points, info.s_m
            front = (
                info.project(vehicle.position[0], vehicle.position[1], vehicle.s_m)[0]
                + 0.5 * vehicle.body.length_m
            )
        first = int(s.searchsorted(front))
        rows = np.minimum(first + _STRIDES, len(s) - 1)
        along = s[rows]
        return points[rows], along - along[0]

    def _holds(self, moving: list[TrafficVehicle], view: RoadView, slow_m: np.ndarray) -> dict[int, float]:
        movers = [self._mover(vehicle, view.lights, float(slow_m[k])) for k, vehicle in enumerate(moving)]
        settle(self.graph, [*movers, view.ego_mover])
        return {mover.id: mover.hold_m for mover in movers}

    def _mover(self, vehicle: TrafficVehicle, lights: Sequence[LightState], free_m: float = np.inf) -> Mover:
        lanes, start = [], -(vehicle.s_m + 0.5 * vehicle.body.length_m)
        for lane in vehicle.plan:
            if start > _REACH_M:
                break
            lanes.append((lane, start))
            start += self.graph[lane].length_m
            if must_stop(self.graph, lane, start, vehicle.speed, lights, vehicle.waited_s):
                break
        return Mover(
            vehicle.id, lanes, vehicle.speed, vehicle.body.length_m, vehicle.cleared, vehicle.waited_s, free_m
        )

    def _at_red(self, vehicle: TrafficVehicle, lights: Sequence[LightState]) -> bool:
        """Whether it queues at a light: waiting there gives no claim to anything."""
        light = self.graph[vehicle.plan[0]].light
        return light is not None and lights[light] == "red"

    def _stop_m(self, vehicle: TrafficVehicle, lights: Sequence[LightState]) -> float:
        """Way to the nearest line where it has to stop: a light, or the end of a lane that ends."""
        end = -(vehicle.s_m + 0.5 * vehicle.body.length_m)
        for lane in vehicle.plan:
            end += self.graph[lane].length_m
            if end > _REACH_M + 30.0:
                break
            if must_stop(self.graph, lane, end, vehicle.speed, lights, vehicle.waited_s):
                return max(end - 0.8, 0.0)
            if self.graph[lane].dead_end:
                return max(end - 4.0, 0.0)
        return float("inf")


def must_stop(
    graph: LaneGraph,
    lane: LaneIndex,
    end_m: float,
    speed_mps: float,
    lights: Sequence[LightState],
    waited_s: float = 0.0,
) -> bool:
    """Whether a light at the end of a lane, `end_m` ahead of the bumper, means stop to a vehicle that still can.

    Who stood first at the line through the green, to let others pass, clears the junction on yellow.
    """
    light = graph[lane].light
    if light is None or lights[light] == "green" or end_m < -0.5:
        return False
    needed = speed_mps**2 / (2.0 * max(end_m, 0.3))
    if lights[light] == "yellow":
        return needed < 3.2 and not (end_m < FIRST_AT_LINE_M and waited_s > CLEARS_AFTER_S)
    return needed < 7.5


def _agent(vehicle: TrafficVehicle) -> AgentState:
    body = vehicle.body
    return AgentState(
        vehicle.id,
        body.kind,
        float(vehicle.position[0]),
        float(vehicle.position[1]),
        float((vehicle.heading + np.pi) % (2 * np.pi) - np.pi),
        float(vehicle.speed),
        body.length_m,
        body.width_m,
        body.height_m,
        body.color_rgb,
        vehicle.braking,
        vehicle.parked,
    )
