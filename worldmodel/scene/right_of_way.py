"""Who goes first where lanes meet.

A vehicle may enter a lane with conflicts once it is *cleared* for it. Clearance is given to one vehicle after the
other, nearest first, never takes away another's, and stays until the lane is left: so two vehicles cannot both believe
that they go first. Before giving it, the time windows in which both would use the shared stretch are compared.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from .lane_graph import Conflict, LaneGraph, LaneInfo
from .path import LaneIndex

MARGIN_S = 1.0
PRIORITY_MARGIN_S = 1.6
_FOLLOW_S = 1.8
_PATIENCE_S = 2.0  # who has right of way but stands this long lets others go
_IMPATIENT_S = 7.0  # who has waited this long takes smaller gaps, and others let it in
_STOP_GAP_M = 1.0  # bumper before the line


@dataclass
class Mover:
    """A vehicle near a junction. Distances count from its front bumper; lanes in driving order."""

    id: int
    lanes: list[tuple[LaneIndex, float]]  # (lane, distance to its start, negative once entered)
    speed_mps: float
    length_m: float
    cleared: set[LaneIndex]
    waited_s: float = 0.0
    free_m: float = float("inf")  # way until something that stands
    wins_ties: bool = False
    asks: bool = True  # False: it only counts as cleared for what it has entered or cannot stop for
    starting: bool = False  # sets off from the line just now, so does not change its mind for a close gap
    remembers: bool = True  # its clearances stay; who asks anew each time keeps those it cannot stop for
    hold_m: float = field(default=float("inf"), init=False)  # where it has to wait


def settle(graph: LaneGraph, movers: Sequence[Mover]) -> None:
    """Give clearance where possible; sets `hold_m` and extends `cleared` of every mover."""
    on_lane: dict[LaneIndex, list[tuple[Mover, float]]] = defaultdict(list)
    for mover in movers:
        for lane, start in mover.lanes:
            if graph[lane].conflicts:
                on_lane[lane].append((mover, start))
    for mover in movers:
        _keep_entered(graph, mover)
    for mover in sorted(movers, key=lambda m: (_next_gap(graph, m) / max(m.speed_mps, 2.0), m.id)):
        if mover.asks:
            _ask(graph, mover, on_lane)
    for mover in movers:
        if mover.asks:
            _wait_inside(graph, mover, on_lane)


def yields(info: LaneInfo, other: LaneInfo) -> int:
    """1 if traffic on `info` gives way to `other`, -1 if the other way round, 0 if neither."""
    mine, theirs = (info.priority, -_turn_class(info)), (other.priority, -_turn_class(other))
    return (theirs > mine) - (theirs < mine)


def travel_time_s(distance_m: float, speed_mps: float, limit_mps: float, accel_mps2: float = 1.5) -> float:
    """Time to cover a distance, gathering speed up to a limit."""
    if distance_m <= 0.0:
        return 0.0
    top = max(limit_mps, speed_mps, 0.5)
    ramp_s = (top - speed_mps) / accel_mps2
    ramp_m = 0.5 * (speed_mps + top) * ramp_s
    if distance_m >= ramp_m:
        return ramp_s + (distance_m - ramp_m) / top
    return (math.sqrt(speed_mps**2 + 2.0 * accel_mps2 * distance_m) - speed_mps) / accel_mps2


def _keep_entered(graph: LaneGraph, mover: Mover) -> None:
    """Whoever is past the waiting line, or cannot stop before it any more, is cleared."""
    stopping_m = 0.0 if mover.remembers else mover.speed_mps**2 / (2.0 * 4.5)
    for lane, start in mover.lanes:
        hold = start + graph[lane].hold_m
        if graph[lane].conflicts and hold < stopping_m:
            mover.cleared.add(lane)
    mover.cleared &= {lane for lane, _ in mover.lanes}


def _next_gap(graph: LaneGraph, mover: Mover) -> float:
    gaps = (start for lane, start in mover.lanes if graph[lane].conflicts and lane not in mover.cleared)
    return max(next(gaps, 1e3), 0.0)


def _ask(graph: LaneGraph, mover: Mover, on_lane: dict[LaneIndex, list[tuple[Mover, float]]]) -> None:
    brake, early_m = (2.2, 4.0) if mover.remembers else (1.5, 8.0)
    decide_m = mover.speed_mps**2 / (2.0 * brake) + early_m
    for lane, start in mover.lanes:
        info = graph[lane]
        hold = start + info.hold_m - _STOP_GAP_M
        if not info.conflicts or lane in mover.cleared:
            continue
        if hold > decide_m:
            return
        if not _may_enter(graph, mover, info, start, on_lane):
            mover.hold_m = max(hold, 0.0)
            return
        mover.cleared.add(lane)


def _wait_inside(graph: LaneGraph, mover: Mover, on_lane: dict[LaneIndex, list[tuple[Mover, float]]]) -> None:
    """Where plans did not come true and two cleared vehicles would meet, who arrives later stops before the place."""
    for lane, start in mover.lanes:
        if lane not in mover.cleared:
            continue
        for conflict in graph[lane].conflicts:
            way = start + conflict.enter_m
            if way < mover.speed_mps**2 / (2.0 * 6.0):
                continue
            for other, other_start in on_lane.get(conflict.other, ()):
                cleared = other is not mover and conflict.other in other.cleared
                if cleared and _is_earlier(mover, way, other, other_start, conflict):
                    mover.hold_m = min(mover.hold_m, max(way - 1.5, 0.0))


def _is_earlier(mover: Mover, way: float, other: Mover, other_start: float, conflict: Conflict) -> bool:
    """Whether the other reaches the shared stretch first and is still on it when `mover` gets there."""
    enter = other_start + conflict.other_enter_m
    leave = other_start + conflict.other_leave_m + other.length_m
    mine, theirs = (travel_time_s(w, m.speed_mps, 8.0) for w, m in ((way, mover), (enter, other)))
    first = enter <= 0.0 or (theirs, other.id) < (mine, mover.id)
    return leave > 0.0 and first and mine < leave / max(other.speed_mps, 1.0) + 0.4


def _may_enter(
    graph: LaneGraph,
    mover: Mover,
    info: LaneInfo,
    start: float,
    on_lane: dict[LaneIndex, list[tuple[Mover, float]]],
) -> bool:
    for conflict in info.conflicts:
        if not conflict.merging and mover.free_m < start + conflict.leave_m + mover.length_m + 1.0:
            return False  # would stand in the other's way
        for other, other_start in on_lane.get(conflict.other, ()):
            if other is not mover and _clash(graph, mover, info, start, other, other_start, conflict):
                return False
    return True


def _clash(
    graph: LaneGraph,
    mover: Mover,
    info: LaneInfo,
    start: float,
    other: Mover,
    other_start: float,
    conflict: Conflict,
) -> bool:
    """Whether `mover` has to wait for `other` at one conflict."""
    enter = other_start + conflict.other_enter_m
    leave = other_start + conflict.other_leave_m + other.length_m
    if leave < 0.0:
        return False
    other_info = graph[conflict.other]
    committed = conflict.other in other.cleared or enter < 0.0
    if not committed and not _goes_first(other, enter, yields(info, other_info), mover):
        return False
    margin = MARGIN_S if committed else PRIORITY_MARGIN_S
    if mover.starting or mover.waited_s > _IMPATIENT_S:
        margin = 0.4
    limit, other_limit = info.mean_mps, float(other_info.lane.speed_limit or 13.9)
    mine = (
        travel_time_s(start + conflict.enter_m, mover.speed_mps, limit),
        travel_time_s(start + conflict.leave_m + mover.length_m, mover.speed_mps, limit),
    )
    theirs = (
        travel_time_s(enter, other.speed_mps, other_limit),
        max(leave, 0.0) / max(other.speed_mps, 1.0),
    )
    if conflict.merging and committed and mine[0] > theirs[0] + _FOLLOW_S:
        return False  # joins the lane behind it
    return mine[0] < theirs[1] + margin and theirs[0] < mine[1] + margin


def _goes_first(other: Mover, enter_m: float, rank: int, mover: Mover) -> bool:
    """Whether somebody who has not entered yet is waited for; `rank` 1 means that it has right of way."""
    if rank < 0 or (rank == 0 and not other.wins_ties):
        return False
    if other.speed_mps < 0.5 and other.waited_s > _PATIENCE_S:
        return False  # does not use it
    courteous = other.asks or other.remembers
    can_wait = enter_m > other.speed_mps**2 / (2.0 * 2.5) + 6.0
    return not (courteous and can_wait and mover.waited_s > _IMPATIENT_S)


def _turn_class(info: LaneInfo) -> int:
    """0 straight on, 1 to the right, 2 to the left: who turns left lets oncoming traffic pass."""
    if abs(info.turn_rad) < 0.5:
        return 0
    return 1 if info.turn_rad < 0 else 2
