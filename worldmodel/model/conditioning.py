"""What the model is told besides the past: motion, cameras, layout, re-projected history, weather and light.

Everything but the rays can be absent. Conditions are embedded once per chunk and shared by all denoising steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..scene.state import Atmosphere
from .attention import Table
from .config import FRAMES, DiTConfig
from .rope import direction_table
from .tokenizer import unit_scale

MOTION_DIMS = FRAMES * 3 + 3 + 1
HISTORY_CHANNELS = 4  # RGB and validity
GROUPS = ("unknown", "front", "side", "rear")
WEATHERS = ("clear", "cloudy", "rain", "fog")
TIMES_OF_DAY = ("day", "dusk", "night")
APPEARANCE_DIMS = len(WEATHERS) + len(TIMES_OF_DAY) + 3

# Typical size of dx, dy [m] and dyaw [rad] in one frame of city driving: brings the inputs near 1.
_DELTA_SCALE = (1.0, 0.1, 0.05)
_SINCE_SCALE = (10.0, 1.0, 0.4)


@dataclass(frozen=True)
class Conditions:
    """Raw conditions. A part that is None is absent for the whole batch; `keep_*` drop it for single rows."""

    motion: Tensor  # [B, T, MOTION_DIMS], see `motion_vector`
    rays: Tensor  # [B, V, 6, h, w] Pluecker rays in the ego frame, see `rays.py`
    groups: Tensor  # int64 [B, V] index into GROUPS
    neighbours: Tensor  # bool [B, V, V], symmetric
    appearance: Tensor  # [B, APPEARANCE_DIMS], see `appearance_vector`
    layout: Tensor | None = None  # int8 (127 is 1) or float in [-1, 1]: [B, V, T, F, C, 4 h, 4 w]
    history: Tensor | None = None  # float in [0, 1]: [B, V, T, F, 4, 4 h, 4 w], RGB and validity
    keep_motion: Tensor | None = None  # bool [B]
    keep_layout: Tensor | None = None  # bool [B]
    keep_history: Tensor | None = None  # bool [B]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Conditions":
        """The same function applied to every part that is there: another device, some rows."""
        parts = {name: part for name, part in vars(self).items() if part is not None}
        return replace(self, **{name: change(part) for name, part in parts.items()})


@dataclass(frozen=True)
class Embedded:
    """Conditions as the blocks use them."""

    tokens: Tensor  # [B, V, T N, D], added to the latent's own tokens
    vector: Tensor  # [B, V, T, D], joins noise level and step size
    directions: Table  # ray angles [B, 1, 1, V N, 32]
    neighbours: Tensor  # additive [B, 1, 1, V N, V N]

    def rows(self, rows: slice) -> "Embedded":
        """Copies of some sessions' conditions."""
        cos, sin = self.directions
        return Embedded(
            self.tokens[rows].clone(),
            self.vector[rows].clone(),
            (cos[rows].clone(), sin[rows].clone()),
            self.neighbours[rows].clone(),
        )

    @classmethod
    def concat(cls, parts: "Sequence[Embedded]") -> "Embedded":
        """Sessions of several batches as one."""
        if len(parts) == 1:
            return parts[0]
        cos, sin = (torch.cat([part.directions[k] for part in parts]) for k in (0, 1))
        return cls(
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.vector for part in parts]),
            (cos, sin),
            torch.cat([part.neighbours for part in parts]),
        )


class Conditioner(nn.Module):
    """Embeds conditions."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.rays = nn.Linear(6, width)
        self.layout = Stem(config.layout_channels * FRAMES, config.stem_width, width)
        self.history = Stem(HISTORY_CHANNELS * FRAMES, config.stem_width, width)
        self.motion = nn.Sequential(nn.Linear(MOTION_DIMS, width), nn.SiLU(), nn.Linear(width, width))
        self.no_motion = nn.Parameter(torch.zeros(width))
        self.groups = nn.Embedding(len(GROUPS), width)
        self.appearance = nn.Linear(APPEARANCE_DIMS, width)
        nn.init.normal_(self.groups.weight, std=0.02)

    def forward(self, cond: Conditions) -> Embedded:
        """Embed the conditions of one chunk (or of a training sequence)."""
        rays = cond.rays.flatten(-2).transpose(-1, -2)  # B V N 6
        tokens = self.rays(rays.to(self.rays.weight.dtype))[:, :, None]  # B V 1 N D
        tokens = tokens + self._raster(self.layout, cond.layout, cond.keep_layout)
        tokens = tokens + self._raster(self.history, cond.history, cond.keep_history)
        latents, count = cond.motion.shape[1], rays.shape[2]
        tokens = tokens.expand(-1, -1, latents, -1, -1).flatten(2, 3)
        directions = direction_table(cond.rays)  # B V N 32
        return Embedded(
            tokens,
            self._vector(cond),
            tuple(part.flatten(1, 2)[:, None, None] for part in directions),  # type: ignore[arg-type]
            neighbour_mask(cond.neighbours, count),
        )

    def _vector(self, cond: Conditions) -> Tensor:
        """[B, V, T, D]."""
        dtype = self.no_motion.dtype
        motion = self.motion(cond.motion.to(dtype))
        if cond.keep_motion is not None:
            motion = torch.where(cond.keep_motion[:, None, None], motion, self.no_motion)
        camera = self.groups(cond.groups) + self.appearance(cond.appearance.to(dtype))[:, None]  # B V D
        return motion[:, None] + camera[:, :, None]

    def _raster(self, stem: "Stem", raster: Tensor | None, keep: Tensor | None) -> Tensor:
        """[B, V, T, N, D], or zeros that broadcast where there is no raster."""
        if raster is None:
            return self.no_motion.new_zeros(1, 1, 1, 1, 1)
        tokens = stem(raster.flatten(0, 2).flatten(1, 2)).flatten(2).transpose(1, 2)  # (B V T) N D
        tokens = tokens.unflatten(0, raster.shape[:3])
        if keep is not None:
            tokens = tokens * keep[:, None, None, None, None].to(tokens.dtype)
        return tokens


class Stem(nn.Module):
    """Rasters at a quarter of the camera resolution -> tokens; adds nothing until it is trained."""

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, stride=2, padding=1)
        self.second = nn.Conv2d(hidden, width, 3, stride=2, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, raster: Tensor) -> Tensor:
        """[B, F C, 4 h, 4 w], int8 or of order one -> [B, D, h, w]."""
        x = unit_scale(raster, self.first.weight.dtype)
        return self.second(F.gelu(self.first(x), approximate="tanh"))


def motion_vector(deltas: Tensor, since_commit: Tensor, elapsed: Tensor) -> Tensor:
    """The action of one latent frame as the model reads it.

    Args:
        deltas: [..., F, 3] achieved pose deltas, dx [m], dy [m], dyaw [rad], frame to frame.
        since_commit: [..., 3] ego pose at the start of this latent frame, in the frame of the last committed frame.
        elapsed: [...] latent frames since the last committed one, >= 1.

    Returns:
        [..., MOTION_DIMS] of order one.
    """
    frame = deltas / deltas.new_tensor(_DELTA_SCALE)
    since = since_commit / since_commit.new_tensor(_SINCE_SCALE)
    return torch.cat([frame.flatten(-2), since, elapsed[..., None].to(deltas.dtype) - 1], dim=-1).clamp(-5, 5)


def appearance_vector(atmosphere: Atmosphere) -> Tensor:
    """Weather, time of day and sun direction as numbers, float32 [APPEARANCE_DIMS]."""
    azimuth, elevation = atmosphere.sun_azimuth_rad, atmosphere.sun_elevation_rad
    weather = [float(atmosphere.weather == name) for name in WEATHERS]
    time = [float(atmosphere.time_of_day == name) for name in TIMES_OF_DAY]
    return torch.tensor([*weather, *time, np.cos(azimuth), np.sin(azimuth), elevation], dtype=torch.float32)


def group_indices(groups: Sequence[str]) -> Tensor:
    """View groups of cameras as int64 [V]; a group that the model does not know is `unknown`."""
    return torch.tensor([GROUPS.index(name) if name in GROUPS else 0 for name in groups])


def neighbour_mask(neighbours: Tensor, tokens: int) -> Tensor:
    """Bool [B, V, V] -> additive [B, 1, 1, V N, V N]. A camera always sees itself."""
    seen = neighbours | torch.eye(neighbours.shape[-1], dtype=torch.bool, device=neighbours.device)
    mask = torch.where(seen, 0.0, -torch.inf)
    return mask.repeat_interleave(tokens, -1).repeat_interleave(tokens, -2)[:, None, None]
