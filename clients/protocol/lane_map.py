"""The map of a session's world, as `GET /v1/sessions/{session}/map` gives it: lines on the ground, to be drawn from above.

Everything is in the world frame of `ego` and `agents`: x east, y north, metres; yaw counter-clockwise from x, radians. A line
is a list of [x, y] points. The map is the whole one and does not change while the session keeps its world.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Point = tuple[float, float]
Line = list[Point]
LineKind = Literal["lane_line", "centre_line", "road_edge", "kerb", "stop_line"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Lane(_Part):
    """One lane by its centre line, in driving direction."""

    centre: Line
    width_m: float
    limit_mps: float


class Boundary(_Part):
    """A line that is painted or built: between lanes, between directions, at the edge, at a kerb, where to stop."""

    kind: LineKind
    points: Line
    width_m: float
    dashed: bool


class Crosswalk(_Part):
    """A pedestrian crossing by its middle line, from kerb to kerb."""

    points: Line
    width_m: float


class Light(_Part):
    """A traffic light; `metrics.lights` gives their states in this order."""

    x_m: float
    y_m: float
    yaw_rad: float  # towards the drivers that it rules
    stop_line: Line


class LaneMap(_Part):
    """The roads around a session and the route that its ego is asked to follow."""

    session: str
    name: str  # of the kind of map
    weather: str
    time_of_day: str
    bounds_m: tuple[float, float, float, float]  # least x, least y, greatest x, greatest y of all lines
    tolerance_m: float  # lines are at most so far from the true ones
    lanes: list[Lane]
    boundaries: list[Boundary]
    crosswalks: list[Crosswalk]
    lights: list[Light]
    route: Line
