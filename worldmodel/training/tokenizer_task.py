"""Train the autoencoder on single latent frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ..model.config import FRAMES
from ..model.precision import fast_autocast
from ..model.tokenizer import INT8_ONE, Tokenizer
from .clips import Clip
from .config import TokenizerRun
from .losses import detail_weights, psnr, reconstruction_loss
from .mosaic import write_mosaic
from .progress import RunClock

STILL_SHARE = 0.1  # of samples: one image four times, as sessions open
HELD_OUT_SAMPLES = 48


class TokenizerTask:
    """Tokeniser, clips and loss.

    Args:
        run: the run.
        clips: with frames, to train on.
        held_out: with frames, to judge on.
        details: layout channels where paint and agents are, weighted up.
    """

    def __init__(
        self, run: TokenizerRun, clips: Sequence[Clip], held_out: Sequence[Clip], details: Sequence[int]
    ) -> None:
        self.run, self._clips, self._details = run, clips, list(details)
        self.model = Tokenizer(run.tokenizer).to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if run.init is not None:
            load_weights(self.model, load_checkpoint(Path(run.init)))
        self._forward = torch.compile(self._losses) if run.compile else self._losses
        self._judged = self._batch(held_out, HELD_OUT_SAMPLES, np.random.default_rng(12345))

    def loss(self, clock: RunClock) -> tuple[Tensor, dict[str, float]]:
        """See `Task.loss`."""
        run, rng = self.run, np.random.default_rng([self.run.seed, clock.step])
        true, layout = self._batch(self._clips, run.batch, rng)
        weight = detail_weights(layout[:, :, self._details].amax(dim=2) / INT8_ONE, run.detail_weight)
        noise = self._latent_noise(true, int(rng.integers(2**62)))
        guided = torch.from_numpy(rng.random(run.batch) >= run.drop_guide).to(run.device)
        guide = layout * guided[:, None, None, None, None]
        loss, made = self._forward(true, weight, noise.to(run.device), guide)
        return loss, {"loss": float(loss.detach()), "psnr": float(psnr(made.detach(), true))}

    def _latent_noise(self, true: Tensor, seed: int) -> Tensor:
        """Noise [B, C, h, w] of a random strength, none in half of the samples."""
        g = torch.Generator().manual_seed(seed)
        amount = torch.rand(len(true), 1, 1, 1, generator=g) * self.run.latent_noise
        amount = amount * (torch.rand(amount.shape, generator=g) < 0.5)
        size = (len(true), self.run.tokenizer.channels, *_latent_size(true))
        return amount * torch.randn(size, generator=g)

    def _losses(self, true: Tensor, weight: Tensor, noise: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        with fast_autocast(true.device.type):
            z = self.model.encode_raw(true)
            # Noise is relative to the spread of each channel, as it will be after standardisation.
            z = z + noise * z.detach().float().std(dim=(0, 2, 3), keepdim=True).to(z.dtype)
            made = self.model.decode_raw(z, guide)
        made = made.float()
        return reconstruction_loss(made, true, weight, self.run.gradient_weight), made

    @torch.no_grad()
    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, clock: RunClock) -> dict[str, float]:
        """See `Task.evaluate`."""
        model, (true, layout) = self._averaged(weights), self._judged

        def decode(latents: Tensor, guide: Tensor | None) -> Tensor:
            return model.decode(latents, guide).float().clamp(0, 1)

        with fast_autocast(true.device.type):
            latents = model.encode(true).float()
            made, alone = decode(latents, layout), decode(latents, None)
            noisy = decode(latents + 0.1 * torch.randn_like(latents), layout)
        shown = torch.stack([true[:12, -1], made[:12, -1], alone[:12, -1]])
        write_mosaic(folder / f"sample_{clock.step:06d}.png", shown.movedim(2, -1))
        pictures = {"held_out": made, "held_out_unguided": alone, "held_out_noisy": noisy}
        return {f"{name}_psnr": float(psnr(picture, true)) for name, picture in pictures.items()}

    def export(self, weights: Mapping[str, Tensor], path: Path, notes: Mapping[str, Any]) -> None:
        """See `Task.export`."""
        model = self._averaged(weights)
        save_checkpoint(path, self.run.tokenizer, model.state_dict(), notes, dtype=torch.float32)

    @torch.no_grad()
    def _averaged(self, weights: Mapping[str, Tensor]) -> Tokenizer:
        """The tokeniser with averaged weights and the standardisation of the latents it makes."""
        model = Tokenizer(self.run.tokenizer).to(self.run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.load_state_dict(dict(weights))
        frames, _ = self._batch(self._clips, 4 * HELD_OUT_SAMPLES, np.random.default_rng(7))
        with fast_autocast(frames.device.type):
            raw = torch.cat([model.encode_raw(part) for part in torch.split(frames, HELD_OUT_SAMPLES)])
        model.set_statistics(raw)
        return model.eval()

    def _batch(self, clips: Sequence[Clip], count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images [B, 4, 3, H, W] in [0, 1] and their layout int8 [B, 4, C, h, w]."""
        frames, layout = zip(*(_draw(clips, rng) for _ in range(count)), strict=True)
        device = self.run.device
        return torch.from_numpy(np.stack(frames)).to(device).float() / 255, torch.from_numpy(
            np.stack(layout)
        ).to(device)


def _draw(clips: Sequence[Clip], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four consecutive images uint8 [4, 3, H, W] of one camera, and their layout int8 [4, C, h, w]."""
    arrays = clips[int(rng.integers(len(clips)))].arrays
    assert arrays.frames is not None, "expected clips with frames"
    view = rng.integers(arrays.frames.shape[1])
    start = int(rng.integers(len(arrays.frames) - FRAMES + 1))
    images = np.full(FRAMES, start) if rng.random() < STILL_SHARE else start + np.arange(FRAMES)
    return arrays.frames[images, view].transpose(0, 3, 1, 2), arrays.layout[images, view]


def _latent_size(frames: Tensor) -> tuple[int, int]:
    return frames.shape[-2] // 16, frames.shape[-1] // 16
