"""Driving checks: what is wrong (or fine) with the ego's driving at one frame.

The rules follow nuPlan and NAVSIM (Karnchanachari et al., 2024; Dauner et al., NeurIPS 2024) where they have one;
each function says what it takes from them and where it differs. `scores` turns frames into episode scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .path import FrenetPose, ReferencePath
from .prepared_world import PreparedWorld
from .shapes import box_corners, boxes_overlap, time_to_overlap
from .state import EGO_SHAPE, EgoState, SceneFrame
from .world import StaticWorld

STATIC = -1  # the id that stands for buildings, trees, poles and all other structures

TTC_HORIZON_S = 8.0
_STOPPED_MPS = 0.05  # nuPlan: below this a vehicle stands
_BEHIND = np.cos(np.deg2rad(150.0))  # nuPlan: behind is more than 150 degrees off the heading
_AHEAD = np.cos(np.deg2rad(30.0))  # nuPlan: ahead is less than 30 degrees off the heading
_WRONG_WAY = np.cos(np.deg2rad(120.0))
_EGO_RADIUS_M = float(np.hypot(EGO_SHAPE.length_m, EGO_SHAPE.width_m)) / 2


@dataclass(frozen=True)
class FrameChecks:
    """The judgement of one frame. Formulas and sources stand with the functions that fill each field."""

    collision_with: int | None  # agent id; -1 is static structure; None is no contact
    collision_at_fault: bool
    off_road: bool  # some corner of the ego box lies outside the drivable area
    wrong_way: bool  # driving against the lane's direction
    red_light: bool  # crossed a stop line on red in this frame
    ttc_s: float  # time to collision at constant velocities; inf where none within the horizon
    lane_offset_m: float  # from the reference path, left positive
    heading_error_rad: float
    route_progress_m: float  # arc length along the reference path
    route_completion: float  # 0..1
    speed_limit_mps: float


class EpisodeChecker:
    """Judges the frames of one episode in order.

    Args:
        world: the map.
        path: the route that the ego was asked to follow.
        start_s_m: arc length at which the episode starts; None takes the point of the path nearest to the ego.
        goal_s_m: arc length at which the route counts as completed; None is the end of the path.
    """

    def __init__(
        self,
        world: StaticWorld,
        path: ReferencePath,
        start_s_m: float | None = None,
        goal_s_m: float | None = None,
    ):
        self._world = PreparedWorld.of(world)
        self._path = path
        self._goal_s_m = path.length_m if goal_s_m is None else goal_s_m
        self._start_s_m = start_s_m
        self._s_m = start_s_m
        self._furthest_s_m = start_s_m or 0.0
        self._front: tuple[float, float] | None = None  # of the frame before
        self._faults: dict[int, bool] = {}  # everything touched so far, and whether that was the ego's fault

    def check(self, frame: SceneFrame) -> FrameChecks:
        """Judge the next frame. Frames come in order and none is left out."""
        ego = frame.ego
        box = ego_box(ego)
        corners = box_corners(box)
        around = self._world.lanes_at(np.concatenate([box[None, :2], corners]))
        agents = np.array(
            [(a.x_m, a.y_m, a.yaw_rad, a.length_m, a.width_m, a.speed_mps) for a in frame.agents]
        ).reshape(-1, 6)
        ids = [agent.id for agent in frame.agents]
        keeps_lane = _keeps_lane(around.inside[1:])
        contact = self._contact(ego, box, agents, ids, keeps_lane)
        watches_sides = not keeps_lane or _lanes_cross(around.heading[0])
        pose = self._follow(ego)
        return FrameChecks(
            collision_with=contact,
            collision_at_fault=contact is not None and self._faults[contact],
            off_road=not bool(self._world.on_road(corners).all()),
            wrong_way=_against_lanes(ego.yaw_rad, around.heading[0]),
            red_light=self._crosses_red(frame),
            ttc_s=time_to_collision(ego, agents, watches_sides),
            lane_offset_m=pose.offset_m,
            heading_error_rad=pose.heading_error_rad,
            route_progress_m=pose.s_m,
            route_completion=self._completion(),
            speed_limit_mps=float(self._path.limit_at(pose.s_m)),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next frame depends on, as plain data."""
        return {
            "start_s_m": self._start_s_m,
            "s_m": self._s_m,
            "furthest_s_m": self._furthest_s_m,
            "front": None if self._front is None else list(self._front),
            "faults": [[id, fault] for id, fault in sorted(self._faults.items())],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave, on the same world and path."""
        self._start_s_m = state["start_s_m"]
        self._s_m = state["s_m"]
        self._furthest_s_m = state["furthest_s_m"]
        self._front = None if state["front"] is None else (state["front"][0], state["front"][1])
        self._faults = {int(id): bool(fault) for id, fault in state["faults"]}

    def _contact(
        self, ego: EgoState, box: np.ndarray, agents: np.ndarray, ids: list[int], keeps_lane: bool
    ) -> int | None:
        """What the ego touches. Fault is settled at the first contact with each agent and stays (as in NAVSIM)."""
        touched = [ids[k] for k in np.flatnonzero(boxes_overlap(box, agents[:, :5]))]
        for id in touched:
            if id not in self._faults:
                self._faults[id] = at_fault(ego, agents[ids.index(id)], keeps_lane)
        near = self._world.obstacles_near(box[0], box[1], _EGO_RADIUS_M)
        if boxes_overlap(box, near).any():
            self._faults.setdefault(STATIC, abs(ego.speed_mps) > _STOPPED_MPS)
            touched.append(STATIC)
        else:
            self._faults.pop(STATIC, None)  # the next wall is another contact
        return min(touched, key=lambda id: (not self._faults[id], id == STATIC, id), default=None)

    def _follow(self, ego: EgoState) -> FrenetPose:
        pose = self._path.project(ego.x_m, ego.y_m, ego.yaw_rad, near_s_m=self._s_m)
        if self._start_s_m is None:
            self._start_s_m = self._furthest_s_m = pose.s_m
        self._s_m = pose.s_m
        self._furthest_s_m = max(self._furthest_s_m, pose.s_m)
        return pose

    def _completion(self) -> float:
        """Share of the route covered: the furthest point reached counts, as in the CARLA leaderboard."""
        start = self._start_s_m or 0.0
        return float(np.clip((self._furthest_s_m - start) / max(self._goal_s_m - start, 1e-6), 0.0, 1.0))

    def _crosses_red(self, frame: SceneFrame) -> bool:
        """Whether the middle of the front bumper passed a stop line since the last frame, forwards, on red."""
        ahead = EGO_SHAPE.rear_axle_to_center_m + EGO_SHAPE.length_m / 2
        ego = frame.ego
        front = ego.x_m + ahead * float(np.cos(ego.yaw_rad)), ego.y_m + ahead * float(np.sin(ego.yaw_rad))
        before, self._front = self._front, front
        if before is None:
            return False
        lines = zip(self._world.stop_lines, frame.lights, strict=True)
        return any(crosses_stop_line(before, front, line) for line, state in lines if state == "red")


def ego_box(ego: EgoState) -> np.ndarray:
    """The ego's box, float64 [5] (see `shapes`)."""
    return np.array([*ego.box_center, ego.yaw_rad, EGO_SHAPE.length_m, EGO_SHAPE.width_m])


def at_fault(ego: EgoState, agent: np.ndarray, keeps_lane: bool) -> bool:
    """Who caused a contact, by the rule of nuPlan's *no ego at-fault collisions*.

    In this order: a standing ego is not at fault; an ego that runs into something standing is; an ego hit from
    behind is not; an ego whose leading bumper touches is; a contact at the side is the ego's fault unless it keeps
    its lane. Unlike nuPlan, a reversing ego's leading bumper is the rear one.

    Args:
        ego: the ego at first contact.
        agent: float64 [6]: box and speed.
        keeps_lane: whether the ego lies within its lane.
    """
    if abs(ego.speed_mps) <= _STOPPED_MPS:
        return False
    if abs(agent[5]) <= _STOPPED_MPS:
        return True
    direction = ego.yaw_rad if ego.speed_mps >= 0 else ego.yaw_rad + np.pi
    center = np.array(ego.box_center)
    if _alignment(center, direction, agent[None, :2])[0] < _BEHIND:
        return False
    forward = np.array([np.cos(direction), np.sin(direction)])
    bumper = np.array([*(center + forward * EGO_SHAPE.length_m / 2), direction, 0.0, EGO_SHAPE.width_m])
    return bool(boxes_overlap(bumper, agent[None, :5])[0]) or not keeps_lane


def time_to_collision(ego: EgoState, agents: np.ndarray, watches_sides: bool) -> float:
    """Seconds until the ego's box meets an agent's, everybody keeping velocity and heading; inf beyond 8 s.

    NAVSIM moves the boxes in steps of 0.1 s up to 1 s and calls an overlap a violation; here the moment is exact,
    so `ttc_s <= 1` is the same rule without the gaps between steps. Who counts is nuPlan's rule: agents ahead
    (within 30 degrees of the heading), and those at the side only while the ego is between lanes or where lanes
    cross. Agents behind never count, and a standing ego has no time to collision.

    Args:
        ego: the ego.
        agents: float64 [N, 6]: boxes and speeds.
        watches_sides: whether agents at the side count.
    """
    if abs(ego.speed_mps) <= _STOPPED_MPS or not len(agents):
        return float("inf")
    direction = ego.yaw_rad if ego.speed_mps >= 0 else ego.yaw_rad + np.pi
    alignment = _alignment(np.array(ego.box_center), direction, agents[:, :2])
    counted = agents[alignment > (_BEHIND if watches_sides else _AHEAD)]
    if not len(counted):
        return float("inf")
    velocity = ego.speed_mps * np.array([np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)])
    velocities = counted[:, 5:] * np.stack([np.cos(counted[:, 2]), np.sin(counted[:, 2])], axis=1)
    soonest = float(time_to_overlap(ego_box(ego), velocity, counted[:, :5], velocities).min())
    return soonest if soonest <= TTC_HORIZON_S else float("inf")


def crosses_stop_line(before: tuple[float, float], after: tuple[float, float], stop_line: np.ndarray) -> bool:
    """Whether a point that moved crossed a stop line in the direction of its traffic.

    Args:
        before: world (x, y) one frame ago [m].
        after: world (x, y) now [m].
        stop_line: float64 [2, 2], from right to left as the driver sees it, so that forwards is to its right.
    """
    right, left = stop_line
    across = (left - right) / np.linalg.norm(left - right)
    forward = np.array([across[1], -across[0]])
    start, end = np.asarray(before) - right, np.asarray(after) - right
    ahead_before, ahead_now = float(start @ forward), float(end @ forward)
    if not ahead_before < 0.0 <= ahead_now:
        return False
    share = ahead_before / (ahead_before - ahead_now)
    return bool(0.0 <= (start + share * (end - start)) @ across <= np.linalg.norm(left - right))


def _alignment(origin: np.ndarray, direction_rad: float, points: np.ndarray) -> np.ndarray:
    """Cosine of the angle between a direction and the way to each point [N, 2]: float64 [N]."""
    offset = points - origin
    forward = offset[:, 0] * np.cos(direction_rad) + offset[:, 1] * np.sin(direction_rad)
    return np.asarray(forward / np.maximum(np.hypot(offset[:, 0], offset[:, 1]), 1e-9))


def _keeps_lane(inside: np.ndarray) -> bool:
    """Whether one lane holds both front corners and one lane both rear corners; `inside` is bool [4, L]."""
    front_left, front_right, rear_right, rear_left = inside
    return bool((front_left & front_right).any() and (rear_left & rear_right).any())


def _lanes_cross(headings: np.ndarray) -> bool:
    """Whether lanes of clearly different directions (more than 30 degrees, not opposite) share this point."""
    here = headings[~np.isnan(headings)]
    if len(here) < 2:
        return False
    return bool((np.abs(np.cos(here - here[0])) < _AHEAD).any())


def _against_lanes(yaw_rad: float, headings: np.ndarray) -> bool:
    """Whether the ego's middle lies in a lane, and every lane there runs against its heading (> 120 degrees).

    Judged by heading alone: backing up in one's own lane is not driving the wrong way. NAVSIM v2 (driving
    direction compliance) asks for the position only; the heading keeps turns across the other lanes out of it.
    """
    here = headings[~np.isnan(headings)]
    return len(here) > 0 and bool((np.cos(yaw_rad - here) < _WRONG_WAY).all())
