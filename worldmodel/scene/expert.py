"""A driver that sees the whole scene: follows the route, keeps distance, obeys lights and right of way.

It is a pure function of the scene: no memory, so that it can take over anywhere, also from a perturbed drive.
"""

from dataclasses import dataclass, replace

import numpy as np

from .actions import ActionChunk
from .clock import FRAME_DT_S, FRAMES_PER_CHUNK
from .corridor import Boxes, gaps
from .ego import EGO_LIMITS, bicycle_step
from .idm import IdmParameters, follow_accel, stop_accel
from .right_of_way import settle, yields
from .route import FRONT_M
from .scene import Scene
from .state import EGO_SHAPE, EgoState
from .traffic import CLEARS_AFTER_S, FIRST_AT_LINE_M
from .vehicle import TrafficVehicle

_CORRIDOR_POINTS, _CORRIDOR_STEP_M = 70, 1.5
_REACTION_S = 0.4  # brakes build up gently, so begin earlier
_LINE_M = 1.2  # stops this far before a line
_CAREFUL_MPS = 5.0  # at the line of a junction where others go first
_BRAKES_S = 0.6  # who brakes is taken to go on braking for so long
_PEOPLE_S = 4.0  # who is crossing the road is given way to this long ahead
_SIDE_M = 0.35
_JERK_MPS3 = 3.6  # below nuPlan's 4.13
_BRAKE_MPS2 = 3.4  # comfortable; nuPlan's bound is 4.05


CAREFUL = IdmParameters(accel_mps2=1.7, brake_mps2=2.2, headway_s=1.4, standstill_m=3.0)


@dataclass(frozen=True)
class DriverStyle:
    """What makes one driver differ from another."""

    idm: IdmParameters = CAREFUL
    speed_share: float = 0.97  # of the limit
    offset_m: float = 0.0  # left of the reference path
    sees: bool = True  # False: notices nobody


class Expert:
    """Drives one scene."""

    def __init__(self, scene: Scene, style: DriverStyle | None = None):
        self.scene = scene
        self.style = style or DriverStyle()

    def act(self) -> ActionChunk:
        """Controls for the next chunk."""
        scene, ego, s = self.scene, self.scene.frame.ego, self.scene.ego_s_m
        wanted = self.wanted_mps2()
        accel = float(np.clip(ego.accel_mps2, -EGO_LIMITS.brake_mps2, EGO_LIMITS.accel_mps2))
        rows = []
        for _ in range(FRAMES_PER_CHUNK):
            accel = _approach(accel, wanted)
            steering = self._steering(ego, s)
            rows.append((steering, accel))
            ego = bicycle_step(ego, steering, accel)
            s = scene.path.project(ego.x_m, ego.y_m, ego.yaw_rad, s).s_m
        return ActionChunk("controls", np.array(rows, np.float32))

    # Along ------------------------------------------------------------------------------------------------------

    def wanted_mps2(self) -> float:
        """The acceleration that it goes for; `act` approaches it without a jerk."""
        ego, idm = self.scene.frame.ego, self.style.idm
        speed = max(ego.speed_mps, 0.0)
        free = self._towards_limit(speed)
        if not self.style.sees:
            return free
        gap, leader = self._ahead()
        standing = leader < 0.5  # also who crosses our way: a place to stop before, not to fall back from
        slow_m = float(np.where(np.abs(leader) < 1.5, gap, np.inf).min(initial=np.inf))
        stop_m = min(
            self._light_m(speed) - _LINE_M,
            self._hold_m(slow_m) - _LINE_M + 0.5,
            float(gap[standing].min(initial=np.inf)) - idm.standstill_m,
        )
        behind = follow_accel(free, speed, gap[~standing], leader[~standing], idm).min(initial=np.inf)
        accel = min(
            free,
            float(behind),
            self._beside(speed, free),
            stop_accel(speed, stop_m - _REACTION_S * speed, idm.brake_mps2),
            self._caution(speed),
        )
        return float(np.clip(accel, -EGO_LIMITS.brake_mps2, idm.accel_mps2))

    def _towards_limit(self, speed: float) -> float:
        """Acceleration towards the speed limit half a second ahead (it falls gently before bends)."""
        path, s = self.scene.path, self.scene.ego_s_m
        limit = self.style.speed_share * float(path.limit_at(np.array([s, s + 0.6 * speed])).min())
        return float(np.clip((limit - speed) / 0.8, -_BRAKE_MPS2, self.style.idm.accel_mps2))

    def _ahead(self) -> tuple[np.ndarray, np.ndarray]:
        """Net gaps and speeds of everybody in the way, [M] each."""
        scene = self.scene
        _, soon = scene.traffic.intents()
        boxes = Boxes.of(
            np.concatenate([scene.traffic.boxes(_BRAKES_S), soon, scene.pedestrians.claims(_PEOPLE_S)])
        )
        s = scene.ego_s_m + FRONT_M + _CORRIDOR_STEP_M * np.arange(_CORRIDOR_POINTS)
        points = scene.path.pose_at(s, self.style.offset_m)[:, :2]
        width = np.array([0.5 * EGO_SHAPE.width_m + _SIDE_M])
        gap, speed = (part[0] for part in gaps(points[None], (s - s[0])[None], width, boxes))
        return _without_passing(
            gap, speed, max(scene.frame.ego.speed_mps, 1.0), boxes, points, s, width
        ), speed

    def _light_m(self, speed: float) -> float:
        """Way to the line of the next light, if it means stop."""
        scene = self.scene
        found = scene.route.next_light(scene.graph, scene.ego_s_m + FRONT_M)
        if found is None:
            return float("inf")
        light, way = found
        shown = scene.frame.lights[light]
        room = way - _LINE_M - _REACTION_S * speed
        if shown == "yellow":
            if way < FIRST_AT_LINE_M and scene.waited_s > CLEARS_AFTER_S:
                return float("inf")
            return way if room > 0.0 and speed**2 / (2.0 * room) < _BRAKE_MPS2 else float("inf")
        return (
            way
            if shown == "red" and speed**2 / (2.0 * max(way, 0.3)) < EGO_LIMITS.brake_mps2
            else float("inf")
        )

    def _hold_m(self, free_m: float) -> float:
        """Way to where right of way makes it wait."""
        scene = self.scene
        ego = scene.view().ego_mover
        starting = 0.1 < ego.speed_mps < 4.0 and scene.frame.ego.accel_mps2 > 0.3
        ego = replace(ego, asks=True, free_m=free_m, starting=starting)
        settle(scene.graph, [*scene.traffic.movers(scene.frame.lights), ego])
        return ego.hold_m

    def _caution(self, speed: float) -> float:
        """Come slowly to where others have right of way, so that a change of mind is no emergency."""
        scene = self.scene
        worst = float("inf")
        for lane, start in scene.route.lanes_ahead(scene.ego_s_m + FRONT_M):
            info = scene.graph[lane]
            ruled = any(scene.graph[before].light is not None for before in info.before)
            gives_way = any(yields(info, scene.graph[c.other]) > 0 for c in info.conflicts)
            if start > 0.0 and gives_way and not ruled:
                limit = np.sqrt(_CAREFUL_MPS**2 + 2.0 * 1.6 * (start + info.hold_m))
                worst = min(worst, float(limit - speed) / 0.6)
        return worst

    def _beside(self, speed: float, free: float) -> float:
        """Fall back behind who is about to be beside us where the route changes lane."""
        scene, least = self.scene, free
        for change in scene.route.changes:
            way = change.begin_m - scene.ego_s_m
            if not -0.5 * (change.end_m - change.begin_m) < way < max(60.0, 4.0 * speed):
                continue
            for vehicle in scene.traffic.vehicles:
                if change.target in vehicle.plan[:2]:
                    least = min(least, self._let_in(vehicle, speed, free, max(way, 0.0) / max(speed, 3.0)))
        return least

    def _let_in(self, vehicle: TrafficVehicle, speed: float, free: float, arrive_s: float) -> float:
        """Acceleration to be behind a vehicle of the other lane, unless it stays well behind; never harsh."""
        scene = self.scene
        pose = scene.path.project(vehicle.position[0], vehicle.position[1])
        gap = pose.s_m - scene.ego_s_m - EGO_SHAPE.rear_axle_to_center_m
        lead = gap + (vehicle.speed - speed) * arrive_s  # when we begin to change
        behind = -(6.0 + 0.5 * speed + 1.5 * max(vehicle.speed - speed, 0.0))
        if abs(gap) > 90.0 or lead < behind:
            return free
        room = max(gap - 0.5 * (vehicle.body.length_m + EGO_SHAPE.length_m), 2.0)
        wanted = follow_accel(free, speed, room, min(vehicle.speed, speed + 1.0), self.style.idm)
        return max(float(wanted), -2.0)

    # Across -----------------------------------------------------------------------------------------------------

    def _steering(self, ego: EgoState, s_m: float) -> float:
        """Pure pursuit (Coulter 1992) of the route, from the rear axle."""
        look = float(np.clip(0.75 * ego.speed_mps, 3.2, 25.0))
        x, y, _ = self.scene.path.pose_at(s_m + look, self.style.offset_m)
        dx, dy = x - ego.x_m, y - ego.y_m
        left = np.cos(ego.yaw_rad) * dy - np.sin(ego.yaw_rad) * dx
        curvature = 2.0 * left / max(dx * dx + dy * dy, 1.0)
        steering = np.arctan(EGO_SHAPE.wheelbase_m * curvature)
        return float(np.clip(steering, -EGO_LIMITS.steering_rad, EGO_LIMITS.steering_rad))


def _approach(accel: float, wanted: float) -> float:
    """One frame towards the wanted acceleration: gently, unless braking hard is called for."""
    step = _JERK_MPS3 * FRAME_DT_S
    if wanted < -_BRAKE_MPS2 - 0.3:
        step *= 6.0
    else:
        wanted = max(wanted, -_BRAKE_MPS2)
    return accel + float(np.clip(wanted - accel, -step, step))


def _without_passing(
    gap: np.ndarray,
    along_mps: np.ndarray,
    speed: float,
    boxes: Boxes,
    points: np.ndarray,
    s: np.ndarray,
    width: np.ndarray,
) -> np.ndarray:
    """Gaps [M] without those who drive across our way and will have left it before we are there."""
    crossing = np.flatnonzero(
        (along_mps < 0.5) & (boxes.speed_mps > 1.0) & np.isfinite(gap) & (gap > 0.6 * speed)
    )
    if not len(crossing):
        return gap
    ahead = np.minimum(gap[crossing] / speed, 2.5) * boxes.speed_mps[crossing]
    yaw = boxes.yaw_rad[crossing]
    later = Boxes(
        boxes.x_m[crossing] + ahead * np.cos(yaw),
        boxes.y_m[crossing] + ahead * np.sin(yaw),
        yaw,
        boxes.half_length_m[crossing],
        boxes.half_width_m[crossing],
        boxes.speed_mps[crossing],
    )
    gap = gap.copy()
    gap[crossing[np.isinf(gaps(points[None], (s - s[0])[None], width, later)[0][0])]] = np.inf
    return gap
