"""Tokeniser: 4 frames of one camera <-> one latent frame, 16x smaller in space, 64 channels.

Every latent frame stands alone: the four frames enter stacked in channels, so encoder and decoder are plain image
networks without state. Streaming equals decoding a whole clip by construction, a chunk that only reads (and may be
approximated by the cache) can leave nothing behind in the decoder, and a snapshot needs no decoder state.

The decoder may be guided: the layout says exactly where lanes, edges and windows are, so the latent need not. And it may take
fine detail, what is lost below a raster cell, from the carried pictures, where it finds that they fit the latent. The encoder
never sees either, so latents mean the same with and without, and a session without layout decodes them a little softer.

No convolution runs above a quarter of the resolution: pixel-unshuffle comes first and pixel-shuffle last.
The bound 3 tanh(z / 3) and the block follow TAESD/TAEHV; no normalisation layers, which cost much on a CPU.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import FRAMES, RASTER_STRIDE, TokenizerConfig
from .folding import PIXELS, fold, smooth
from .history import History

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
        return self._standardised(self.encode_raw(frames.reshape(-1, *frames.shape[-4:])), frames.shape[:-4])

    def encode_carried(self, history: History) -> Tensor:
        """The same of carried pictures, axes [..., 4, 3, H, W]: the decoder wants them folded as well, so that is done once."""
        return self._standardised(self._bounded(history.cells), history.pictures.shape[:-4])

    def decode(self, latents: Tensor, guide: Tensor | None = None, carried: History | None = None) -> Tensor:
        """Turn latents into frames.

        Args:
            latents: standardised, [..., C, h, w].
            guide: layout of the four frames, int8 (127 is 1) or float: [..., 4, channels, 4 h, 4 w].
            carried: history with axes [..., 4, 3, 16 h, 16 w]; a decoder that was not made for it leaves it alone.

        Returns:
            Frames [..., 4, 3, 16 h, 16 w], about [0, 1], not clamped.
        """
        lead = latents.shape[:-3]
        z = latents.reshape(-1, *latents.shape[-3:])
        z = z * self.std[:, None, None].to(z.dtype) + self.mean[:, None, None].to(z.dtype)
        if guide is not None:
            guide = guide.reshape(-1, *guide.shape[-4:])
        frames = self.decode_raw(z, guide, carried)
        return frames.reshape(*lead, *frames.shape[1:])

    def encode_raw(self, frames: Tensor) -> Tensor:
        """Frames [B, 4, 3, H, W] -> bounded latents [B, C, h, w] in (-3, 3), before standardisation."""
        # In the format that the convolutions compute in: half the memory to move.
        x = frames.flatten(1, 2).to(_compute_dtype(frames.device, next(self.encoder.parameters()).dtype))
        return self._bounded(fold(x, 2.0, -1.0))

    def _bounded(self, cells: Tensor) -> Tensor:
        return BOUND * torch.tanh(self.encoder(cells) / BOUND)

    def _standardised(self, raw: Tensor, lead: torch.Size) -> Tensor:
        z = (raw - self.mean[:, None, None]) / self.std[:, None, None]
        return z.reshape(*lead, *z.shape[1:])

    def decode_raw(self, z: Tensor, guide: Tensor | None = None, carried: History | None = None) -> Tensor:
        """Bounded latents [B, C, h, w], guide [B, 4, channels, H/4, W/4], history [B, 4, ...] -> frames [B, 4, 3, H, W]."""
        return self.decoder(z, guide, carried)

    @torch.no_grad()
    def set_statistics(self, raw: Tensor) -> None:
        """Take the standardisation from bounded latents [B, C, h, w]."""
        self.mean.copy_(raw.float().mean(dim=(0, 2, 3)))
        self.std.copy_(raw.float().std(dim=(0, 2, 3)).clamp_min(1e-3))


class Encoder(nn.Module):
    """Frames, folded to raster cells -> unbounded latent."""

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

    def forward(self, cells: Tensor) -> Tensor:
        """[B, 4 * 48, 4 h, 4 w] in [-1, 1] -> [B, C, h, w]."""
        return self.layers(cells)


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
        self.detail = CarriedDetail(widths[-1]) if config.carried else None

    def forward(self, z: Tensor, guide: Tensor | None, carried: History | None = None) -> Tensor:
        """[B, C, h, w], [B, 4, channels, 4 h, 4 w] or none, [B, 4, ...] or none -> [B, 4, 3, 16 h, 16 w]."""
        x = self.coarse(z.contiguous(memory_format=torch.channels_last))
        if guide is not None and self.guide is not None:
            x = x + self.guide(unit_scale(guide.flatten(1, 2), x.dtype))
        blocks, head = self.fine[:-1], self.fine[-1]
        if carried is None or self.detail is None:
            return unfold(head(blocks(x)))
        x = blocks(x + self.detail.seen(carried, x.dtype))
        return unfold(head(x).add_(self.detail.taken(x, carried)))


class CarriedDetail(nn.Module):
    """What the decoder sees of carried pictures, and how much of their detail it takes over, pixel by pixel.

    Detail is what a raster cell's mean leaves out. The means themselves, light above all, come from the latent.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = _conv(FRAMES * (3 * RASTER_STRIDE**2 + 1), width)
        self.share = _conv(width, FRAMES * RASTER_STRIDE**2)
        nn.init.zeros_(self.look.weight)
        nn.init.zeros_(self.look.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.share.weight)
        nn.init.constant_(self.share.bias, -2.0)  # type: ignore[arg-type]

    def seen(self, carried: History, dtype: torch.dtype) -> Tensor:
        """Features [B, width, 4 h, 4 w]."""
        valid = _frames_of(carried.valid).to(dtype, memory_format=torch.channels_last)
        cells = carried.cells.to(dtype)
        batch, count, rows, columns = cells.shape
        both = torch.empty(
            batch,
            count + FRAMES,
            rows,
            columns,
            dtype=dtype,
            device=cells.device,
            memory_format=torch.channels_last,
        )
        shown = both[:, :count].unflatten(1, (FRAMES, -1))
        torch.mul(cells.unflatten(1, (FRAMES, -1)), valid[:, :, None], out=shown)
        both[:, count:] = valid
        return self.look(both)

    def taken(self, x: Tensor, carried: History) -> Tensor:
        """Detail to add, folded: [B, 4 * 3 * 16, 4 h, 4 w]."""
        cells = carried.cells.to(x.dtype)
        valid = _frames_of(carried.valid).to(x.dtype, memory_format=torch.channels_last)
        share = torch.sigmoid(self.share(x)).unflatten(1, (FRAMES, 1, PIXELS)) * valid[:, :, None, None]
        # In place: new memory costs more than the sums.
        detail = smooth(-carried.means.to(x.dtype)).add_(cells)
        return detail.unflatten(1, (FRAMES, 3, PIXELS)).mul_(share).flatten(1, 3)


def _frames_of(valid: Tensor) -> Tensor:
    """[..., 4, h, w] -> [B, 4, h, w]."""
    return valid.reshape(-1, *valid.shape[-3:])


def _compute_dtype(device: torch.device, weights: torch.dtype) -> torch.dtype:
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weights


def unfold(x: Tensor) -> Tensor:
    """[B, 4 * 3 * 16, 4 h, 4 w] around zero -> frames [B, 4, 3, 16 h, 16 w] in [0, 1]."""
    return F.pixel_shuffle(x, RASTER_STRIDE).unflatten(1, (FRAMES, 3)).mul(0.5).add_(0.5)


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
        return self.second(F.relu_(self.first(F.relu(x)))).add_(x)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
