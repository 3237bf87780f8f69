"""Where moving vehicles come from: places that the scenario names, and random ones around the ego."""

from typing import Any

import numpy as np

from .fleet import draw_body
from .lane_graph import LaneGraph, LaneInfo
from .path import LaneIndex, ReferencePath
from .scenario import ScenarioError, VehicleKind, VehicleSpawn
from .scenario import Traffic as TrafficSpec
from .shapes import boxes_overlap
from .state import EGO_SHAPE
from .traffic import Traffic
from .vehicle import TrafficVehicle

NEAR_M, FAR_M = 100.0, 260.0  # new vehicles appear this far from the ego: hardly seen, soon met
GONE_M = 380.0  # vehicles further from the ego are taken away
_START_FAR_M = 240.0


class Spawner:
    """Adds vehicles to traffic and takes them away."""

    def __init__(self, spec: TrafficSpec, per_km: float, traffic: Traffic, generator: np.random.Generator):
        self.spec = spec
        self.traffic = traffic
        self.graph: LaneGraph = traffic.graph
        self.generator = generator
        self.next_id = 1
        self._reserved = np.zeros((0, 6))  # boxes, while the scene is being made
        self.wanted = min(spec.most, round(per_km * _lane_km(self.graph)))
        kinds = sorted(kind for kind, weight in spec.mix.items() if weight > 0)
        self._kinds = kinds
        self._weights = np.cumsum([spec.mix[kind] for kind in kinds])
        self._lanes = [index for index, info in self.graph.lanes.items() if _is_calm(info)]

    def place(self, spawn: VehicleSpawn, path: ReferencePath, ego_s_m: float, where: str) -> TrafficVehicle:
        """Add a vehicle that the scenario names. Raises ScenarioError where there is no such place or no room."""
        lane, s = self._place_of(spawn, path, ego_s_m, where)
        vehicle = self._make(lane, s, spawn.kind, 0.0 if spawn.parked else spawn.speed_mps)
        vehicle.wanted_mps = spawn.wanted_mps
        vehicle.parked = spawn.parked
        vehicle.enable_lane_change = False  # the scenario wants it there
        others = np.concatenate([self._ego_at(path, ego_s_m)[None], self.traffic.boxes()])
        if boxes_overlap(_box(vehicle), others[:, :5]).any():
            raise ScenarioError(
                f"{where}: expected a free place, got one where another vehicle stands ({lane}, {s:.1f} m)"
            )
        self.traffic.vehicles.append(vehicle)
        return vehicle

    def reserve(self, vehicle: TrafficVehicle, ahead_m: float) -> None:
        """Keep the lane ahead of a vehicle free of random ones at the start."""
        lane = self.graph[vehicle.plan[0]].lane
        middle = vehicle.s_m + 0.5 * ahead_m
        row = (
            *lane.position(middle, 0.0),
            lane.heading_at(middle),
            ahead_m,
            vehicle.body.width_m,
            vehicle.speed,
        )
        self._reserved = np.concatenate([self._reserved, [row]])

    def fill(self, ego_box: np.ndarray) -> None:
        """Add random vehicles around the ego until there are as many as wanted."""
        for _ in range(30 * self.wanted):
            if self._driving() >= self.wanted:
                break
            self._try(ego_box, 14.0, _START_FAR_M)
        self._reserved = np.zeros((0, 6))

    def renew(self, ego_box: np.ndarray) -> None:
        """Take away who is gone, and try to add one vehicle out of sight."""
        for vehicle in [v for v in self.traffic.vehicles if not v.parked]:
            if self._left(vehicle, ego_box):
                self.traffic.remove(vehicle)
        if self.spec.respawn and self._driving() < self.wanted:
            self._try(ego_box, NEAR_M, FAR_M)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the generator."""
        return {"next_id": self.next_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.next_id = state["next_id"]

    def _driving(self) -> int:
        return sum(not vehicle.parked for vehicle in self.traffic.vehicles)

    def _left(self, vehicle: TrafficVehicle, ego_box: np.ndarray) -> bool:
        away = float(np.hypot(vehicle.position[0] - ego_box[0], vehicle.position[1] - ego_box[1]))
        last = self.graph[vehicle.plan[-1]]
        ended = len(vehicle.plan) == 1 and not last.dead_end and vehicle.s_m > last.length_m - 3.0
        return ended or away > GONE_M

    def _try(self, ego_box: np.ndarray, near_m: float, far_m: float) -> None:
        """One attempt at a random place; nothing happens where there is no room."""
        if not self._lanes or not self._kinds:
            return
        lane = self._lanes[int(self.generator.integers(len(self._lanes)))]
        info = self.graph[lane]
        s = float(self.generator.uniform(4.0, info.length_m - 4.0))
        kind = self._kinds[
            int(np.searchsorted(self._weights, self.generator.uniform(0.0, self._weights[-1])))
        ]
        speed = float(self.generator.uniform(0.75, 0.95)) * float(np.interp(s, info.s_m, info.speed_mps))
        chance = self.generator.uniform() < info.length_m / self._longest()
        away = float(np.hypot(*(info.lane.position(s, 0.0) - ego_box[:2])))
        if not chance or not near_m < away < far_m:
            return
        speed = min(
            speed,
            float(np.sqrt(2.0 * 1.5 * max(info.length_m - s - 6.0, 0.0)))
            if info.light is not None or info.dead_end
            else speed,
        )
        vehicle = self._make(lane, s, kind, speed)
        if self._has_room(vehicle, ego_box):
            self.traffic.vehicles.append(vehicle)
        else:
            self.next_id -= 1

    def _longest(self) -> float:
        return max(self.graph[lane].length_m for lane in self._lanes)

    def _make(self, lane: LaneIndex, s_m: float, kind: VehicleKind, speed_mps: float) -> TrafficVehicle:
        info = self.graph[lane].lane
        pose = np.array([*info.position(s_m, 0.0), info.heading_at(s_m)])
        vehicle = TrafficVehicle(
            self.traffic.road, self._id(), draw_body(kind, self.generator), pose, speed_mps
        )
        share = self.spec.speed_share
        vehicle.speed_share = float(self.generator.uniform(share.low, share.high))
        vehicle.enable_lane_change = self.spec.lane_changes and kind != "bus"
        vehicle.timer = float(self.generator.uniform(0.0, 1.0))
        vehicle.put_on(self.graph, [lane])
        return vehicle

    def _has_room(self, vehicle: TrafficVehicle, ego_box: np.ndarray) -> bool:
        """Whether everybody near keeps a second and a half of distance at the faster one's speed."""
        boxes = np.concatenate(
            [self.traffic.boxes(), self.traffic.intents()[1], self._reserved, ego_box[None]]
        )
        dx, dy = (boxes[:, :2] - vehicle.position).T
        cos, sin = np.cos(vehicle.heading), np.sin(vehicle.heading)
        along, across = np.abs(cos * dx + sin * dy), np.abs(cos * dy - sin * dx)
        needed = (
            0.5 * (boxes[:, 3] + vehicle.body.length_m) + 5.0 + 1.5 * np.maximum(boxes[:, 5], vehicle.speed)
        )
        beside = across < 0.5 * (boxes[:, 4] + vehicle.body.width_m) + 0.2
        return not bool((beside & (along < needed)).any())

    def _place_of(
        self, spawn: VehicleSpawn, path: ReferencePath, ego_s_m: float, where: str
    ) -> tuple[LaneIndex, float]:
        if spawn.lane is not None and spawn.s_m is not None:
            if spawn.lane not in self.graph.lanes:
                raise ScenarioError(
                    f"{where}: expected a lane of {sorted(self.graph.lanes)}, got {spawn.lane}"
                )
            length = self.graph[spawn.lane].length_m
            if not 0.0 <= spawn.s_m <= length:
                raise ScenarioError(f"{where}: expected s_m in [0, {length:.0f}], got {spawn.s_m:g}")
            return spawn.lane, spawn.s_m
        assert spawn.ahead_m is not None
        s = ego_s_m + EGO_SHAPE.rear_axle_to_center_m + spawn.ahead_m
        if not 0.0 <= s <= path.length_m:
            raise ScenarioError(f"{where}: expected a place on the route, got ahead_m {spawn.ahead_m:g}")
        x, y, yaw = path.pose_at(s)
        start, end, lane = self.graph.nearest(x, y, yaw)
        lane += {"left": -1, "same": 0, "right": 1}[spawn.side]
        if (start, end, lane) not in self.graph.lanes:
            raise ScenarioError(f"{where}: expected a lane on the {spawn.side} of the ego's, got none there")
        return (start, end, lane), float(
            self.graph[start, end, lane].lane.local_coordinates(np.array([x, y]))[0]
        )

    def _ego_at(self, path: ReferencePath, s_m: float) -> np.ndarray:
        x, y, yaw = path.pose_at(s_m)
        ahead = EGO_SHAPE.rear_axle_to_center_m
        middle = (x + ahead * np.cos(yaw), y + ahead * np.sin(yaw))
        return np.array([*middle, yaw, EGO_SHAPE.length_m, EGO_SHAPE.width_m, 0.0])

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id - 1


def _lane_km(graph: LaneGraph) -> float:
    """Kilometres of lane within reach of the ego, at most."""
    return (
        sum(min(info.length_m, 2.0 * _START_FAR_M) for info in graph.lanes.values() if not info.conflicts)
        / 1000.0
    )


def _box(vehicle: TrafficVehicle) -> np.ndarray:
    return np.array([*vehicle.position, vehicle.heading, vehicle.body.length_m, vehicle.body.width_m])


def _is_calm(info: LaneInfo) -> bool:
    """Whether vehicles may appear on a lane: not in junctions, nor where the lane ends."""
    return info.length_m > 15.0 and not info.conflicts and not info.dead_end
