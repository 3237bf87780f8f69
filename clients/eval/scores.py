"""Scores of a rollout from its trace: NAVSIM's PDM score with its parts, and the driving score of the CARLA leaderboard.

Formulas and sources: docs/metrics.md. They are those of `worldmodel.scene.scores`, in numpy and without the world, because clients are installed
without it; a test holds both equal on the same drives.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .comfort import comfortable
from .trace import AGENT_KINDS, NOBODY, STATIC, Trace

VERSION = 1  # of the formulas; kept with every result
TTC_BOUND_S = 1.0
SHORT_M = 5.0  # where hardly any progress is possible, none is asked for
PENALTIES = {"pedestrian": 0.50, "vehicle": 0.60, "static": 0.65, "red_light": 0.70, "timeout": 0.70}
PEDESTRIAN = AGENT_KINDS.index("pedestrian")


@dataclass(frozen=True)
class Scores:
    """The judgement of one rollout. The first nine lie in 0..1, more is better."""

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
    close_call_share: float
    comfortable_share: float
    min_ttc_s: float | None  # None: never on a collision course
    distance_m: float
    duration_s: float
    mean_speed_mps: float
    ade_m: float | None = None  # mean distance to the reference drive at the same times, where there is one

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every value valid in JSON."""
        return asdict(self)


def score(trace: Trace, reference: Trace | None = None) -> Scores:
    """Score a rollout.

    Args:
        trace: of the rollout.
        reference: of another driver on the same world, such as the expert. Progress is then measured against that one,
            and the distance to it is told.
    """
    speed, frames = trace.ego_column("speed_mps"), trace.frames
    smooth = comfortable(speed, trace.ego_column("yaw_rad"), trace.dt_s)
    contacts = contacts_of(trace)
    faults = [kind for _, kind, fault in contacts if fault]
    red = int(frames["red_light"].sum())
    ttc = frames["ttc_s"]
    parts = (
        _no_collision(faults),
        float(not frames["off_road"].any()),
        float((ttc > TTC_BOUND_S).all()),
        _progress(trace, reference),
        float(smooth.all()),
    )
    outcome = trace.about["outcome"]
    penalty = _penalty([*faults, *["red_light"] * red, *["timeout"] * (outcome == "timeout")])
    completion = float(frames["route_completion"][-1])
    return Scores(
        *parts,
        pdms=pdm_score(*parts),
        route_completion=completion,
        infraction_penalty=penalty,
        driving_score=completion * (1.0 - _outside_share(trace)) * penalty,
        success=outcome == "success" and parts[0] == 1.0 and parts[1] == 1.0 and not red,
        contacts=len(contacts),
        contacts_at_fault=len(faults),
        red_lights=red,
        off_road_share=float(frames["off_road"].mean()),
        wrong_way_share=float(frames["wrong_way"].mean()),
        close_call_share=float((ttc <= TTC_BOUND_S).mean()),
        comfortable_share=float(smooth.mean()),
        min_ttc_s=float(ttc.min()) if np.isfinite(ttc).any() else None,
        distance_m=float(np.abs(speed[1:]).sum() * trace.dt_s),
        duration_s=trace.duration_s,
        mean_speed_mps=float(speed.mean()),
        ade_m=None if reference is None else _distance(trace, reference),
    )


def pdm_score(nc: float, dac: float, ttc: float, ep: float, c: float) -> float:
    """PDMS = NC * DAC * (5 TTC + 5 EP + 2 C) / 12."""
    return nc * dac * (5 * ttc + 5 * ep + 2 * c) / 12


def contacts_of(trace: Trace) -> list[tuple[int, str, bool]]:
    """Frame, kind (pedestrian, vehicle, static) and fault of every contact.

    An agent counts once, static structure again after a second without it.
    """
    found: list[tuple[int, str, bool]] = []
    touched: set[int] = set()
    static_frame = -1_000_000
    for k in np.flatnonzero(trace.collision_with != NOBODY).tolist():
        other = int(trace.collision_with[k])
        if other == STATIC:
            known, kind = (k - static_frame) * trace.dt_s <= 1.0, "static"
            static_frame = k
        else:
            known = other in touched
            kind = "pedestrian" if trace.collision_kind[k] == PEDESTRIAN else "vehicle"
            touched.add(other)
        if not known:
            found.append((k, kind, bool(trace.frames["collision_at_fault"][k])))
    return found


def _no_collision(faults: list[str]) -> float:
    if set(faults) - {"static"}:
        return 0.0
    return 0.5 if faults else 1.0


def _penalty(infractions: list[str]) -> float:
    return float(np.prod([PENALTIES[each] for each in infractions]))


def _progress(trace: Trace, reference: Trace | None) -> float:
    """EP: the furthest progress over the progress expected in the same time."""
    progress = trace.frames["route_progress_m"]
    reached = float(progress.max() - progress[0])
    if reference is None:
        expected = trace.free_drive_m
    else:
        expected = np.maximum.accumulate(reference.frames["route_progress_m"])
        expected = expected - expected[0]
    wanted = _at(expected, len(progress) - 1)
    return 1.0 if wanted < SHORT_M else float(np.clip(reached / wanted, 0.0, 1.0))


def _at(expected_m: np.ndarray, frame: int) -> float:
    """The value at a frame; past the end it goes on at its last speed."""
    last = len(expected_m) - 1
    if frame <= last:
        return float(expected_m[frame])
    step = float(expected_m[last] - expected_m[last - 1]) if last else 0.0
    return float(expected_m[last]) + step * (frame - last)


def _outside_share(trace: Trace) -> float:
    """Share of the distance off the road or against the traffic."""
    distance = np.abs(trace.ego_column("speed_mps"))
    outside = trace.frames["off_road"] | trace.frames["wrong_way"]
    return float((distance * outside).sum() / max(float(distance.sum()), 1e-9))


def _distance(trace: Trace, reference: Trace) -> float:
    """ADE: mean distance of both egos at the same times, for as long as both drove."""
    count = min(len(trace.ego), len(reference.ego))
    apart = trace.ego[:count, :2] - reference.ego[:count, :2]
    return float(np.hypot(apart[:, 0], apart[:, 1]).mean())
