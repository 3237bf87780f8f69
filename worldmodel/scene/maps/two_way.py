"""A rural road with one lane each way.

Nodes: `w.in` -> `e.out` eastwards, `e.in` -> `w.out` westwards. Routes: `keep` (east), `keep_back` (west).
"""

from functools import partial

import numpy as np

from . import furniture
from .curve import smoothed, trace
from .plan import Plan, ribbon
from .road import HIGHWAY_DASH, Profile, lay_road
from .roadside import Roadside
from .routes import follow
from .spec import TwoWaySpec

BEFORE_M, AFTER_M = 60.0, 160.0  # road before and after the routes, so that nobody sees its end
MIN_RADIUS_M = 300.0


def build(plan: Plan, spec: TwoWaySpec) -> None:
    """Fill the plan."""
    total = round(spec.length_m + BEFORE_M + AFTER_M)
    line = trace((-BEFORE_M, 0.0), 0.0, gentle_bends(plan.rng, total, spec.curvature / MIN_RADIUS_M))
    profile = country_profile(spec.lane_width_m, spec.speed_limit_mps)
    lay_road(plan, line, profile, ("w.in", "e.out"), ("e.in", "w.out"))
    plan.gravel.append(ribbon(line, profile.left_m + 0.8, -profile.right_m - 0.8))
    dress(plan, line, profile, spec.density)
    for name, lane in (("keep", ("w.in", "e.out", 0)), ("keep_back", ("e.in", "w.out", 0))):
        plan.routes[name] = follow(plan.network, [lane], BEFORE_M, BEFORE_M + spec.length_m)


def country_profile(lane_width_m: float, speed_limit_mps: float) -> Profile:
    """One lane each way, with white edge lines and a strip of asphalt outside them."""
    return Profile(
        lane_width_m=lane_width_m,
        margin_m=0.5,
        speed_limit_mps=speed_limit_mps,
        dash_m=HIGHWAY_DASH,
        edge_lines=True,
    )


def gentle_bends(rng: np.random.Generator, length_m: int, curvature_per_m: float) -> np.ndarray:
    """Curvature per metre of a road that swings to both sides with long easings: [length_m]."""
    pieces = np.array([rng.uniform(0.4, 1.0) * (-1) ** k for k in range(length_m // 220 + 2)])
    steps = np.repeat(pieces * rng.choice([-1, 1]), 220)
    return curvature_per_m * smoothed(steps, 121)[:length_m]


def dress(plan: Plan, line: np.ndarray, profile: Profile, density: float) -> None:
    """Delineators, poles of an overhead line, signs and trees along a country road."""
    roadside = Roadside(plan)
    right, left = -profile.right_m, profile.left_m
    for side, edge in ((-1, right), (1, left)):
        roadside.row(line, edge + side * 0.6, 25.0, furniture.delineator)
        turned = np.pi if side < 0 else 0.0  # plates face those who drive on that side
        if density > 0:
            sign = partial(furniture.sign, rng=plan.rng)
            roadside.row(line, edge + side * 1.6, 170.0 / density, sign, jitter=0.6, turned_rad=turned)
    if density > 0:
        roadside.row(line, left + 5.0, 45.0, furniture.utility_pole)
    roadside.scatter_trees(line, left + 3.5, left + 45.0, 9.0 * density)
