"""Shadows of road users on the ground: a soft contact shadow, and one thrown by the sun."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.scene.state import AgentState

from . import faces
from .faces import Faces, Kind
from .gbuffer import evaluate, find_candidates, find_pairs, to_tensors
from .looks import Look
from .view import PIXELS, View

REACH_M = 70.0
_LIFT_M = 0.01


def shadow_faces(agents: Sequence[AgentState], look: Look, x_m: float, y_m: float) -> Faces:
    """Lying quads under and beside the agents near (x, y)."""
    near = [agent for agent in agents if np.hypot(agent.x_m - x_m, agent.y_m - y_m) < REACH_M]
    cast = 0.75 * max(look.sun) / (max(look.sun) + max(look.ambient))
    parts = [_patch(agent, 0.5, (0.0, 0.0), 0.66, 0.55) for agent in near]
    if cast > 0.15:
        parts += [_patch(agent, 0.1, _thrown(agent, look), cast, 0.3) for agent in near]
    return faces.concat(parts)


def _thrown(agent: AgentState, look: Look) -> tuple[float, float]:
    """Middle of the shadow relative to the agent: half of where the sun throws its top."""
    x, y, z = look.sun_direction
    reach = min(0.5 * 0.8 * agent.height_m / z, 4.0)
    return -x * reach, -y * reach


def _patch(
    agent: AgentState, grown_m: float, offset: tuple[float, float], strength: float, soft_m: float
) -> Faces:
    x, y = agent.length_m / 2 + grown_m, agent.width_m / 2 + grown_m
    corners = np.array([[-x, -y, _LIFT_M], [x, -y, _LIFT_M], [x, y, _LIFT_M], [-x, y, _LIFT_M]])
    at = faces.placed(corners, agent.x_m + offset[0], agent.y_m + offset[1], agent.yaw_rad)
    return faces.make(at[None], Kind.SHADOW, (0, 0, 0), (strength, soft_m))


def shadow_map(view: View, face_sets: list[Faces], poses: Tensor) -> Tensor:
    """Darkness 0..1 of every pixel's ground, float32 [N, slots]; overlapping shadows do not add up."""
    tensors = to_tensors(face_sets, poses)
    dark = torch.zeros(len(face_sets) * len(view.rig) * view.tiles, PIXELS, device=poses.device)
    pairs = find_pairs(view, tensors)
    candidates = find_candidates(view, tensors, pairs)
    _, strength = evaluate(view, tensors, pairs, candidates)
    dark.scatter_reduce_(0, candidates.row[:, None].expand(-1, PIXELS), strength, "amax")
    return dark.reshape(len(face_sets), view.slots)
