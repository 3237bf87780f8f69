"""Whether neighbouring cameras show the same thing where they see the same thing."""

import torch
import torch.nn.functional as F

from ..rig import Rig
from .views import FAR_M, RigViews

# Two cameras see the same point when its distance agrees with what the other one sees there.
_RELATIVE = 0.1


def cross_view_error(images: torch.Tensor, depth_m: torch.Tensor, rig: Rig) -> float:
    """Mean absolute difference between cameras over all points that two of them see, in grey levels.

    Args:
        images: uint8 or float 0..255, [V, H, W, 3], one moment.
        depth_m: distance along each pixel's ray, [V, h, w], at any resolution: that is where pictures are compared.
        rig: the cameras.

    Returns:
        NaN where no two cameras overlap.
    """
    size = (depth_m.shape[-2], depth_m.shape[-1])
    views = RigViews(rig.scaled(*size))
    small = F.interpolate(images.permute(0, 3, 1, 2).float(), size=size, mode="area")
    depth = torch.nan_to_num(depth_m, posinf=FAR_M).clamp_max(FAR_M)
    seen = torch.cat([small, (1 / depth)[:, None]], dim=1)  # V 4 h w
    points = views.points(depth_m)
    origins = torch.tensor([camera.position_m for camera in rig.cameras])
    difference, count = torch.zeros(()), torch.zeros(())
    for shift in range(1, len(rig)):
        # Camera v looks at what camera v + shift sees.
        other = points.roll(-shift, 0)
        grid, inside = views.project(other)
        found = F.grid_sample(seen, grid, align_corners=False, padding_mode="border")
        inverse = 1 / (other - origins[:, None, None]).norm(dim=-1)
        both = inside & ((found[:, 3] - inverse).abs() < _RELATIVE * inverse)
        difference += ((found[:, :3] - small.roll(-shift, 0)).abs().mean(1) * both).sum()
        count += both.sum()
    return float(difference / count)
