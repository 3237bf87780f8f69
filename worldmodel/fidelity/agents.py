"""Whether road users appear where the scene has them."""

from collections.abc import Sequence

import numpy as np
import torch

from ..rig import Camera
from ..scene.state import AgentState, EgoState

CHANGED = 12.0  # grey levels, mean over colours: pixels that a road user changes more than this are its own
SMALLEST_PX = 20  # pixels of its own: smaller road users are not asked for


def agents_present(
    made: torch.Tensor,
    with_agents: torch.Tensor,
    without: torch.Tensor,
    cameras: Sequence[Camera],
    ego: EgoState,
    agents: Sequence[AgentState],
) -> tuple[int, int]:
    """Count road users that are seen, and those of them that a generated picture shows.

    A road user is there when its own pixels look more like the true picture than like the true picture of the same
    place without road users.

    Args:
        made: uint8 [V, H, W, 3], generated.
        with_agents, without: the same moment rendered with and without road users.
        cameras: of this size.
        ego: where the car is.
        agents: those in the scene.

    Returns:
        present and visible, summed over cameras.
    """
    images = [t.float() for t in (made, with_agents, without)]
    own = (images[1] - images[2]).abs().mean(-1) > CHANGED  # V H W
    present = visible = 0
    for view, camera in enumerate(cameras):
        for agent in agents:
            box = image_box(camera, ego, agent)
            if box is None:
                continue
            top, bottom, left, right = box
            mask = own[view, top:bottom, left:right]
            if int(mask.sum()) < SMALLEST_PX:
                continue
            patch, there, empty = (image[view, top:bottom, left:right][mask] for image in images)
            visible += 1
            present += int((patch - there).abs().mean() < (patch - empty).abs().mean())
    return present, visible


def image_box(camera: Camera, ego: EgoState, agent: AgentState) -> tuple[int, int, int, int] | None:
    """Rows and columns (top, bottom, left, right) around a road user; None where the camera does not see all of it."""
    uv, _, valid = camera.project(_corners(ego, agent))
    if not valid.all():
        return None
    left, top = np.floor(uv.min(0)).astype(int)
    right, bottom = np.ceil(uv.max(0)).astype(int) + 1
    return max(0, int(top)), min(camera.height, int(bottom)), max(0, int(left)), min(camera.width, int(right))


def _corners(ego: EgoState, agent: AgentState) -> np.ndarray:
    """Corners of a road user's box in the ego frame, float64 [8, 3]."""
    signs = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
    local = signs * (agent.length_m, agent.width_m, agent.height_m)
    away = np.array([agent.x_m - ego.x_m, agent.y_m - ego.y_m])
    world = _turned(local[:, :2], agent.yaw_rad) + away
    return np.column_stack([_turned(world, -ego.yaw_rad), local[:, 2]])


def _turned(points: np.ndarray, yaw_rad: float) -> np.ndarray:
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return points @ np.array([[cos, sin], [-sin, cos]])
