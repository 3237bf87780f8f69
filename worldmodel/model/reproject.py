"""Re-projected history: the last committed frame of all cameras, seen from where the ego will be.

Exact ego motion and the depth of the layout say where every point of a coming frame was in the last one. What this
cannot know (moving agents, what comes into sight) is left to the network, which also gets the validity.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .rays import CameraTensors

FAR_M = 1000.0  # stands for infinity: at this distance a chunk's motion is less than a pixel
# A point counts as seen when source and target agree on its inverse depth [1/m]: 15 % covers the raster's coarseness.
_RELATIVE, _ABSOLUTE = 0.15, 0.003


def reproject(
    frames: Tensor, source_depth: Tensor, depth: Tensor, poses: Tensor, cameras: CameraTensors
) -> Tensor:
    """Warp one moment of all cameras into coming moments.

    Args:
        frames: float [B, V, 3, h, w] at raster resolution.
        source_depth: [B, V, h, w] distance along the rays at that moment [m], may be infinite.
        depth: [B, V, F, h, w] the same at the coming moments.
        poses: [B, F, 3] coming ego poses (x, y, yaw) in the ego frame of that moment.
        cameras: geometry of the B rigs.

    Returns:
        [B, V, F, 4, h, w]: colour (zero where unknown) and validity in [0, 1].
    """
    points = in_source_frame(depth, poses, cameras)
    images = torch.cat([frames, inverse_depth(source_depth)[:, :, None]], dim=2)  # B V 4 h w
    result = torch.zeros(*depth.shape[:3], 4, *depth.shape[3:], dtype=frames.dtype, device=frames.device)
    for candidate in cameras.sources.unbind(-1):  # B V
        found = _sample(images, points, candidate, cameras)
        result = result + (1 - result[:, :, :, 3:]) * found
    return result


def compose(start: Tensor, deltas: Tensor) -> Tensor:
    """Poses reached from a pose by successive deltas: [..., 3] and [..., F, 3] -> [..., F, 3], all (x, y, yaw)."""
    poses, pose = [], start
    for delta in deltas.unbind(-2):
        cos, sin = pose[..., 2].cos(), pose[..., 2].sin()
        x = pose[..., 0] + cos * delta[..., 0] - sin * delta[..., 1]
        y = pose[..., 1] + sin * delta[..., 0] + cos * delta[..., 1]
        pose = torch.stack([x, y, pose[..., 2] + delta[..., 2]], dim=-1)
        poses.append(pose)
    return torch.stack(poses, dim=-2)


def in_source_frame(depth: Tensor, poses: Tensor, cameras: CameraTensors) -> Tensor:
    """Points of all coming pixels in the ego frame of the source moment, [B, V, F, h, w, 3]."""
    return moved(in_ego_frame(depth, cameras), poses[:, None, :, None, None])


def in_ego_frame(depth: Tensor, cameras: CameraTensors) -> Tensor:
    """Points of pixels with depths [B, V, F, h, w] in the ego frame of their own moments, [B, V, F, h, w, 3]."""
    return (
        cameras.position[:, :, None, None, None]
        + depth.clamp(max=FAR_M)[..., None] * cameras.rays[:, :, None]
    )


def moved(points: Tensor, poses: Tensor) -> Tensor:
    """Points [..., 3] of a frame whose pose (x, y, yaw) in another one is `poses` [..., 3], in that other one."""
    (x, y, z), (dx, dy, yaw) = points.unbind(-1), poses.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack([cos * x - sin * y + dx, sin * x + cos * y + dy, z], dim=-1)


def _sample(images: Tensor, points: Tensor, source: Tensor, cameras: CameraTensors) -> Tensor:
    """Colours of points [B, V, F, h, w, 3] in one source camera each ([B, V]), with validity: [B, V, F, 4, h, w]."""
    sampled, seen = look(images, points, source, cameras)
    valid = seen.to(images.dtype)[:, :, :, None]
    return torch.cat([sampled[:, :, :, :3] * valid, valid], dim=3)


def look(images: Tensor, points: Tensor, source: Tensor, cameras: CameraTensors) -> tuple[Tensor, Tensor]:
    """Look for points in one source camera each.

    Args:
        images: [B, V, C, h, w] of the source moment; the last channel is inverse depth [1/m].
        points: [B, V, F, h, w, 3] in the ego frame of the source moment.
        source: int64 [B, V], the camera to look in.
        cameras: geometry of the B rigs.

    Returns:
        What is there [B, V, F, C, h, w]; and bool [B, V, F, h, w]: whether it is the point itself and not something
        before or behind it.
    """
    batch = torch.arange(len(points), device=points.device)[:, None]
    lenses = cameras.lenses[:, batch, source, None, None, None]
    u, v, distance, visible = project(points.movedim(-1, 0), lenses)
    rows, columns = images.shape[-2:]
    grid = torch.stack([2 * u / columns - 1, 2 * v / rows - 1], dim=-1)  # B V F h w 2
    inside = visible & (grid.abs() <= 1).all(-1)
    # A huge coordinate is as good as any outside one, and keeps the sampler's integer arithmetic safe.
    sampled = F.grid_sample(
        images[batch, source].flatten(0, 1),
        grid.clamp(-2, 2).flatten(0, 1).flatten(1, 2),
        padding_mode="border",
        align_corners=False,
    )
    frames = points.shape[2]
    sampled = (
        sampled.unflatten(0, images.shape[:2]).unflatten(3, (frames, rows)).transpose(2, 3)
    )  # B V F C h w
    return sampled, inside & agree(sampled[:, :, :, -1], distance)


def agree(inverse: Tensor, distance: Tensor) -> Tensor:
    """Whether what a camera saw at an inverse depth [1/m] is what lies at a distance [m] from it."""
    expected = 1 / distance
    return (inverse - expected).abs() < _RELATIVE * expected + _ABSOLUTE


def project(points: Tensor, lenses: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Project points into cameras: one for each, or axes that spread over those of the points.

    Args:
        points: [3, ...] x, y, z in the ego frame.
        lenses: [LENS, ...] of the cameras, see `CameraTensors.lenses`.

    Returns:
        Raster coordinates u and v, distance [m], and whether the camera sees that way.
    """
    rotation, position, (fx, fy, cx, cy), distortion, (largest, fisheye) = lenses.split([9, 3, 4, 4, 2])
    x, y, z = points - position
    forward, left, up = (x * ex + y * ey + z * ez for ex, ey, ez in rotation.unflatten(0, (3, 3)))
    across = torch.hypot(left, up)
    theta = torch.atan2(across, forward)
    bent = torch.where(fisheye > 0, _distorted(theta, distortion), theta.tan())
    scale = bent / across.clamp_min(1e-6)
    u, v = cx - left * scale * fx, cy - up * scale * fy
    return u, v, torch.hypot(across, forward), theta < largest - 1e-3


def _distorted(theta: Tensor, distortion: Tensor) -> Tensor:
    """Equidistant fisheye radius, theta (1 + k1 theta^2 + ...)."""
    k1, k2, k3, k4 = distortion
    square = theta * theta
    return theta * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))


def inverse_depth(depth: Tensor) -> Tensor:
    """Inverse of metres, bounded on both sides."""
    return 1 / depth.clamp(0.1, FAR_M)
