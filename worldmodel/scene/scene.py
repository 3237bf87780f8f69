"""The running world behind the pixels: ego, traffic, people, lights and events on one map, chunk by chunk.

A session is a pure function of (scenario, seed, actions).
"""

from typing import Any

import numpy as np

from .actions import ActionChunk, follow, validate
from .checks import EpisodeChecker, FrameChecks
from .clock import FRAME_DT_S, FRAMES_PER_CHUNK
from .conditions import draw_conditions
from .events import Moment, Script, Stage, prepare
from .lane_graph import LaneGraph, lane_graph
from .maps import build_map
from .outcome import Outcome, Verdict
from .parking import park
from .path import ReferencePath
from .pedestrians import Pedestrians
from .randomness import generator_state, load_generator, make_generator
from .right_of_way import travel_time_s
from .route import FRONT_M, Route, ego_box
from .scenario import Scenario, ScenarioError
from .signals import Signals
from .spawning import Spawner
from .state import Atmosphere, EgoState, SceneFrame
from .traffic import DRIVEN_OFF_MPS, RoadView, Traffic
from .world import StaticWorld

_EASY_STOP_MPS2 = 1.8
_QUEUE_M = 40.0  # before a light
_ON_ROUTE_M = 4.0  # further from its path, the ego is not expected to follow it


class Scene:
    """One running world.

    Args:
        scenario: what is on the road.
        seed: decides everything that the scenario leaves open.

    Raises:
        ScenarioError: the scenario does not fit its map: unknown route, overlapping spawns, no lane for an event.
    """

    def __init__(self, scenario: Scenario, seed: int):
        self.scenario, self.seed = scenario, seed
        conditions = draw_conditions(scenario, seed)
        self.atmosphere: Atmosphere = conditions.atmosphere
        self.world: StaticWorld = build_map(scenario.map, conditions.map_seed)
        self.path: ReferencePath = _route(self.world, scenario)
        self.graph: LaneGraph = lane_graph(self.world)
        self.route = Route.of(self.path, self.graph)
        self._start_s_m = self._s_m = min(conditions.start_s_m, self.path.length_m - 1.0)
        self._offset_m = 0.0  # from the path
        self._waited_s = 0.0
        ego = _start(self.path, self._s_m, conditions.start_speed_mps)
        self._generator = make_generator(seed, "traffic")
        self._people_generator = make_generator(seed, "people")
        self.traffic = Traffic(self.graph, self.world.network, self._generator)
        self.signals = Signals.of(self.world, make_generator(seed, "signals"))
        self.pedestrians = Pedestrians(self.world, self._people_generator)
        self._parked = park(self.world.parking_bays, scenario.parked, make_generator(seed, "parked"))
        self._spawner = Spawner(scenario.traffic, conditions.per_km, self.traffic, self._generator)
        self._scripts: list[Script] = []
        self._view: tuple[SceneFrame, RoadView] | None = None  # of the frame for which it was made
        self._populate(ego)
        self._checker = EpisodeChecker(self.world, self.path, self._start_s_m, self._goal_s_m())
        self._verdict = Verdict(scenario.failure, scenario.duration_s)
        self.frame: SceneFrame = self._frame(0, ego)
        self.checks: list[FrameChecks] = [self._checker.check(self.frame)]

    @property
    def outcome(self) -> Outcome:
        """Whether and how it has ended. Driving on after the end is allowed and changes nothing here."""
        return self._verdict.outcome

    @property
    def reason(self) -> str:
        """Why it ended: goal, collision, red_light, off_road, wrong_way, off_route, time_limit; empty while running."""
        return self._verdict.reason

    @property
    def ego_s_m(self) -> float:
        """The ego's arc length along `path`."""
        return self._s_m

    @property
    def waited_s(self) -> float:
        """For how long the ego has stood to let others pass."""
        return self._waited_s

    def step(self, action: ActionChunk) -> list[SceneFrame]:
        """Drive one chunk; `frame` and `checks` are those of its frames afterwards.

        Raises:
            ActionError: the action is none; the scene is as it was, as after any other error.
        """
        validate(action)
        before = self.state_dict()
        try:
            return self._drive(action)
        except BaseException:
            self.load_state_dict(before)
            raise

    def fork(self) -> "Scene":
        """A copy that shares nothing with this one but the immutable world."""
        copy = Scene(self.scenario, self.seed)
        copy.load_state_dict(self.state_dict())
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Everything that the future depends on, as plain data and numeric arrays."""
        return {
            "frame": self.frame.index,
            "ego": vars(self.frame.ego).copy(),
            "s_m": self._s_m,
            "offset_m": self._offset_m,
            "waited_s": self._waited_s,
            "generator": generator_state(self._generator),
            "people_generator": generator_state(self._people_generator),
            "traffic": self.traffic.state_dict(),
            "spawner": self._spawner.state_dict(),
            "signals": self.signals.state_dict(),
            "pedestrians": self.pedestrians.state_dict(),
            "scripts": [script.state_dict() for script in self._scripts],
            "checker": self._checker.state_dict(),
            "verdict": self._verdict.state_dict(),
            "checks": [vars(checks).copy() for checks in self.checks],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, bit for bit, from a state of the same scenario and seed."""
        self._s_m, self._offset_m, self._waited_s = state["s_m"], state["offset_m"], state["waited_s"]
        self._generator = load_generator(state["generator"])
        self._people_generator = load_generator(state["people_generator"])
        self.traffic.generator = self.traffic.road.np_random = self._spawner.generator = self._generator
        self.pedestrians.generator = self._people_generator
        self.traffic.load_state_dict(state["traffic"])
        self._spawner.load_state_dict(state["spawner"])
        self.signals.load_state_dict(state["signals"])
        self.pedestrians.load_state_dict(state["pedestrians"])
        for script, saved in zip(self._scripts, state["scripts"], strict=True):
            script.load_state_dict(saved)
        self._checker.load_state_dict(state["checker"])
        self._verdict.load_state_dict(state["verdict"])
        self.checks = [FrameChecks(**checks) for checks in state["checks"]]
        self.frame = self._frame(state["frame"], EgoState(**state["ego"]))

    # One chunk --------------------------------------------------------------------------------------------------

    def _drive(self, action: ActionChunk) -> list[SceneFrame]:
        frames: list[SceneFrame] = []
        checks: list[FrameChecks] = []
        for ego in follow(self.frame.ego, action):
            self._advance()
            pose = self.path.project(ego.x_m, ego.y_m, ego.yaw_rad, self._s_m)
            self._s_m, self._offset_m = pose.s_m, pose.offset_m
            self._waited_s = self._wait(ego)
            self.frame = self._frame(self.frame.index + 1, ego)
            frames.append(self.frame)
            checks.append(self._checker.check(self.frame))
            self._verdict.judge(self.frame.time_s, checks[-1])
        self.checks = checks
        assert len(frames) == FRAMES_PER_CHUNK
        return frames

    def _wait(self, ego: EgoState) -> float:
        """For how long the ego has waited for others; queuing at a light does not count."""
        light = self.route.next_light(self.graph, self._s_m)
        at_red = light is not None and light[1] < _QUEUE_M and self.signals.states[light[0]] == "red"
        if at_red or abs(ego.speed_mps) > DRIVEN_OFF_MPS:
            return 0.0
        return self._waited_s + FRAME_DT_S * (abs(ego.speed_mps) < 0.5)

    def _advance(self) -> None:
        """Move everything but the ego, on what is seen at the present frame."""
        moment = self._moment(self.frame.time_s, self.frame.ego)
        for script in self._scripts:
            script.step(self._stage, moment)
        view = self.view()
        self.traffic.step(view)
        self.pedestrians.step(self._may_cross)
        self.signals.step()
        self._spawner.renew(view.ego_box)

    def view(self) -> RoadView:
        """What others see of the ego, people and lights at the present frame."""
        if self._view is None or self._view[0] is not self.frame:
            self._view = (self.frame, self._look())
        return self._view[1]

    def _look(self) -> RoadView:
        ego, lights = self.frame.ego, self.frame.lights
        lane = self.graph.nearest(*ego.box_center, ego.yaw_rad)
        mover = self.route.mover(self.graph, ego, self._s_m, lights, self._waited_s)
        if abs(self._offset_m) > _ON_ROUTE_M:
            mover.lanes = [(lane, -self.graph[lane].lane.local_coordinates(np.array(ego.box_center))[0])]
        wanted = float(self.path.limit_at(self._s_m))
        return RoadView(self.pedestrians.claims(), lights, ego_box(ego), lane, wanted, mover)

    def _may_cross(self, crossing: int, seconds: float) -> bool:
        """Whether nobody who drives comes to a crossing within so many seconds."""
        lights = self.frame.lights
        movers = [*self.traffic.movers(lights), self.view().ego_mover]
        for index, info in self.graph.lanes.items():
            for number, s in info.crossings:
                if number == crossing and not self._lane_is_quiet(index, s, seconds + 1.5, movers):
                    return False
        return True

    def _lane_is_quiet(self, lane: Any, s_m: float, seconds: float, movers: list[Any]) -> bool:
        for before in self.graph[lane].before:
            light = self.graph[before].light
            if light is not None and 0.0 < self.signals.red_for_s(self.signals.group_of[light]) < seconds:
                return False
        for mover in movers:
            for index, start in mover.lanes:
                way = start + s_m
                near = index == lane and way > -mover.length_m - 2.0
                if near and travel_time_s(way - 2.0, mover.speed_mps, 12.0) < seconds:
                    return False
        return True

    # Making one -------------------------------------------------------------------------------------------------

    def _populate(self, ego: EgoState) -> None:
        scenario = self.scenario
        where = f"scenario {scenario.name}"
        self._open_road(ego)
        self._stage = Stage(self.graph, self.route, self.traffic, self.pedestrians, self.signals)
        for k, spawn in enumerate(scenario.traffic.spawns):
            self._spawner.place(spawn, self.path, self._start_s_m, f"{where}: traffic.spawns.{k}")
        self.pedestrians.populate(scenario.pedestrians.walkers, scenario.pedestrians.crossers)
        moment = self._moment(0.0, ego)
        for k, event in enumerate(scenario.events):
            self._scripts.append(prepare(event, self._stage, self._spawner, moment, f"{where}: events.{k}"))
        self._spawner.fill(ego_box(ego))

    def _open_road(self, ego: EgoState) -> None:
        """Nobody starts so close to a red light that it cannot be obeyed."""
        found = self.route.next_light(self.graph, self._s_m + FRONT_M)
        if found is not None and ego.speed_mps**2 / (2.0 * max(found[1], 0.1)) > _EASY_STOP_MPS2:
            self.signals.begin_green(self.signals.group_of[found[0]])

    def _moment(self, time_s: float, ego: EgoState) -> Moment:
        return Moment(time_s, ego, self._s_m, self._start_s_m)

    def _goal_s_m(self) -> float:
        distance = self.scenario.success.distance_m
        end = self.path.length_m - 3.0
        return end if distance is None else min(self._start_s_m + distance, end)

    def _frame(self, index: int, ego: EgoState) -> SceneFrame:
        agents = (*self.traffic.agents(), *self._parked, *self.pedestrians.agents())
        return SceneFrame(index, index * FRAME_DT_S, ego, agents, self.signals.states)


def _route(world: StaticWorld, scenario: Scenario) -> ReferencePath:
    if scenario.route not in world.routes:
        names = ", ".join(sorted(world.routes))
        raise ScenarioError(f"scenario {scenario.name}: expected a route of {names}, got {scenario.route!r}")
    return world.routes[scenario.route]


def _start(path: ReferencePath, s_m: float, speed_mps: float) -> EgoState:
    x, y, yaw = path.pose_at(s_m)
    speed = min(speed_mps, float(path.limit_at(s_m)))
    return EgoState(float(x), float(y), float((yaw + np.pi) % (2 * np.pi) - np.pi), speed)
