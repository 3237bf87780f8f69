"""What merge and exit share: a carriageway along the x axis with an auxiliary lane, and a ramp that bends away."""

import numpy as np
import shapely

from .curve import offset, resample, smooth_step, smoothed, straight, trace
from .highway import SHOULDER_M, dress_median, dress_verge, highway_profile
from .plan import Plan, closed, ribbon
from .road import LINE_WIDTH_M, Profile, lay_road
from .roadside import Roadside
from .routes import LATERAL_ACCEL_MPS2

MEDIAN_M = 4.0
TAPER_M = 60.0
GORE_M = 75.0  # along the carriageway, between its edge and the ramp's own verge
EASING_M = 60
BEND_RAD = 1.1  # how far a ramp turns away from the carriageway


def carriageway(lanes: int, lane_width_m: float, speed_limit_mps: float) -> Profile:
    """One direction of a highway with a median on its left."""
    return highway_profile(lanes, 0, lane_width_m, speed_limit_mps, MEDIAN_M)


def along_x(start_m: float, end_m: float) -> np.ndarray:
    """A line along the x axis with a point every two metres or so."""
    return resample(straight(np.array([start_m, 0.0]), np.array([end_m, 0.0])), 2.0)


def taper(line: np.ndarray, from_x_m: float, to_x_m: float, width_m: float) -> np.ndarray:
    """Extra width along a line, `width_m` at one x and nothing at the other: [N]."""
    return width_m * (1.0 - smooth_step((line[:, 0] - from_x_m) / (to_x_m - from_x_m)))


def ramp_line(
    start: tuple[float, float], yaw_rad: float, radius_m: float, left: int, straight_m: float
) -> np.ndarray:
    """A ramp that leaves a pose tangentially, bends to the left (1) or right (-1) and goes straight on."""
    bend_m = round(BEND_RAD * radius_m)
    bend = np.concatenate(
        [
            np.zeros(EASING_M // 2),
            np.full(bend_m, left / radius_m),
            np.zeros(round(straight_m) + EASING_M // 2),
        ]
    )
    return trace(start, yaw_rad, smoothed(bend, EASING_M + 1))


def ramp_profile(lane_width_m: float, radius_m: float) -> Profile:
    """One lane with a shoulder; drivers keep to what its bend allows."""
    limit = float(np.sqrt(LATERAL_ACCEL_MPS2 * radius_m))
    return Profile(1, 0, lane_width_m, 0.0, SHOULDER_M, limit, 1, edge_lines=True)


def lay_ramp(
    plan: Plan, line: np.ndarray, profile: Profile, nodes: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Add a ramp along the centre of its lane, in driving order.

    Returns:
        The right and left edges of its asphalt, each with the grass on its right.
    """
    left_line = offset(line, profile.lane_width_m / 2)
    lay_road(plan, left_line, profile, nodes)
    plan.mark("road_edge", left_line, LINE_WIDTH_M)
    plan.asphalt.append(ribbon(left_line, 0.5, -1.0))
    return offset(left_line, -profile.right_m), offset(left_line, 0.5)[::-1]


def finish_roadside(
    plan: Plan,
    main: np.ndarray,
    profile: Profile,
    verges: list[tuple[float, float, float]],
    ramp_edges: tuple[np.ndarray, np.ndarray],
    density: float,
) -> None:
    """Add the opposite carriageway, fill the gore, and dress all verges.

    Args:
        plan: with all lanes of this carriageway and the ramp.
        main: the median's line, all along.
        profile: of the carriageway without auxiliary lane.
        verges: (from x, to x, widening) of the right edge, where the ramp is not in between.
        ramp_edges: the outer edges of the ramp's asphalt, each with the grass on its right.
        density: of what stands there.
    """
    lay_road(plan, main[::-1], profile, ("e.in", "w.out"))
    plan.asphalt = [closed(shapely.union_all(plan.asphalt), 1.0)]
    roadside = Roadside(plan)
    dress_median(roadside, main, MEDIAN_M)
    dress_verge(roadside, offset(main[::-1], -profile.right_m), density)
    for start, end, widened in verges:
        dress_verge(roadside, offset(along_x(start, end), -profile.right_m - widened), density)
    for edge in ramp_edges:
        dress_verge(roadside, edge, density, rails=False)
