"""Scores of an episode: NAVSIM's PDM score with its parts, and the driving score of the CARLA leaderboard.

Formulas and sources also stand in docs/metrics.md.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .checks import STATIC, FrameChecks
from .clock import FRAME_DT_S
from .comfort import BOUNDS, comfortable
from .outcome import Outcome
from .path import ReferencePath
from .state import SceneFrame

TTC_BOUND_S = 1.0  # NAVSIM: a collision within this time at constant velocities is a violation
_SHORT_M = 5.0  # NAVSIM: where hardly any progress is possible, none is asked for

# CARLA leaderboard 2.0, factors of the infraction penalty.
PENALTIES = {"pedestrian": 0.50, "vehicle": 0.60, "static": 0.65, "red_light": 0.70, "timeout": 0.70}


@dataclass(frozen=True)
class Contact:
    """One collision: when it began, with what, and whose fault it was."""

    frame: int
    kind: str  # pedestrian, vehicle, static
    agent: int  # -1 is static structure
    at_fault: bool


@dataclass
class EpisodeRecord:
    """What the scores need of an episode, frame by frame. Plain data; begin with `EpisodeRecord.start`."""

    expected_time_s: list[
        float
    ]  # what progress is measured against, `free_drive` unless `expect` was called:
    expected_m: list[float]  # ... so far it has come at these times
    frame_dt_s: float = FRAME_DT_S
    speed_mps: list[float] = field(default_factory=list)
    yaw_rad: list[float] = field(default_factory=list)
    progress_m: list[float] = field(default_factory=list)
    ttc_s: list[float] = field(default_factory=list)
    off_road: list[bool] = field(default_factory=list)
    wrong_way: list[bool] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    last_static_frame: int = -1_000_000  # that touched static structure
    red_lights: int = 0
    route_completion: float = 0.0
    outcome: Outcome = "running"

    @classmethod
    def start(cls, path: ReferencePath, frame: SceneFrame, checks: FrameChecks) -> "EpisodeRecord":
        """The record of an episode that opens with this frame."""
        times, distances = free_drive(path, checks.route_progress_m, frame.ego.speed_mps)
        record = cls(times.tolist(), distances.tolist())
        record.add(frame, checks)
        return record

    def add(self, frame: SceneFrame, checks: FrameChecks) -> None:
        """Append the next frame and what was found in it."""
        self.speed_mps.append(frame.ego.speed_mps)
        self.yaw_rad.append(frame.ego.yaw_rad)
        self.progress_m.append(checks.route_progress_m)
        self.ttc_s.append(checks.ttc_s)
        self.off_road.append(checks.off_road)
        self.wrong_way.append(checks.wrong_way)
        self.red_lights += checks.red_light
        self.route_completion = checks.route_completion
        self._add_contact(frame, checks)

    def expect(self, reference: "EpisodeRecord") -> None:
        """Measure progress against another drive of the same scenario and seed, such as the expert's."""
        progress = np.maximum.accumulate(reference.progress_m) - reference.progress_m[0]
        self.expected_time_s = [k * reference.frame_dt_s for k in range(len(progress))]
        self.expected_m = progress.tolist()

    def to_dict(self) -> dict[str, Any]:
        """Plain data; infinite times to collision stay infinite floats."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EpisodeRecord":
        """The inverse of `to_dict`."""
        return cls(**{**data, "contacts": [Contact(**contact) for contact in data["contacts"]]})

    def _add_contact(self, frame: SceneFrame, checks: FrameChecks) -> None:
        """An agent counts once per episode, static structure again after a second without it."""
        other = checks.collision_with
        if other is None:
            return
        now = len(self.speed_mps) - 1
        if other == STATIC:
            known = (now - self.last_static_frame) * self.frame_dt_s <= 1.0
            self.last_static_frame = now
        else:
            known = any(contact.agent == other for contact in self.contacts)
        if not known:
            self.contacts.append(Contact(now, _kind_of(frame, other), other, checks.collision_at_fault))


@dataclass(frozen=True)
class EpisodeScores:
    """The judgement of one episode. All scores lie in 0..1."""

    no_collision: float  # NC
    drivable_area: float  # DAC
    time_to_collision: float  # TTC
    ego_progress: float  # EP
    comfort: float  # C
    pdms: float
    route_completion: float
    infraction_penalty: float
    driving_score: float
    success: bool
    contacts: int
    contacts_at_fault: int
    red_lights: int
    off_road_share: float  # of the frames
    wrong_way_share: float
    close_call_share: float  # of the frames with a time to collision within TTC_BOUND_S
    comfortable_share: float
    min_ttc_s: float | None  # None: never on a collision course
    distance_m: float
    duration_s: float
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every value valid in JSON."""
        return asdict(self)


def score_episode(record: EpisodeRecord) -> EpisodeScores:
    """Score a finished (or running) episode.

    NAVSIM judges 4 s; here each part looks at the whole episode, so one bad frame of a long one weighs as much as of
    a short one. The shares beside them say how long it lasted.
    """
    smooth = comfortable(np.array(record.speed_mps), np.array(record.yaw_rad), record.frame_dt_s)
    ttc = np.array(record.ttc_s)
    no_collision, drivable = no_collision_score(record), float(not any(record.off_road))
    safe, progress, comfort = float((ttc > TTC_BOUND_S).all()), progress_score(record), float(smooth.all())
    penalty = infraction_penalty(record)
    completion = record.route_completion * (1.0 - _outside_share(record))
    return EpisodeScores(
        no_collision=no_collision,
        drivable_area=drivable,
        time_to_collision=safe,
        ego_progress=progress,
        comfort=comfort,
        pdms=pdm_score(no_collision, drivable, safe, progress, comfort),
        route_completion=record.route_completion,
        infraction_penalty=penalty,
        driving_score=completion * penalty,
        success=_success(record),
        contacts=len(record.contacts),
        contacts_at_fault=sum(contact.at_fault for contact in record.contacts),
        red_lights=record.red_lights,
        off_road_share=float(np.mean(record.off_road)),
        wrong_way_share=float(np.mean(record.wrong_way)),
        close_call_share=float(np.mean(ttc <= TTC_BOUND_S)),
        comfortable_share=float(np.mean(smooth)),
        min_ttc_s=float(ttc.min()) if np.isfinite(ttc).any() else None,
        distance_m=_distance_m(record),
        duration_s=_duration_s(record),
        outcome=record.outcome,
    )


def pdm_score(nc: float, dac: float, ttc: float, ep: float, c: float) -> float:
    """PDMS = NC * DAC * (5 TTC + 5 EP + 2 C) / 12 (Dauner et al., NAVSIM, NeurIPS 2024, equation 1)."""
    return nc * dac * (5 * ttc + 5 * ep + 2 * c) / 12


def no_collision_score(record: EpisodeRecord) -> float:
    """NC: 0 after a collision at fault with a road user, 0.5 with static structure only, else 1 (NAVSIM)."""
    kinds = {contact.kind for contact in record.contacts if contact.at_fault}
    if kinds - {"static"}:
        return 0.0
    return 0.5 if kinds else 1.0


def progress_score(record: EpisodeRecord) -> float:
    """EP: progress along the route over the progress expected in the same time, cut to 0..1.

    NAVSIM divides by the progress of its PDM-Closed planner. Expected here is the progress of the drive given to
    `EpisodeRecord.expect`; otherwise that of `free_drive`, an upper bound that waits for nobody. Below 5 m of
    expected progress the score is 1.
    """
    reached = max(record.progress_m) - record.progress_m[0]
    expected = _expected_m(record, _duration_s(record))
    return 1.0 if expected < _SHORT_M else float(np.clip(reached / expected, 0.0, 1.0))


def infraction_penalty(record: EpisodeRecord) -> float:
    """Product of `PENALTIES` over all infractions (CARLA leaderboard 2.0).

    Unlike there, contacts that are not the ego's fault cost nothing.
    """
    events = [contact.kind for contact in record.contacts if contact.at_fault]
    events += ["red_light"] * record.red_lights + ["timeout"] * (record.outcome == "timeout")
    return float(np.prod([PENALTIES[event] for event in events]))


def free_drive(path: ReferencePath, start_s_m: float, speed_mps: float) -> tuple[np.ndarray, np.ndarray]:
    """How far one gets on an empty road with green lights, within the speed limits and nuPlan's comfort bounds.

    The fastest speed profile with v <= limit, v^2 |curvature| <= 4.89, acceleration in -4.05..2.40 m/s^2: one
    backward and one forward pass over the path.

    Returns:
        float64 [N], float64 [N]: times [s] and distances from the start [m], both from 0, at least two.
    """
    s = np.append(start_s_m, path.s_m[path.s_m > start_s_m + 1e-6])
    if len(s) == 1:
        s = np.append(s, start_s_m + 1.0)
    step = np.diff(s)
    curvature = np.abs(np.interp(s, path.s_m, path.curvature_per_m))
    square = np.minimum(path.limit_at(s) ** 2, BOUNDS.max_lat_accel_mps2 / np.maximum(curvature, 1e-6))
    for k in range(len(step) - 1, -1, -1):
        square[k] = min(square[k], square[k + 1] - 2 * BOUNDS.min_lon_accel_mps2 * step[k])
    square[0] = min(square[0], speed_mps**2)
    for k in range(len(step)):
        square[k + 1] = min(square[k + 1], square[k] + 2 * BOUNDS.max_lon_accel_mps2 * step[k])
    speed = np.sqrt(square)
    return np.append(0.0, np.cumsum(2 * step / (speed[:-1] + speed[1:]))), s - start_s_m


def free_drive_by_frame(
    path: ReferencePath, frame: SceneFrame, checks: FrameChecks, duration_s: float
) -> tuple[float, ...]:
    """How far the free drive from an opening frame has come at every frame until a time: what clients score with."""
    times, distances = free_drive(path, checks.route_progress_m, frame.ego.speed_mps)
    record = EpisodeRecord(times.tolist(), distances.tolist())
    return tuple(_expected_m(record, k * FRAME_DT_S) for k in range(round(duration_s / FRAME_DT_S) + 1))


def _expected_m(record: EpisodeRecord, time_s: float) -> float:
    """Progress expected after some time; past the end of that drive it goes on at its last speed."""
    times, distances = record.expected_time_s, record.expected_m
    if time_s <= times[-1]:
        return float(np.interp(time_s, times, distances))
    last_speed = (distances[-1] - distances[-2]) / (times[-1] - times[-2])
    return distances[-1] + last_speed * (time_s - times[-1])


def _success(record: EpisodeRecord) -> bool:
    """The scenario's own goal reached, without a collision at fault, a red light, or a wheel off the road."""
    clean = no_collision_score(record) == 1.0 and not record.red_lights and not any(record.off_road)
    return record.outcome == "success" and clean


def _outside_share(record: EpisodeRecord) -> float:
    """Share of the driven distance off the road or against the traffic; CARLA takes it off the completion."""
    distance = np.abs(record.speed_mps)
    outside = np.logical_or(record.off_road, record.wrong_way)
    return float((distance * outside).sum() / max(distance.sum(), 1e-9))


def _kind_of(frame: SceneFrame, agent: int) -> str:
    """The leaderboard's three kinds of collision; cyclists are vehicles there."""
    if agent == STATIC:
        return "static"
    kinds = {other.id: other.kind for other in frame.agents}
    return "pedestrian" if kinds[agent] == "pedestrian" else "vehicle"


def _distance_m(record: EpisodeRecord) -> float:
    return float(np.abs(record.speed_mps[1:]).sum() * record.frame_dt_s)


def _duration_s(record: EpisodeRecord) -> float:
    return (len(record.speed_mps) - 1) * record.frame_dt_s
