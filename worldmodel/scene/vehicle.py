"""One traffic vehicle: highway-env's IDM and MOBIL driver, with net gaps, a plan of lanes, a size and a paint."""

import math
from typing import Any

import numpy as np
from highway_env.road.road import Road
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.controller import ControlledVehicle

from .clock import FRAME_DT_S
from .fleet import MODELS, Body
from .idm import IdmParameters, follow_accel, free_term
from .lane_graph import LaneGraph
from .path import LaneIndex
from .state import EGO_SHAPE

EGO_ID = 0
PLAN_M = 140.0  # vehicles know their lanes this far ahead
_WHEELBASE_SHARE = 0.6
_PACED_MPS2 = 3.0  # who has to keep level with the ego may speed up so much
_CLOSE_M = 0.8  # a lane change is over at this distance from the new centre


class TrafficVehicle(IDMVehicle):  # type: ignore[misc]
    """A vehicle that drives by itself. `position` is the middle of its box, as in highway-env.

    highway-env's part is the motion (bicycle, steering along a lane) and the choice to change lane (MOBIL, once a
    second). Ours is where it is on which lane, which lanes come next, and how it accelerates.
    """

    KP_LATERAL = 0.7  # calmer lane changes than highway-env's
    MIN_SPEED = 0.0
    LANE_CHANGE_MIN_ACC_GAIN = 0.35
    LANE_CHANGE_MAX_BRAKING_IMPOSED = 1.5
    POLITENESS = 0.2

    def __init__(self, road: Road, id: int, body: Body, pose: np.ndarray, speed_mps: float):
        super().__init__(None, pose[:2], float(pose[2]), speed_mps, timer=0.5)
        self.road = road
        self.id = id
        self.body = body
        self.LENGTH = _WHEELBASE_SHARE * body.length_m  # for highway-env, axles stand at both ends
        self.idm = IdmParameters(accel_mps2=MODELS[body.kind].accel_mps2)
        self.plan: list[LaneIndex] = []  # lanes to drive, the first is the one it is on or changes to
        self.leaving: LaneIndex | None = None  # the lane that a lane change leaves
        self.s_m = self.lateral_m = 0.0  # on plan[0]
        self.speed_share = 1.0
        self.wanted_mps: float | None = None  # overrides the lanes' limits
        self.parked = False
        self.cleared: set[LaneIndex] = set()  # see right_of_way
        self.waited_s = 0.0
        self.paced_mps2: float | None = None  # set by events: instead of what it would do on an empty road
        self.forced_accel: float | None = None  # set by events: at most this
        self.forced_s = 0.0

    @property
    def braking(self) -> bool:
        """Whether its brake lamps are lit."""
        return bool(self.action["acceleration"] < -0.7 or (self.speed < 0.3 and not self.parked))

    def put_on(self, graph: LaneGraph, plan: list[LaneIndex]) -> None:
        """Place it on a lane plan."""
        self.plan, self.leaving = plan, None
        self.s_m = float(graph[plan[0]].lane.local_coordinates(self.position)[0])
        self.locate(graph)

    def locate(self, graph: LaneGraph) -> None:
        """Find its lane coordinates after a move, and step to the next lane of its plan where one ends."""
        x, y = float(self.position[0]), float(self.position[1])
        self.s_m, self.lateral_m = graph[self.plan[0]].project(x, y, self.s_m)
        while self.s_m > graph[self.plan[0]].length_m and len(self.plan) > 1:
            self.plan.pop(0)
            self.leaving = None
            self.s_m, self.lateral_m = graph[self.plan[0]].project(x, y, 0.0)
        if self.leaving and abs(self.lateral_m) < _CLOSE_M:
            self.leaving = None
        self._stand_on(graph)

    def _stand_on(self, graph: LaneGraph) -> None:
        self.target_lane_index = self.plan[0]
        self.lane_index = self.leaving or self.plan[0]
        self.lane = graph[self.lane_index].lane

    def on_state_update(self) -> None:
        """highway-env looks the lane up in the whole network here; `locate` follows the plan instead."""

    def consider_lane_change(self, graph: LaneGraph) -> None:
        """Let MOBIL choose, where there is room to finish the change on this lane."""
        here = graph[self.plan[0]]
        room = here.length_m - self.s_m
        if here.dead_end and self.leaving is None:
            self._merge(graph, room)
        elif self.leaving is None and room < max(45.0, 3.5 * self.speed):
            return
        else:
            self.change_lane_policy()
        if self.target_lane_index != self.plan[0]:
            if graph[self.target_lane_index].dead_end:
                self.target_lane_index = self.plan[0]
            else:
                self.leaving = self.plan[0]
                self.plan = [self.target_lane_index]
                self.locate(graph)

    def _merge(self, graph: LaneGraph, room_m: float) -> None:
        """Leave a lane that ends as soon as there is a gap, a smaller one the nearer the end."""
        start, end, lane = self.plan[0]
        for target in ((start, end, lane - 1), (start, end, lane + 1)):
            if target not in graph.lanes or graph[target].dead_end:
                continue
            ahead, behind = self.road.neighbour_vehicles(self, target)
            bearable = -1.5 - 2.5 * max(1.0 - room_m / 120.0, 0.0)
            if self._fits(self, ahead, bearable) and self._fits(behind, self, bearable):
                self.target_lane_index = target
                return

    def _fits(self, follower: Any, leader: Any, bearable_mps2: float) -> bool:
        """Whether one vehicle could follow another without harsh braking."""
        if follower is None or leader is None:
            return True
        gap = _net_gap(follower, leader)
        return gap > 3.0 + 0.25 * follower.speed and self.acceleration(follower, leader) > bearable_mps2

    def acceleration(
        self, ego_vehicle: ControlledVehicle, front_vehicle: Any = None, rear_vehicle: Any = None
    ) -> float:
        """IDM with net gaps; called by MOBIL to compare lanes."""
        if ego_vehicle is None:
            return 0.0
        accel = free_term(ego_vehicle.speed, ego_vehicle.target_speed, self.idm)
        if front_vehicle is not None:
            gap = _net_gap(ego_vehicle, front_vehicle)
            accel = float(follow_accel(accel, ego_vehicle.speed, gap, front_vehicle.speed, self.idm))
        return accel

    def steering_control(self, target_lane_index: LaneIndex) -> float:
        """Steer such that the middle of the vehicle moves along the lane, back to its centre where it is off it.

        highway-env turns the body along the lane, which takes long vehicles into the inside of bends.
        """
        lane = self.road.network.get_lane(target_lane_index)
        aside = min(max(-self.KP_LATERAL * self.lateral_m / max(self.speed, 1.0), -0.5), 0.5)
        wanted = lane.heading_at(self.s_m + 0.5 * FRAME_DT_S * self.speed) + math.asin(aside)
        slip = (wanted - self.heading + math.pi) % (2 * math.pi) - math.pi
        return math.atan(2.0 * math.tan(min(max(slip, -0.6), 0.6)))

    def drive(self, accel_mps2: float, dt_s: float) -> None:
        """Set the controls of the next frame: this acceleration, and steering along the lane."""
        if self.forced_accel is not None and self.forced_s > 0.0:
            accel_mps2 = min(accel_mps2, self.forced_accel)
            self.forced_s -= dt_s
        accel = float(
            np.clip(accel_mps2, max(-self.idm.hardest_mps2, -self.speed / dt_s), self.idm.accel_mps2)
        )
        steering = self.steering_control(self.plan[0]) if self.speed > 0.05 else 0.0
        self.action = {"steering": steering, "acceleration": accel}

    def state_dict(self) -> dict[str, Any]:
        """Everything that its future depends on."""
        body = self.body
        return {
            "id": self.id,
            "body": [body.kind, body.length_m, body.width_m, body.height_m, list(body.color_rgb)],
            "pose": [float(self.position[0]), float(self.position[1]), float(self.heading)],
            "speed": float(self.speed),
            "action": [float(self.action["steering"]), float(self.action["acceleration"])],
            "plan": [list(lane) for lane in self.plan],
            "leaving": list(self.leaving) if self.leaving else None,
            "on_lane": [self.s_m, self.lateral_m],
            "timer": float(self.timer),
            "target_speed": float(self.target_speed),
            "speed_share": self.speed_share,
            "wanted_mps": self.wanted_mps,
            "parked": self.parked,
            "lane_changes": bool(self.enable_lane_change),
            "cleared": [list(lane) for lane in sorted(self.cleared)],
            "waited_s": self.waited_s,
            "paced_mps2": self.paced_mps2,
            "forced_accel": self.forced_accel,
            "forced_s": self.forced_s,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], road: Road, graph: LaneGraph) -> "TrafficVehicle":
        """The vehicle that `state_dict` described."""
        kind, length, width, height, color = state["body"]
        body = Body(kind, length, width, height, tuple(color))
        self = cls(road, state["id"], body, np.array(state["pose"]), state["speed"])
        self.action = dict(zip(("steering", "acceleration"), state["action"], strict=True))
        self.timer, self.target_speed = state["timer"], state["target_speed"]
        self.speed_share, self.wanted_mps = state["speed_share"], state["wanted_mps"]
        self.parked, self.enable_lane_change = state["parked"], state["lane_changes"]
        self.cleared = {tuple(lane) for lane in state["cleared"]}
        self.waited_s = state["waited_s"]
        self.paced_mps2 = state["paced_mps2"]
        self.forced_accel, self.forced_s = state["forced_accel"], state["forced_s"]
        self.plan = [tuple(lane) for lane in state["plan"]]
        self.leaving = tuple(state["leaving"]) if state["leaving"] else None
        self.s_m, self.lateral_m = state["on_lane"]
        self._stand_on(graph)
        return self


class EgoVehicle(ControlledVehicle):  # type: ignore[misc]
    """The ego as traffic sees it: something that MOBIL must not cut off."""

    def __init__(self, road: Road):
        super().__init__(None, (0.0, 0.0))
        self.road = road
        self.id = EGO_ID
        self.body = Body("car", EGO_SHAPE.length_m, EGO_SHAPE.width_m, EGO_SHAPE.height_m, (0, 0, 0))
        self.plan: list[LaneIndex] = []
        self.leaving = None
        self.s_m = 0.0


def _net_gap(follower: Any, leader: Any) -> float:
    """Bumper to bumper distance along the follower's heading; negative where they stand side by side."""
    along = float(np.dot(leader.position - follower.position, follower.direction))
    return along - 0.5 * (leader.body.length_m + follower.body.length_m)
