"""highway-env's road, as its drivers ask it: who is ahead and behind on a lane."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from highway_env.road.road import Road

from .lane_graph import LaneGraph
from .path import LaneIndex


class TrafficRoad(Road):  # type: ignore[misc]
    """highway-env's road with a look-up of neighbours by lane instead of a search over everything."""

    def __init__(self, graph: LaneGraph, network: Any):
        super().__init__(network)
        self.graph = graph
        self._on_lane: dict[LaneIndex, list[Any]] = {}

    def index(self, vehicles: Sequence[Any]) -> None:
        """Note who is on which lane; who changes lanes is on both."""
        self._on_lane = defaultdict(list)
        for vehicle in vehicles:
            self.enter(vehicle, vehicle.plan[0])
            if vehicle.leaving:
                self.enter(vehicle, vehicle.leaving)

    def enter(self, vehicle: Any, lane: LaneIndex) -> None:
        """Note one vehicle on one lane."""
        self._on_lane[lane].append(vehicle)

    def neighbour_vehicles(self, vehicle: Any, lane_index: LaneIndex | None = None) -> tuple[Any, Any]:
        """The vehicles ahead and behind on a lane, and on the lanes after and before it."""
        lane_index = lane_index or vehicle.plan[0]
        info = self.graph[lane_index]
        s, _ = info.project(vehicle.position[0], vehicle.position[1], vehicle.s_m)
        near = [(self._s_on(v, lane_index) - s, v) for v in self._on_lane.get(lane_index, ())]
        for after in info.after:
            near += [(v.s_m + info.length_m - s, v) for v in self._on_lane.get(after, ())]
        for before in info.before:
            near += [(v.s_m - self.graph[before].length_m - s, v) for v in self._on_lane.get(before, ())]
        near = [(gap, v) for gap, v in near if v is not vehicle]
        ahead = min(
            (pair for pair in near if pair[0] >= 0.0), key=lambda p: (p[0], p[1].id), default=(0, None)
        )
        behind = max(
            (pair for pair in near if pair[0] < 0.0), key=lambda p: (p[0], p[1].id), default=(0, None)
        )
        return ahead[1], behind[1]

    def _s_on(self, vehicle: Any, lane: LaneIndex) -> float:
        if vehicle.plan[0] == lane:
            return float(vehicle.s_m)
        return self.graph[lane].project(vehicle.position[0], vehicle.position[1], vehicle.s_m)[0]
