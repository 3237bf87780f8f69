"""Tokeniser: 4 frames of one camera <-> one latent frame, 16x smaller in space, 64 channels.

Every latent frame stands alone: the four frames enter stacked in channels, so encoder and decoder are plain image
networks without state. Streaming equals decoding a whole clip by construction, a chunk that only reads (and may be
approximated by the cache) can leave nothing behind in the decoder, and a snapshot needs no decoder state.

The decoder may be guided: the layout says exactly where lanes, edges and windows are, so the latent need not. The encoder
never sees it, so latents mean the same with and without, and a session without layout decodes them a little softer.

No convolution runs above a quarter of the resolution: pixel-unshuffle comes first and pixel-shuffle last.
The bound 3 tanh(z / 3) and the block follow TAESD/TAEHV; no normalisation layers, which cost much on a CPU.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import FRAMES, RASTER_STRIDE, TokenizerConfig

BOUND = 3.0
INT8_ONE = 127.0  # how layouts are stored


class Tokenizer(nn.Module):
    """Encoder and decoder with the standardisation of the latent between them."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("std", torch.ones(config.channels))

    def encode(self, frames: Tensor) -> Tensor:
        """Frames [..., 4, 3, H, W] in [0, 1] -> standardised latents [..., C, H/16, W/16]."""
        lead = frames.shape[:-4]
        z = self.encode_raw(frames.reshape(-1, *frames.shape[-4:]))
        z = (z - self.mean[:, None, None]) / self.std[:, None, None]
        return z.reshape(*lead, *z.shape[1:])

    def decode(self, latents: Tensor, guide: Tensor | None = None) -> Tensor:
        """Turn latents into frames.

        Args:
            latents: standardised, [..., C, h, w].
            guide: layout of the four frames, int8 (127 is 1) or float: [..., 4, channels, 4 h, 4 w].

        Returns:
            Frames [..., 4, 3, 16 h, 16 w], about [0, 1], not clamped.
        """
        lead = latents.shape[:-3]
        z = latents.reshape(-1, *latents.shape[-3:])
        z = z * self.std[:, None, None].to(z.dtype) + self.mean[:, None, None].to(z.dtype)
        if guide is not None:
            guide = guide.reshape(-1, *guide.shape[-4:])
        frames = self.decode_raw(z, guide)
        return frames.reshape(*lead, *frames.shape[1:])

    def encode_raw(self, frames: Tensor) -> Tensor:
        """Frames [B, 4, 3, H, W] -> bounded latents [B, C, h, w] in (-3, 3), before standardisation."""
        return BOUND * torch.tanh(self.encoder(frames) / BOUND)

    def decode_raw(self, z: Tensor, guide: Tensor | None = None) -> Tensor:
        """Bounded latents [B, C, h, w], guide [B, 4, channels, H/4, W/4] or none -> frames [B, 4, 3, H, W]."""
        return self.decoder(z, guide)

    @torch.no_grad()
    def set_statistics(self, raw: Tensor) -> None:
        """Take the standardisation from bounded latents [B, C, h, w]."""
        self.mean.copy_(raw.float().mean(dim=(0, 2, 3)))
        self.std.copy_(raw.float().std(dim=(0, 2, 3)).clamp_min(1e-3))


class Encoder(nn.Module):
    """Frames -> unbounded latent."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        stacked = FRAMES * 3 * RASTER_STRIDE**2
        layers: list[nn.Module] = [_conv(stacked, config.widths[0])]
        for narrow, wide in zip(config.widths, (*config.widths[1:], None), strict=True):
            layers += [ResidualBlock(narrow) for _ in range(config.encoder_blocks)]
            if wide is not None:
                layers.append(nn.Conv2d(narrow, wide, 2, stride=2))
        layers.append(nn.Conv2d(config.widths[-1], config.channels, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 4, 3, H, W] -> [B, C, h, w]."""
        x = F.pixel_unshuffle(frames.flatten(1, 2) * 2 - 1, RASTER_STRIDE)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class Decoder(nn.Module):
    """Bounded latent, and the layout where there is one -> frames."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        layers: list[nn.Module] = [_conv(config.channels, widths[0])]
        for wide, narrow in pairwise(widths):
            layers += [ResidualBlock(wide) for _ in range(config.decoder_blocks)]
            layers += [nn.Conv2d(wide, 4 * narrow, 1), nn.PixelShuffle(2)]
        self.coarse = nn.Sequential(*layers)
        guide = FRAMES * config.guide_channels
        self.guide = nn.Sequential(_conv(guide, widths[-1]), ResidualBlock(widths[-1])) if guide else None
        fine = [ResidualBlock(widths[-1]) for _ in range(config.decoder_blocks)]
        self.fine = nn.Sequential(*fine, _conv(widths[-1], FRAMES * 3 * RASTER_STRIDE**2))

    def forward(self, z: Tensor, guide: Tensor | None) -> Tensor:
        """[B, C, h, w] and [B, 4, channels, 4 h, 4 w] or none -> [B, 4, 3, 16 h, 16 w]."""
        x = self.coarse(z.contiguous(memory_format=torch.channels_last))
        if guide is not None and self.guide is not None:
            x = x + self.guide(unit_scale(guide.flatten(1, 2), x.dtype))
        return F.pixel_shuffle(self.fine(x), RASTER_STRIDE).unflatten(1, (FRAMES, 3)) * 0.5 + 0.5


def unit_scale(raster: Tensor, dtype: torch.dtype) -> Tensor:
    """Rasters [B, C, h, w] as numbers of order one, channels last: int8 is divided by its 127."""
    x = raster.to(dtype, memory_format=torch.channels_last)
    return x / INT8_ONE if raster.dtype == torch.int8 else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip; the second starts at zero, so a deep stack starts as a shallow one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = _conv(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        return x + self.second(F.relu(self.first(F.relu(x))))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
