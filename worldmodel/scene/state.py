"""What the world looks like at one frame: ego, agents, lights. Plain data, no behaviour.

Axes (ISO 8855, used everywhere in roadloop): the world is right-handed, x east, y north, z up, metres;
yaw is counter-clockwise from x, radians. The ego frame has its origin on the ground under the middle of the
rear axle, x forward, y left. Traffic drives on the right.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

AgentKind = Literal["car", "van", "truck", "bus", "pedestrian", "cyclist"]
LightState = Literal["red", "yellow", "green"]
Weather = Literal["clear", "cloudy", "rain", "fog"]
TimeOfDay = Literal["day", "dusk", "night"]


@dataclass(frozen=True)
class EgoShape:
    """Size of the ego vehicle. The box centre lies `rear_axle_to_center_m` ahead of the rear axle."""

    length_m: float = 4.7
    width_m: float = 1.9
    height_m: float = 1.5
    wheelbase_m: float = 2.8
    rear_axle_to_center_m: float = 1.4


EGO_SHAPE = EgoShape()


@dataclass(frozen=True)
class EgoState:
    """Ego pose (rear axle, world frame) and dynamics at one frame."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float  # along the heading, negative backwards
    accel_mps2: float = 0.0
    steering_rad: float = 0.0  # front-wheel angle, left positive
    yaw_rate_radps: float = 0.0

    @property
    def box_center(self) -> tuple[float, float]:
        """World (x, y) of the middle of the ego's bounding box [m]."""
        offset = EGO_SHAPE.rear_axle_to_center_m
        return self.x_m + offset * float(np.cos(self.yaw_rad)), self.y_m + offset * float(
            np.sin(self.yaw_rad)
        )


@dataclass(frozen=True)
class AgentState:
    """Another road user at one frame. (x, y) is the middle of its box on the ground."""

    id: int
    kind: AgentKind
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    length_m: float
    width_m: float
    height_m: float
    color_rgb: tuple[int, int, int]
    braking: bool = False
    parked: bool = False


@dataclass(frozen=True)
class SceneFrame:
    """Everything that moves or changes, at one frame. Static structure is in `StaticWorld`."""

    index: int  # frames since the session was opened; the opening frame is 0
    time_s: float
    ego: EgoState
    agents: tuple[AgentState, ...]
    lights: tuple[LightState, ...]  # one per StaticWorld.lights, same order


@dataclass(frozen=True)
class Atmosphere:
    """Weather and time of day: how the world is lit, not what is in it."""

    weather: Weather = "clear"
    time_of_day: TimeOfDay = "day"
    sun_azimuth_rad: float = 0.9
    sun_elevation_rad: float = 0.8


def pose_delta(before: EgoState, after: EgoState) -> np.ndarray:
    """Motion from one ego pose to the next, in the frame of the first.

    Returns:
        float64 [3]: dx [m], dy [m], dyaw [rad, wrapped to (-pi, pi]].
    """
    dx, dy = after.x_m - before.x_m, after.y_m - before.y_m
    cos, sin = np.cos(before.yaw_rad), np.sin(before.yaw_rad)
    dyaw = (after.yaw_rad - before.yaw_rad + np.pi) % (2 * np.pi) - np.pi
    return np.array([cos * dx + sin * dy, -sin * dx + cos * dy, dyaw])
