"""Reference paths along the lanes of a network."""

from collections.abc import Sequence

import numpy as np
from highway_env.road.lane import AbstractLane
from highway_env.road.road import RoadNetwork

from ..path import LaneIndex, ReferencePath
from .curve import arc_lengths, smooth_step

LATERAL_ACCEL_MPS2 = 2.5
BRAKING_MPS2 = 1.8
_STEP_M = 0.25  # sampling before the path is spaced by a metre


def follow(
    network: RoadNetwork,
    lanes: Sequence[LaneIndex],
    start_m: float = 0.0,
    end_m: float | None = None,
    change_m: tuple[float, float] | None = None,
) -> ReferencePath:
    """The path along the centres of lanes, in driving order.

    Args:
        network: where the lanes are.
        lanes: two neighbours of one edge in a row mean a lane change on that edge.
        start_m: where to start on the first lane.
        end_m: where to end on the last lane; its end by default.
        change_m: (arc length on the edge where a lane change begins, its length).

    Raises:
        ValueError: if a lane does not start where the one before ends.
    """
    pieces: list[np.ndarray] = []  # each [N, 4]: x, y, speed limit, half width
    k = 0
    while k < len(lanes):
        lane = network.get_lane(lanes[k])
        changes = k + 1 < len(lanes) and lanes[k + 1][:2] == lanes[k][:2]
        target = network.get_lane(lanes[k + 1]) if changes else None
        k += 2 if changes else 1
        first, last = start_m if not pieces else 0.0, end_m if k == len(lanes) else None
        piece = _sample(lane, target, first, last, change_m)
        if pieces and np.linalg.norm(piece[0, :2] - pieces[-1][-1, :2]) > 0.2:
            raise ValueError(f"expected lane {lanes[k - 1]} to start where the one before ends, got a gap")
        pieces.append(piece)
    return _path(np.concatenate(pieces), tuple(lanes))


def _sample(
    lane: AbstractLane,
    target: AbstractLane | None,
    start_m: float,
    end_m: float | None,
    change_m: tuple[float, float] | None,
) -> np.ndarray:
    end = lane.length if end_m is None else end_m
    s = np.linspace(start_m, end, max(2, round((end - start_m) / _STEP_M) + 1))
    shift = np.zeros_like(s)
    if target is not None:
        begin, length = change_m or (0.3 * lane.length, 0.4 * lane.length)
        gap = lane.local_coordinates(target.position(begin, 0.0))[1]
        shift = gap * smooth_step((s - begin) / length)
    points = np.array([lane.position(along, across) for along, across in zip(s, shift, strict=True)])
    rest = np.broadcast_to([lane.speed_limit, lane.width_at(0.0) / 2], (len(s), 2))
    return np.concatenate([points, rest], axis=1)


def _path(samples: np.ndarray, lanes: tuple[LaneIndex, ...]) -> ReferencePath:
    keep = np.concatenate([[True], np.linalg.norm(np.diff(samples[:, :2], axis=0), axis=1) > 1e-6])
    samples = samples[keep]
    s = arc_lengths(samples[:, :2])
    even = np.linspace(0.0, s[-1], round(s[-1]) + 1)
    x, y, limit, half = (np.interp(even, s, samples[:, k]) for k in range(4))
    path = ReferencePath(np.stack([x, y], axis=1), limit, half, lanes)
    return ReferencePath(path.points, _comfortable(path), half, lanes)


def _comfortable(path: ReferencePath) -> np.ndarray:
    """The speed limit lowered in bends, and before them so that gentle braking is enough."""
    bend = np.maximum(np.abs(path.curvature_per_m), 1e-6)
    limit = np.minimum(path.speed_limit_mps, np.sqrt(LATERAL_ACCEL_MPS2 / bend))
    steps = np.diff(path.s_m)
    for k in range(len(limit) - 2, -1, -1):
        limit[k] = min(limit[k], np.sqrt(limit[k + 1] ** 2 + 2 * BRAKING_MPS2 * steps[k]))
    return np.asarray(limit)
