"""Lighting as tensors: one row per snapshot, gathered per sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .looks import Look

HAZE_END_M = 1100.0  # even the clearest air hides the ground at a few times this distance
HEADLIGHT_RGB = (255.0 / 255, 244.0 / 255, 214.0 / 255)
STREET_LAMP_RGB = (1.0, 0.80, 0.52)
LAMPS_ON = 0.6  # from here on they light the road


@dataclass(frozen=True, eq=False)
class Light:
    """The looks of N snapshots. Directions are in each snapshot's ego frame."""

    ambient: Tensor  # float32 [3, N]
    sun: Tensor  # float32 [3, N]
    horizon: Tensor  # float32 [3, N]
    haze_per_m: Tensor  # float32 [N]
    wet: Tensor  # float32 [N]
    lamps: Tensor  # float32 [N]
    sun_direction: Tensor  # float32 [3, N]

    def at(self, snapshot: Tensor, index: Tensor | None = None) -> "Light":
        """Rows of `snapshot` (of `snapshot[index]`), in order. Of one snapshot its only row, which broadcasts."""
        if self.lamps.shape[0] == 1:
            return self
        rows = snapshot if index is None else snapshot.index_select(0, index)
        return Light(*(getattr(self, name)[..., rows] for name in self.__dataclass_fields__))

    def on_faces(self, normal: Tensor, billboard: Tensor) -> Tensor:
        """Light [3, K] on faces with unit normals [3, K]. Billboards turn with the camera, so theirs is that of a round thing."""
        facing = (normal * self.sun_direction).sum(0).clamp_min(0.0)
        facing = torch.where(billboard, torch.full_like(facing, 0.55), facing)
        upward = torch.where(billboard, torch.full_like(facing, 0.2), normal[2])
        return self.ambient * (0.84 + 0.16 * upward) + self.sun * facing

    def haze(self, color: Tensor, distance: Tensor) -> Tensor:
        """Blend colours [3, P] into the air over a distance [P], in place."""
        share = haze_share(distance, self.haze_per_m)
        return color.add_((self.horizon - color).mul_(share))


def light_of(looks: Sequence[Look], poses: Tensor) -> Light:
    """Stack the looks of snapshots with ego poses [N, 4]."""

    def column(name: str) -> Tensor:
        rows = torch.tensor([getattr(look, name) for look in looks], dtype=torch.float32, device=poses.device)
        return rows.T if rows.ndim == 2 else rows

    x, y, z = column("sun_direction")
    cos, sin = poses[:, 2], poses[:, 3]
    return Light(
        ambient=column("ambient"),
        sun=column("sun"),
        horizon=column("horizon"),
        haze_per_m=column("haze_per_m"),
        wet=column("wet"),
        lamps=column("lamps"),
        sun_direction=torch.stack([cos * x + sin * y, cos * y - sin * x, z]),
    )


def haze_share(distance: Tensor, haze_per_m: Tensor | float) -> Tensor:
    """Share of the air in what is seen at a distance."""
    depth = distance * haze_per_m + (distance * (1 / HAZE_END_M)) ** 2
    return 1 - torch.exp(-depth)


def headlight(x: Tensor, y: Tensor, z: Tensor | float) -> Tensor:
    """Light of the ego's own head lamps at ego-frame positions: a cone ahead, cut off above the bonnet."""
    ahead = (x - 3.4).clamp_min(0.01)
    spread = torch.exp(-((torch.atan2(y, ahead) / 0.42) ** 2))
    reach = torch.exp(-ahead / 32.0) * (ahead / 3.0).clamp(max=1.0)
    height = torch.as_tensor(z, device=x.device) - 0.7 - 0.03 * ahead
    return spread * reach * torch.exp(-height.clamp_min(0.0) / 0.7)
