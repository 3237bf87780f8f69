"""Where the content of every latent cell was some chunks ago: what cached residuals are moved by.

Ego motion is exact and the layout knows the depth, so no flow is estimated. Moving agents are taken as standing.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xcache_core import FlowBank

from ..model.config import LATENT_STRIDE, RASTER_STRIDE
from ..model.rays import CameraTensors
from ..model.reproject import in_source_frame, project
from ..scene.state import pose_delta
from .conditions import Request

CELL = LATENT_STRIDE // RASTER_STRIDE  # raster cells across a latent cell


def flow_bank(requests: Sequence[Request], depth: Tensor, cameras: CameraTensors, ages: int) -> FlowBank:
    """Flows of the coming chunk back to the chunks before it.

    Args:
        requests: the sessions.
        depth: [B, V, F, h, w] of the coming frames, metres along the rays at raster resolution.
        cameras: geometry of the B rigs.
        ages: how many chunks back; what is older than the last commit has no source.
    """
    moved = np.array(
        [[_pose(request, age) for age in range(1, ages + 1)] for request in requests], np.float32
    )
    known = np.array([[age <= request.ahead for age in range(1, ages + 1)] for request in requests])
    poses = torch.from_numpy(moved).to(depth.device)
    flow, valid = cell_flow(depth[:, :, -1], poses, cameras)
    valid = valid & torch.from_numpy(known).to(depth.device)[:, None, :, None]
    rows, columns = (size // CELL for size in depth.shape[-2:])
    return FlowBank(flow.movedim(2, 0), valid.movedim(2, 0), (1, rows, columns))


def cell_flow(depth: Tensor, poses: Tensor, cameras: CameraTensors) -> tuple[Tensor, Tensor]:
    """How many cells away the content of each latent cell was.

    Args:
        depth: [B, V, h, w] metres along the rays at raster resolution, may be infinite.
        poses: [B, A, 3] the present ego pose (x, y, yaw) in the ego frame of each earlier moment.
        cameras: geometry of the B rigs.

    Returns:
        flow [B, V, A, N, 2] in (columns, rows), and bool [B, V, A, N]: whether the camera saw it then.
    """
    points = in_source_frame(depth[:, :, None].expand(-1, -1, poses.shape[1], -1, -1), poses, cameras)
    u, v, _, visible = project(points.movedim(-1, 0), cameras.lenses[..., None, None, None])
    rows, columns = depth.shape[-2:]
    row, column = torch.meshgrid(
        torch.arange(rows, device=u.device) + 0.5, torch.arange(columns, device=u.device) + 0.5, indexing="ij"
    )
    seen = visible & (u >= 0) & (u <= columns) & (v >= 0) & (v <= rows)
    away = torch.stack([u - column, v - row], dim=-1).clamp(-2 * columns, 2 * columns) * seen[..., None]
    lead, weight = u.shape[:3], _pooled(seen.float())
    flow = (
        torch.stack([_pooled(part) for part in away.unbind(-1)], dim=-1) / weight.clamp_min(1e-6)[..., None]
    )
    return (flow / CELL).reshape(*lead, -1, 2), (weight >= 0.5).reshape(*lead, -1)


def _pose(request: Request, age: int) -> np.ndarray:
    """The coming chunk's last ego pose in the frame of `age` chunks before, which is taken to lie evenly on the way."""
    memory = request.memory
    share = min((age - 1) / max(request.ahead - 1, 1), 1.0)
    now = request.frames[-1].ego
    from_last, from_anchor = (pose_delta(then, now) for then in (memory.last, memory.anchor))
    return (1 - share) * np.asarray(from_last) + share * np.asarray(from_anchor)


def _pooled(values: Tensor) -> Tensor:
    """Means over latent cells, [B, V, A, h, w] -> [B, V, A, h / 4, w / 4]."""
    return F.avg_pool2d(values.flatten(0, 2)[:, None], CELL)[:, 0].unflatten(0, values.shape[:3])
