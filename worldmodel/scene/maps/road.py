"""A stretch of road with a constant cross-section: its lanes, asphalt and paint."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .curve import headings, offset
from .lanes import NONE, SOLID, STRIPED, LaneOptions, make_lane
from .plan import Plan, ribbon

HIGHWAY_DASH = (3.0, 6.0)
URBAN_DASH = (3.0, 3.0)
LINE_WIDTH_M = 0.15


@dataclass(frozen=True)
class Profile:
    """A cross-section, seen along the road's line, which runs between both directions."""

    forward: int = 1  # lanes along the line
    backward: int = 1  # lanes against it
    lane_width_m: float = 3.5
    median_m: float = 0.0  # between the inner lanes of both directions
    margin_m: float = 0.0  # asphalt outside the outermost lanes (shoulder)
    speed_limit_mps: float = 13.9
    priority: int = 3
    dash_m: tuple[float, float] = URBAN_DASH
    edge_lines: bool = False  # white lines at the outer edges (and at the median)

    def centre_m(self, lane: int) -> float:
        """Distance from the road's line to the centre of a lane; lane 0 is the innermost."""
        return self.median_m / 2 + (lane + 0.5) * self.lane_width_m

    def edge_m(self, lanes: int) -> float:
        """Distance from the road's line to the outer edge of the outermost lane."""
        return self.median_m / 2 + lanes * self.lane_width_m

    @property
    def right_m(self) -> float:
        """Distance from the road's line to the right edge of the asphalt."""
        return self.edge_m(self.forward) + self.margin_m

    @property
    def left_m(self) -> float:
        """Distance from the road's line to the left edge of the asphalt."""
        return self.edge_m(self.backward) + self.margin_m if self.backward else 0.0


def lay_road(
    plan: Plan,
    line: np.ndarray,
    profile: Profile,
    forward: tuple[str, str],
    backward: tuple[str, str] | None = None,
    widened_m: np.ndarray | float = 0.0,
) -> None:
    """Add a road along a line [N, 2]: lanes between the named nodes, asphalt and paint.

    `widened_m` moves the right edge outwards (one number per point for a taper).
    """
    add_lanes(plan, line, profile, forward, profile.forward)
    if backward:
        add_lanes(plan, line[::-1], profile, backward, profile.backward)
    if profile.median_m > 0.0:
        inner = max(profile.median_m / 2 - 0.5, 0.0)
        plan.asphalt.append(ribbon(line, -inner, -profile.right_m - widened_m))
        if backward:
            plan.asphalt.append(ribbon(line, profile.left_m, inner))
    else:
        plan.asphalt.append(ribbon(line, profile.left_m, -profile.right_m - widened_m))
    paint_road(plan, line, profile, widened_m)


def add_lanes(plan: Plan, line: np.ndarray, profile: Profile, nodes: tuple[str, str], count: int) -> None:
    """Add the lanes that drive along the line, on its right, from left to right."""
    for i in range(count):
        lines = (
            STRIPED if i < count - 1 else SOLID if profile.edge_lines else NONE,
            STRIPED if i > 0 or profile.median_m == 0.0 else SOLID,
        )
        options = LaneOptions(profile.lane_width_m, profile.speed_limit_mps, profile.priority, lines)
        plan.network.add_lane(*nodes, make_lane(offset(line, -profile.centre_m(i)), options))


def paint_road(plan: Plan, line: np.ndarray, profile: Profile, widened_m: np.ndarray | float = 0.0) -> None:
    """Lane lines, the yellow centre line or the median's edges, and the outer edges."""
    for side, lanes in ((-1, profile.forward), (1, profile.backward)):
        for i in range(1, lanes):
            plan.mark("lane_line", offset(line, side * profile.edge_m(i)), LINE_WIDTH_M, profile.dash_m)
        if lanes and profile.edge_lines:
            outer = profile.edge_m(lanes) + (widened_m if side < 0 else 0.0)
            plan.mark("road_edge", offset(line, side * outer), LINE_WIDTH_M)
            if profile.median_m > 0.0:
                plan.mark("road_edge", offset(line, side * profile.median_m / 2), LINE_WIDTH_M)
    if profile.median_m == 0.0 and profile.forward and profile.backward:
        _paint_centre(plan, line, profile)


def _paint_centre(plan: Plan, line: np.ndarray, profile: Profile) -> None:
    """Yellow: continuous between several lanes and in bends, where nobody may overtake, else dashed."""
    if max(profile.forward, profile.backward) > 1:
        for side in (-0.12, 0.12):
            plan.mark("centre_line", offset(line, side), 0.12)
        return
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    bends = np.abs(np.diff(headings(line))) / steps > 1 / 250.0
    borders = [0, *(np.flatnonzero(np.diff(bends)) + 1), len(steps)]
    for start, end in pairwise(borders):
        plan.mark(
            "centre_line", line[start : end + 1], LINE_WIDTH_M, None if bends[start] else profile.dash_m
        )
