"""Light and air of an atmosphere as a few numbers: how bright a thing's own colour looks, and what distance does to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldmodel.reference.light import haze_share
from worldmodel.reference.looks import look_of
from worldmodel.scene.state import Atmosphere

# Of the sky's light and of the sun's, what falls on the sides of things on average.
_SKY_SHARE, _SUN_SHARE = 0.84, 0.4


@dataclass(frozen=True)
class Air:
    """The air of B sessions."""

    light: Tensor  # float32 [B, 3]: 1 shows a colour as it is
    haze: Tensor  # float32 [B, 3] in [0, 1]: what things far away fade into
    haze_per_m: Tensor  # float32 [B]

    @classmethod
    def of(cls, atmospheres: Sequence[Atmosphere], device: torch.device | str = "cpu") -> "Air":
        """The air of some atmospheres."""
        looks = [look_of(atmosphere) for atmosphere in atmospheres]
        ambient, sun, haze = (
            torch.tensor([getattr(look, name) for look in looks], dtype=torch.float32, device=device)
            for name in ("ambient", "sun", "horizon")
        )
        density = torch.tensor([look.haze_per_m for look in looks], dtype=torch.float32, device=device)
        return cls(_SKY_SHARE * ambient + _SUN_SHARE * sun, haze / 255, density)

    def seen(self, color: Tensor, distance: Tensor) -> Tensor:
        """How own colours look from a distance.

        Args:
            color: [B, ..., 3, h, w] in [0, 1].
            distance: [B, ..., h, w] metres.

        Returns:
            [B, ..., 3, h, w] in [0, 1].
        """
        share = haze_share(distance, _wide(self.haze_per_m, distance.ndim)).unsqueeze(-3)
        lit, haze = color * _image(self.light, color.ndim), _image(self.haze, color.ndim)
        return (lit + (haze - lit) * share).clamp(0, 1)


def _wide(value: Tensor, axes: int) -> Tensor:
    """[B] with trailing axes of one."""
    return value.reshape(-1, *[1] * (axes - 1))


def _image(value: Tensor, axes: int) -> Tensor:
    """[B, 3] -> [B, ..., 3, 1, 1]."""
    return value.reshape(-1, *[1] * (axes - 4), 3, 1, 1)
