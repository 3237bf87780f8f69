"""A small hand-made street, a small rig, and ways to change them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from highway_env.road.road import RoadNetwork

from worldmodel.rig import Rig, load_rig
from worldmodel.scene.state import AgentState, EgoState, SceneFrame
from worldmodel.scene.world import Marking, StaticWorld, Structure, Surface, TrafficLight


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


@pytest.fixture(scope="session")
def street() -> StaticWorld:
    """A street along x: lanes at y = -1.75 (eastwards) and 1.75, a crossing at x = 20, houses, trees, a light."""
    line = np.array([[-30.0, 0.0], [70.0, 0.0]])
    return StaticWorld(
        name="test street",
        network=RoadNetwork(),
        drivable=(_rectangle(-30, -3.5, 70, 3.5),),
        surfaces=(
            Surface("sidewalk", _rectangle(-30, -6.5, 70, 6.5)),
            Surface("asphalt", _rectangle(-30, -3.5, 70, 3.5)),
        ),
        markings=(
            Marking("lane_line", line, 0.3),
            Marking("kerb", line + np.array([0.0, -3.5]), 0.2),
            Marking("kerb", line + np.array([0.0, 3.5]), 0.2),
            Marking("crossing", np.array([[20.0, -3.5], [20.0, 3.5]]), 3.0),
            Marking("stop_line", np.array([[17.0, -3.5], [17.0, 0.0]]), 0.5),
        ),
        structures=(
            Structure("building", 30.0, 15.0, 0.0, 20.0, 12.0, 12.0, (180, 120, 90), 5),
            Structure("building", 35.0, -16.0, 0.0, 14.0, 12.0, 8.0, (170, 170, 160), 22),
            Structure("tree", 14.0, 8.0, 0.0, 4.0, 4.0, 6.0, (60, 110, 50), 1),
            Structure("pole", 12.0, -5.0, 1.57, 0.15, 0.15, 7.0, (120, 120, 120), 0),
            Structure("guard_rail", -10.0, 7.5, 0.0, 30.0, 0.1, 0.8, (160, 165, 170), 0),
            Structure("sign", 10.0, 5.0, 3.14, 0.1, 0.7, 2.4, (200, 30, 30), 0),
            Structure("hedge", 0.0, 9.0, 0.0, 8.0, 1.0, 1.2, (60, 100, 50), 3),
            Structure("wall", 0.0, -9.0, 0.0, 8.0, 0.3, 1.2, (150, 140, 130), 3),
        ),
        lights=(
            TrafficLight(18.0, -4.0, np.pi, 3.4, np.array([[17.0, -3.5], [17.0, 0.0]]), (("a", "b", 0),)),
        ),
    )


@pytest.fixture(scope="session")
def rig() -> Rig:
    """Front, left and rear cameras of 64x112."""
    return load_rig("surround7").subset(["front_wide", "side_front_left", "rear"]).scaled(64, 112)


@pytest.fixture(scope="session")
def frame_at() -> Callable[..., SceneFrame]:
    """Frames with the ego anywhere in its lane."""

    def make(
        x_m: float = 0.0, y_m: float = -1.75, yaw_rad: float = 0.0, agents: tuple = (), light: str = "red"
    ) -> SceneFrame:
        return SceneFrame(0, 0.0, EgoState(x_m, y_m, yaw_rad, 5.0), tuple(agents), (light,))

    return make


@pytest.fixture(scope="session")
def car_at() -> Callable[..., AgentState]:
    """Cars anywhere."""

    def make(x_m: float, y_m: float, yaw_rad: float = 0.0, **changes) -> AgentState:
        given = {"id": 1, "kind": "car", "speed_mps": 5.0, "length_m": 4.5, "width_m": 1.9, "height_m": 1.5}
        given |= {"color_rgb": (60, 90, 160)} | changes
        return AgentState(x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, **given)

    return make


@pytest.fixture(autouse=True)
def _one_thread():
    """Small pictures: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
