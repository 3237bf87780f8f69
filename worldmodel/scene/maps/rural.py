"""A winding country road, one lane each way; every seed is another road.

The road is cut into pieces with their own speed limits, so that traffic slows down in bends: nodes `w.in` -> `p1` -> `p2`
... `e.out` eastwards, `e.in` -> `q1` ... `w.out` westwards. Routes: `keep` (east) and `keep_back` (west).
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from . import furniture
from .curve import headings, offset, pose_at, section, smoothed, trace
from .plan import Plan, ribbon
from .road import Profile, add_lanes, paint_road
from .roadside import Roadside
from .routes import LATERAL_ACCEL_MPS2, follow
from .spec import RuralSpec
from .two_way import AFTER_M, BEFORE_M, country_profile, dress

PIECE_M = 80
TURN_BACK_RAD = 0.7  # a road that has turned this far from east bends back


def build(plan: Plan, spec: RuralSpec) -> None:
    """Fill the plan."""
    pieces = round((spec.length_m + BEFORE_M + AFTER_M) / PIECE_M) + 1
    line = trace((-BEFORE_M, 0.0), 0.0, winding(plan.rng, pieces * PIECE_M, spec))
    profile = country_profile(spec.lane_width_m, spec.speed_limit_mps)
    east = _lay_pieces(plan, line, profile, ["w.in", *(f"p{k}" for k in range(1, pieces)), "e.out"])
    west = _lay_pieces(plan, line[::-1], profile, ["e.in", *(f"q{k}" for k in range(1, pieces)), "w.out"])
    plan.asphalt.append(ribbon(line, profile.left_m, -profile.right_m))
    plan.gravel.append(ribbon(line, profile.left_m + 0.8, -profile.right_m - 0.8))
    paint_road(plan, line, profile)
    _enclose(plan, line, profile, spec)
    dress(plan, line, profile, spec.density)
    for name, lanes in (("keep", east), ("keep_back", west)):
        last, end = divmod(BEFORE_M + spec.length_m, PIECE_M)
        plan.routes[name] = follow(plan.network, lanes[: int(last) + 1], BEFORE_M, end)


def winding(rng: np.random.Generator, length_m: int, spec: RuralSpec) -> np.ndarray:
    """Curvature per metre: bends of random sharpness with easings, and straights between them: [length_m]."""
    bend, yaw = np.zeros(length_m), 0.0
    s = 0
    while s < length_m:
        piece = int(rng.integers(40, 110))
        if rng.uniform() < spec.bend_share:
            side = -np.sign(yaw) if abs(yaw) > TURN_BACK_RAD / 2 else rng.choice([-1.0, 1.0])
            sharpness = rng.uniform(0.25, 1.0) / spec.min_radius_m
            room = (TURN_BACK_RAD + abs(yaw)) if side * yaw < 0 else TURN_BACK_RAD - abs(yaw)
            piece = max(20, min(piece, int(room / sharpness)))
            bend[s : s + piece] = side * sharpness
            yaw += side * sharpness * piece
        s += piece
    return smoothed(bend, 41)


def _lay_pieces(
    plan: Plan, line: np.ndarray, profile: Profile, nodes: list[str]
) -> list[tuple[str, str, int]]:
    """Lanes along a line, cut at the nodes. Returns them in driving order."""
    lanes = []
    for k, (start, end) in enumerate(pairwise(nodes)):
        part = line[k * PIECE_M : (k + 1) * PIECE_M + 1]
        bend = float(np.abs(np.diff(headings(part))).max())
        limit = min(profile.speed_limit_mps, float(np.sqrt(LATERAL_ACCEL_MPS2 / max(bend, 1e-6))))
        add_lanes(plan, part, replace(profile, speed_limit_mps=limit), (start, end), 1)
        lanes.append((start, end, 0))
    return lanes


def _enclose(plan: Plan, line: np.ndarray, profile: Profile, spec: RuralSpec) -> None:
    """Hedges and fences along stretches of the roadside, and a few houses farther away."""
    roadside, rng = Roadside(plan), plan.rng
    for side in (-1, 1):
        for start in np.arange(0.0, len(line) - 60.0, 60.0):
            if rng.uniform() < spec.hedges:
                away = profile.left_m + rng.uniform(2.5, 4.0)
                _stretch(roadside, section(line, start, start + rng.uniform(25.0, 60.0)), side * away)
    for s in np.arange(60.0, len(line) - 1.0, 180.0):
        x, y, yaw = pose_at(line, s, rng.choice([-1, 1]) * rng.uniform(18.0, 40.0))
        roadside.put(furniture.building((x, y, yaw + rng.uniform(-0.4, 0.4)), 12.0, 9.0, rng))


def _stretch(roadside: Roadside, line: np.ndarray, left_m: float, piece_m: float = 6.0) -> None:
    rng = roadside.plan.rng
    make = furniture.hedge if rng.uniform() < 0.5 else furniture.fence
    side_line = offset(line, left_m)
    roadside.row(side_line, 0.0, piece_m, lambda pose: make(pose, piece_m - 0.15, rng))
