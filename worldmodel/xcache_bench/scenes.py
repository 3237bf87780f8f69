"""The drives that all methods repeat: actions, true frames and true geometry, on scenarios held out from every choice."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..benchmarking import HELD_OUT_SEED
from ..data.drivers import Driver, make_driver
from ..layout import LayoutRenderer, standing_depth
from ..reference.renderer import ReferenceRenderer
from ..rig import Rig
from ..scene.actions import ActionChunk
from ..scene.clock import FRAMES_PER_CHUNK
from ..scene.scenario import load_scenario
from ..scene.scene import Scene
from ..scene.state import SceneFrame

HARD = "hard_actions"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "urban_street": ("intersection_minor_straight", "urban_rain_night"),
    "highway": ("highway_night", "highway_cut_in_truck_rain"),
    "turning": ("u_turn_change_rain", "roundabout_back"),
    "stop_and_go": ("urban_lead_brakes",),
    # The first is wide enough to swerve on for long.
    HARD: ("u_turn_change_rain", "intersection_minor_straight"),
}


@dataclass(frozen=True)
class Drive:
    """What happened in one scene, chunk by chunk."""

    group: str
    scenario: str
    rig: Rig  # at the model's resolution
    actions: list[ActionChunk]
    states: list[SceneFrame]  # 1 + 4 per chunk
    frames: torch.Tensor  # uint8 [V, 1 + 4 chunks, H, W, 3], of the reference renderer
    depth_m: (
        torch.Tensor
    )  # [chunks, 2, V, H, W] along each ray, at the last two frames of every chunk; NaN where road users are


class HardActions:
    """Swerves and brakes in turns, a chunk of each: the worst case for whatever rests on likeness."""

    def __init__(self) -> None:
        self._chunk = 0

    def act(self) -> ActionChunk:
        """Steering to one side while accelerating, then to the other while braking."""
        sign = 1.0 if self._chunk % 2 else -1.0
        self._chunk += 1
        values = np.tile(np.array([0.12 * sign, 2.0 * sign], np.float32), (FRAMES_PER_CHUNK, 1))
        return ActionChunk("controls", values)


def record(group: str, scenario: str, rig: Rig, chunks: int, device: str, seed: int = HELD_OUT_SEED) -> Drive:
    """Drive a scenario for some chunks, or to its end."""
    scene = Scene(load_scenario(scenario), seed)
    driver: Driver = HardActions() if group == HARD else make_driver("expert", scene, seed)
    states: list[SceneFrame] = [scene.frame]
    actions: list[ActionChunk] = []
    while len(actions) < chunks and scene.outcome == "running":
        actions.append(driver.act())
        states += scene.step(actions[-1])
    frames = ReferenceRenderer(rig, device).render(scene.world, scene.atmosphere, states)
    ends = [states[FRAMES_PER_CHUNK * (k + 1) - 1 + j] for k in range(len(actions)) for j in range(2)]
    depth_m = torch.from_numpy(
        standing_depth(LayoutRenderer(rig, stride=1, device=device), scene.world, ends)
    )
    return Drive(
        group, scenario, rig, actions, states, torch.from_numpy(frames), depth_m.unflatten(0, (-1, 2))
    )
