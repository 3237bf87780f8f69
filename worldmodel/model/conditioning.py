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
from .config import FRAMES, LATENT_STRIDE, RASTER_STRIDE, DiTConfig
from .rope import direction_table
from .tokenizer import ResidualBlock, unit_scale

MOTION_DIMS = FRAMES * 3 + 3 + 1
HISTORY_CHANNELS = 4  # RGB and validity
RASTERS_PER_CELL = LATENT_STRIDE // RASTER_STRIDE
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
    carried: Tensor | None = None  # latents of the carried pictures, [B, V, T, C, h, w]
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
    guess: Tensor  # [B, V, T, C, h, w], the clean latent as far as the conditions alone tell it
    vector: Tensor  # [B, V, T, D], joins noise level and step size
    directions: Table  # ray angles [B, 1, 1, V N, 32]
    neighbours: Tensor  # additive [B, 1, 1, V N, V N]

    def rows(self, rows: slice) -> "Embedded":
        """Copies of some sessions' conditions."""
        cos, sin = self.directions
        return Embedded(
            self.tokens[rows].clone(),
            self.guess[rows].clone(),
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
            torch.cat([part.guess for part in parts]),
            torch.cat([part.vector for part in parts]),
            (cos, sin),
            torch.cat([part.neighbours for part in parts]),
        )


class Conditioner(nn.Module):
    """Embeds conditions."""

    def __init__(self, config: DiTConfig, channels: int) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.rays = nn.Linear(6, width)
        channels_in = FRAMES * (config.layout_channels + HISTORY_CHANNELS)
        self.trunk = Trunk(channels_in, config.trunk, config.trunk_blocks, width)
        self.carried = CarriedLatent(config.trunk[1], channels) if config.carried else None
        self.features = nn.Conv2d(config.trunk[1], width, 1)
        self.guess = nn.Conv2d(config.trunk[1], channels, 1)
        self.motion = nn.Sequential(nn.Linear(MOTION_DIMS, width), nn.SiLU(), nn.Linear(width, width))
        self.no_motion = nn.Parameter(torch.zeros(width))
        self.groups = nn.Embedding(len(GROUPS), width)
        self.appearance = nn.Linear(APPEARANCE_DIMS, width)
        nn.init.normal_(self.groups.weight, std=0.02)
        nn.init.zeros_(self.guess.weight)
        nn.init.zeros_(self.guess.bias)  # type: ignore[arg-type]

    def forward(self, cond: Conditions) -> Embedded:
        """Embed the conditions of one chunk (or of a training sequence)."""
        vector = self._vector(cond)
        rasters, lead = self._rasters(cond), vector.shape[:3]
        seen = self.trunk(rasters.flatten(0, 2), vector.flatten(0, 2))
        shift: Tensor | float = 0.0
        if self.carried is not None and cond.carried is not None:
            seen, shift = self.carried(seen, self._kept_latent(cond), rasters[:, :, :, -1].flatten(0, 2))
        rays = self.rays(cond.rays.flatten(-2).transpose(-1, -2).to(self.rays.weight.dtype))  # B V N D
        tokens = self.features(seen).flatten(2).transpose(1, 2).unflatten(0, lead) + rays[:, :, None]
        directions = direction_table(cond.rays)  # B V N 32
        return Embedded(
            tokens.flatten(2, 3),
            (self.guess(seen) + shift).unflatten(0, lead),
            vector,
            tuple(part.flatten(1, 2)[:, None, None] for part in directions),  # type: ignore[arg-type]
            neighbour_mask(cond.neighbours, rays.shape[2]),
        )

    def _vector(self, cond: Conditions) -> Tensor:
        """[B, V, T, D]."""
        dtype = self.no_motion.dtype
        motion = self.motion(cond.motion.to(dtype))
        if cond.keep_motion is not None:
            motion = torch.where(cond.keep_motion[:, None, None], motion, self.no_motion)
        camera = self.groups(cond.groups) + self.appearance(cond.appearance.to(dtype))[:, None]  # B V D
        return motion[:, None] + camera[:, :, None]

    def _rasters(self, cond: Conditions) -> Tensor:
        """Layout and re-projected history side by side, [B, V, T, F (C + 4), 4 h, 4 w]; zeros where one is absent."""
        parts = (
            (cond.layout, cond.keep_layout, self.config.layout_channels),
            (cond.history, cond.keep_history, HISTORY_CHANNELS),
        )
        return torch.cat([self._raster(cond, *part) for part in parts], dim=3)

    def _kept_latent(self, cond: Conditions) -> Tensor:
        """Latents of the carried pictures, [B V T, C, h, w]; zeros where history is withheld."""
        assert cond.carried is not None
        latent = cond.carried.to(self.no_motion.dtype)
        if cond.keep_history is not None:
            latent = latent * cond.keep_history[:, None, None, None, None, None].to(latent.dtype)
        return latent.flatten(0, 2)

    def _raster(self, cond: Conditions, raster: Tensor | None, keep: Tensor | None, channels: int) -> Tensor:
        if raster is None:
            height, width = (RASTERS_PER_CELL * size for size in cond.rays.shape[-2:])
            lead = (*cond.rays.shape[:2], cond.motion.shape[1], FRAMES * channels)
            return self.no_motion.new_zeros(*lead, height, width)
        rows = raster.flatten(3, 4).flatten(0, 2)
        scaled = unit_scale(rows, self.no_motion.dtype).unflatten(0, raster.shape[:3])
        return scaled if keep is None else scaled * keep[:, None, None, None, None, None].to(scaled.dtype)


class Trunk(nn.Module):
    """Rasters at a quarter of the camera resolution -> features at a sixteenth.

    Most of a next chunk follows from where things are and where the last images moved to, place by place: that is work for
    convolutions, done once per chunk. What is left to the transformer, at every step, is what only the past and the other
    cameras tell.
    """

    def __init__(self, channels: int, widths: tuple[int, int], blocks: int, vector: int) -> None:
        super().__init__()
        fine, coarse = widths
        self.first = nn.Conv2d(channels, fine, 3, stride=2, padding=1)
        self.fine = nn.Sequential(*(ResidualBlock(fine) for _ in range(blocks)))
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.tone = nn.Linear(vector, coarse)  # weather, light, motion
        self.coarse = nn.Sequential(*(ResidualBlock(coarse) for _ in range(blocks)))

    def forward(self, rasters: Tensor, vector: Tensor) -> Tensor:
        """[B, C, 4 h, 4 w] and [B, D] -> [B, widths[1], h, w]."""
        x = self.fine(self.first(rasters.contiguous(memory_format=torch.channels_last)))
        return self.coarse(self.down(F.relu(x)) + self.tone(vector)[:, :, None, None])


class CarriedLatent(nn.Module):
    """Adds the latents of carried pictures to what the trunk sees, and says how much of them the guess takes over.

    The encoder has already done for them what the trunk would have to learn for rasters; and detail finer than a raster
    cell is in them.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + RASTERS_PER_CELL**2, width, 3, padding=1)
        self.block = ResidualBlock(width)
        self.share = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.enter.weight)
        nn.init.zeros_(self.enter.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.share.weight)
        nn.init.zeros_(self.share.bias)  # type: ignore[arg-type]

    def forward(self, seen: Tensor, latent: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """[B, width, h, w], [B, C, h, w], validity of the last frame [B, 4 h, 4 w] -> seen, and a part of the guess."""
        cells = F.pixel_unshuffle(valid[:, None], RASTERS_PER_CELL)
        seen = self.block(seen + self.enter(torch.cat([latent, cells], dim=1)))
        return seen, self.share(seen) * latent


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
