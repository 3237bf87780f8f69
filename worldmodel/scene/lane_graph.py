"""The road network as traffic sees it: sampled lanes, what follows what, where lanes meet, lights and crossings.

Built once per world from highway-env's lanes, so that no look-up during driving searches the network.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from highway_env.road.lane import AbstractLane

from .path import LaneIndex
from .world import StaticWorld

LATERAL_ACCEL_MPS2 = 2.5  # comfortable in bends
_JOINT_M = 1.0  # lanes follow each other when end and start are this close
_THIN = 3  # samples between those that `nearest` looks at
_CLEARANCE_M = 2.7  # two vehicles do not fit where lane centres are closer than this


@dataclass(frozen=True, eq=False)
class Conflict:
    """A stretch of this lane that cannot be used while another lane's stretch is."""

    other: LaneIndex
    enter_m: float
    leave_m: float
    other_enter_m: float
    other_leave_m: float
    merging: bool  # both lanes end in the same place


@dataclass(eq=False)
class LaneInfo:
    """One lane, sampled about every metre."""

    index: LaneIndex
    lane: AbstractLane
    points: np.ndarray  # float64 [N, 2]
    s_m: np.ndarray  # float64 [N]
    heading_rad: np.ndarray  # float64 [N], unwrapped
    speed_mps: np.ndarray  # float64 [N], limit and comfortable speed in bends
    after: tuple[LaneIndex, ...] = ()
    before: tuple[LaneIndex, ...] = ()
    dead_end: bool = False  # neighbours go on, this lane does not
    light: int | None = None  # index of the light that rules its end
    conflicts: tuple[Conflict, ...] = ()
    crossings: list[tuple[int, float]] = field(default_factory=list)  # (crossing, s of its middle)

    def __post_init__(self) -> None:
        self.length_m = float(self.s_m[-1])
        self._xy: list[list[float]] = self.points.tolist()
        self._step_m = self.length_m / (len(self._xy) - 1)

    def project(self, x_m: float, y_m: float, near_s_m: float) -> tuple[float, float]:
        """Arc length and left offset of a position near a known arc length; both ends go on straight.

        Walks from sample to sample in plain numbers: ten times faster than searching the whole lane.
        """
        k = min(max(int(near_s_m / self._step_m), 0), len(self._xy) - 2)
        came = 0
        while True:
            (ax, ay), (bx, by) = self._xy[k], self._xy[k + 1]
            ux, uy = (bx - ax) / self._step_m, (by - ay) / self._step_m
            along = (x_m - ax) * ux + (y_m - ay) * uy
            step = 1 if along > self._step_m else -1 if along < 0.0 else 0
            if step == 0 or step == -came or not 0 <= k + step <= len(self._xy) - 2:
                return k * self._step_m + along, ux * (y_m - ay) - uy * (x_m - ax)
            k, came = k + step, step

    @cached_property
    def priority(self) -> int:
        """Right of way, higher goes first."""
        return int(getattr(self.lane, "priority", 0))

    @cached_property
    def turn_rad(self) -> float:
        """How far it turns from start to end, left positive."""
        return float(self.heading_rad[-1] - self.heading_rad[0])

    @cached_property
    def mean_mps(self) -> float:
        """Mean of its comfortable speeds."""
        return float(self.speed_mps.mean())

    @cached_property
    def hold_m(self) -> float:
        """Where to wait for its conflicts: its start, or before the first conflict where that lies further on."""
        first = min((c.enter_m for c in self.conflicts), default=0.0)
        return first - 3.0 if first > 15.0 else 0.0


class LaneGraph:
    """All lanes of a world. Immutable; shared by every session on it."""

    def __init__(self, world: StaticWorld):
        lanes = world.network.lanes_dict()
        self.lanes: dict[LaneIndex, LaneInfo] = {index: _sample(index, lane) for index, lane in lanes.items()}
        self._connect()
        for k, light in enumerate(world.lights):
            for index in light.lanes:
                self.lanes[index].light = k
        for k, crossing in enumerate(world.crossings):
            for info in self.lanes.values():
                s = _crossed_at(info, crossing.line)
                if s is not None:
                    info.crossings.append((k, s))
        conflicts = _find_conflicts(self.lanes)
        for index, info in self.lanes.items():
            info.conflicts = tuple(conflicts[index])
        thin = [
            (index, info.points[::_THIN], info.heading_rad[::_THIN]) for index, info in self.lanes.items()
        ]
        self._some_points = np.concatenate([points for _, points, _ in thin])
        self._some_headings = np.concatenate([headings for _, _, headings in thin])
        self._some_owners = [index for index, points, _ in thin for _ in points]

    def __getitem__(self, index: LaneIndex) -> LaneInfo:
        return self.lanes[index]

    def nearest(self, x_m: float, y_m: float, yaw_rad: float) -> LaneIndex:
        """The lane under a pose: nearest across, where half a radian of heading counts as a metre."""
        dx, dy = x_m - self._some_points[:, 0], y_m - self._some_points[:, 1]
        cos, sin = np.cos(self._some_headings), np.sin(self._some_headings)
        along, across = np.abs(dx * cos + dy * sin), np.abs(dy * cos - dx * sin)
        turned = np.abs((self._some_headings - yaw_rad + np.pi) % (2 * np.pi) - np.pi)
        return self._some_owners[int(np.argmin(across + 2.0 * turned + np.maximum(along - _THIN, 0.0)))]

    def _connect(self) -> None:
        starts = defaultdict(list)
        for index in self.lanes:
            starts[index[0]].append(index)
        for index, info in self.lanes.items():
            next_lanes = starts[index[1]]
            info.after = tuple(n for n in next_lanes if _joined(info, self.lanes[n]))
        for index, info in self.lanes.items():
            edge_goes_on = any(self.lanes[s].after for s in self.lanes if s[:2] == index[:2])
            info.dead_end = not info.after and edge_goes_on
            info.before = tuple(b for b in self.lanes if index in self.lanes[b].after)


@lru_cache(maxsize=1)
def _cache() -> dict[int, tuple[StaticWorld, LaneGraph]]:
    return {}


def lane_graph(world: StaticWorld) -> LaneGraph:
    """The graph of a world, made once per world object."""
    cache = _cache()
    found = cache.get(id(world))
    if found is None or found[0] is not world:
        if len(cache) >= 32:
            cache.pop(next(iter(cache)))
        found = cache[id(world)] = (world, LaneGraph(world))
    return found[1]


def _sample(index: LaneIndex, lane: AbstractLane) -> LaneInfo:
    s = np.linspace(0.0, float(lane.length), max(3, round(float(lane.length)) + 1))
    points = np.array([lane.position(at, 0.0) for at in s])
    heading = np.unwrap([lane.heading_at(at) for at in s])
    bend = np.abs(np.gradient(heading, s))
    limit = lane.speed_limit if lane.speed_limit is not None else 13.9
    speed = np.minimum(limit, np.sqrt(LATERAL_ACCEL_MPS2 / np.maximum(bend, 1e-6)))
    return LaneInfo(index, lane, points, s, heading, speed)


def _joined(info: LaneInfo, after: LaneInfo) -> bool:
    gap = np.linalg.norm(info.points[-1] - after.points[0])
    turned = (after.heading_rad[0] - info.heading_rad[-1] + np.pi) % (2 * np.pi) - np.pi
    return bool(gap < _JOINT_M and abs(turned) < 0.6)


def _crossed_at(info: LaneInfo, line: np.ndarray) -> float | None:
    """Where a lane's centre line crosses a segment [2, 2], or None."""
    a, b = info.points[:-1], info.points[1:]
    c, d = line
    side_c, side_d = _cross(b - a, c - a), _cross(b - a, d - a)
    side_a, side_b = _cross(d - c, a - c), _cross(d - c, b - c)
    hits = np.flatnonzero((side_c * side_d < 0) & (side_a * side_b <= 0))
    return float(info.s_m[hits[0]]) if len(hits) else None


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])


def _find_conflicts(lanes: dict[LaneIndex, LaneInfo]) -> dict[LaneIndex, list[Conflict]]:
    found: dict[LaneIndex, list[Conflict]] = defaultdict(list)
    indices = list(lanes)
    low = {index: info.points.min(0) - _CLEARANCE_M for index, info in lanes.items()}
    high = {index: info.points.max(0) for index, info in lanes.items()}
    for k, first in enumerate(indices):
        for second in indices[k + 1 :]:
            apart = (low[first] > high[second]).any() or (low[second] > high[first]).any()
            if not apart and not _related(lanes[first], lanes[second]):
                _add_conflict(lanes[first], lanes[second], found)
    return found


def _related(a: LaneInfo, b: LaneInfo) -> bool:
    """Whether two lanes are neighbours, one after the other, or fork: there vehicles follow each other."""
    same_edge = a.index[:2] == b.index[:2]
    forks = bool(set(a.before) & set(b.before)) and not set(a.after) & set(b.after)
    return same_edge or b.index in a.after or a.index in b.after or forks


def _add_conflict(a: LaneInfo, b: LaneInfo, found: dict[LaneIndex, list[Conflict]]) -> None:
    if _distances(a.points[::8], b.points[::8]).min() > _CLEARANCE_M + 8.0:
        return
    near = _distances(a.points, b.points) < _CLEARANCE_M
    along = np.cos(a.heading_rad[:, None] - b.heading_rad[None])
    near &= along > -0.95  # oncoming lanes of a narrow road pass each other
    if not near.any():
        return
    on_a, on_b = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    merging = bool(np.linalg.norm(a.points[-1] - b.points[-1]) < _CLEARANCE_M and along[-1, -1] > 0.7)
    part_a = (float(a.s_m[on_a[0]]), float(a.s_m[on_a[-1]]))
    part_b = (float(b.s_m[on_b[0]]), float(b.s_m[on_b[-1]]))
    found[a.index].append(Conflict(b.index, *part_a, *part_b, merging))
    found[b.index].append(Conflict(a.index, *part_b, *part_a, merging))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between all points of [N, 2] and [M, 2]: [N, M]."""
    gap = a[:, None] - b[None]
    return np.asarray(np.hypot(gap[..., 0], gap[..., 1]))
