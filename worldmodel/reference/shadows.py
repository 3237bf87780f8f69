"""Shadows of road users on the ground: a soft contact shadow, and one thrown by the sun."""

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene.state import SceneFrame

from . import faces
from .candidates import evaluate, find_candidates
from .faces import Faces, Kind, placed
from .looks import Look
from .pairs import find_pairs, to_tensors
from .view import PIXELS, View

REACH_M = 70.0
_LIFT_M = 0.01
_CORNERS = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


def shadow_faces(frame: SceneFrame, look: Look) -> Faces:
    """Lying quads under and beside the agents near the ego."""
    ego = frame.ego
    near = [agent for agent in frame.agents if np.hypot(agent.x_m - ego.x_m, agent.y_m - ego.y_m) < REACH_M]
    if not near:
        return faces.empty()
    pose = np.array([[agent.x_m, agent.y_m, agent.yaw_rad] for agent in near])
    size = np.array([[agent.length_m, agent.width_m] for agent in near])
    height = np.array([agent.height_m for agent in near])
    parts = [_patches(pose, size + 1.0, 0.66, 0.55)]
    cast = 0.75 * max(look.sun) / (max(look.sun) + max(look.ambient))
    if cast > 0.15:
        # The middle of the thrown shadow: half of where the sun throws the top.
        x, y, z = look.sun_direction
        reach = np.minimum(0.4 * height / z, 4.0)[:, None]
        parts.append(_patches(pose + reach * np.array([-x, -y, 0.0]), size + 0.2, cast, 0.3))
    return faces.concat(parts)


def _patches(pose: np.ndarray, size: np.ndarray, strength: float, soft_m: float) -> Faces:
    """Rectangles of sizes [A, 2] at poses [A, 3]."""
    corners = np.zeros((len(pose), 4, 3))
    corners[..., :2] = _CORNERS * size[:, None]
    corners[..., 2] = _LIFT_M
    return faces.make(placed(corners, *pose.T[..., None]), Kind.SHADOW, (0, 0, 0), (strength, soft_m))


def shadow_map(view: View, face_sets: list[Faces], poses: Tensor) -> Tensor:
    """Darkness 0..1 of every pixel's ground, float32 [N, slots]; overlapping shadows do not add up."""
    tensors = to_tensors(face_sets, poses)
    dark = torch.zeros(len(face_sets) * len(view.rig) * view.tiles, PIXELS, device=poses.device)
    pairs = find_pairs(view, tensors)
    candidates = find_candidates(view, pairs)
    _, strength = evaluate(view, pairs, candidates)
    dark.scatter_reduce_(0, candidates.row[:, None].expand(-1, PIXELS), strength, "amax")
    return dark.reshape(len(face_sets), view.slots)
