"""Train a decoder on what it will see: carried pictures, and latents as the model guesses them.

The encoder stays as it is, and so do the latents and everything that was trained on them; or it moves with the decoder
(`DecoderRun.move_encoder`), held near the latents of the clips.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.checkpoint import checkpoint_config, load_checkpoint, load_weights, save_checkpoint
from ..model.config import FRAMES, ModelConfig
from ..model.dit import DiT
from ..model.history import History
from ..model.precision import fast_autocast
from ..model.tokenizer import INT8_ONE, Tokenizer
from .batches import Harm, Place, Sequences, blind, draw_views, load_row, stack_rows
from .clips import Clip
from .config import DecoderRun
from .losses import detail_weights, energy_loss, psnr, reconstruction_loss
from .mosaic import write_mosaic
from .progress import RunClock
from .rollout import with_latents
from .tokenizer_file import prefix_of, tokenizer_config

HELD_OUT_ROWS = 24
GUESSED_SHARE = 0.7  # of the samples; the others are decoded from true latents, which must not suffer
FRESH = ("decoder.detail.",)  # what a decoder lacks that never saw carried pictures


@dataclass(frozen=True)
class Sample:
    """Latent frames as single pictures; S = rows x views."""

    true: Tensor  # float [S, 4, 3, H, W]
    latents: Tensor  # [S, C, h, w]
    guess: Tensor | None  # the same as the model guesses them
    layout: Tensor  # int8 [S, 4, C, 4 h, 4 w]
    sees_layout: Tensor  # bool [S]
    carried: History  # axes [S, 4, ...]


@dataclass(frozen=True)
class LatentHarm:
    """What is done to true latents before they are decoded."""

    share: Tensor  # [S, 1, 1, 1], how far each is on the way to the model's guess: 0 true, 1 as guessed
    noise: Tensor  # [S, C, h, w]

    def applied(self, latents: Tensor, guess: Tensor | None) -> Tensor:
        """[S, C, h, w]."""
        return (latents if guess is None else torch.lerp(latents, guess, self.share)) + self.noise


class DecoderTask:
    """Tokeniser, clips and loss. What is not trained of it, the encoder as a rule, is frozen.

    Args:
        run: the run.
        clips: encoded and with frames, to train on.
        held_out: the same, to judge on.
        details: layout channels where paint and agents are, weighted up.
    """

    def __init__(
        self, run: DecoderRun, clips: Sequence[Clip], held_out: Sequence[Clip], details: Sequence[int]
    ) -> None:
        self.run, self._clips, self._details = run, clips, list(details)
        checkpoint = load_checkpoint(Path(run.tokenizer))
        self._config = replace(tokenizer_config(checkpoint), carried=True)
        whole = load_weights(Tokenizer(self._config), checkpoint, prefix_of(checkpoint), FRESH)
        self.model: Tokenizer = whole.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.encoder.requires_grad_(run.move_encoder)
        self._dit = None if run.errors_of is None else _network(Path(run.errors_of)).to(run.device)
        self._forward = torch.compile(self._losses) if run.compile else self._losses
        self._judged = self._sample(held_out, HELD_OUT_ROWS, np.random.default_rng(12345), None)

    def loss(self, clock: RunClock) -> tuple[Tensor, dict[str, float]]:
        """See `Task.loss`."""
        run, rng = self.run, np.random.default_rng([self.run.seed, clock.step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        sample = self._sample(self._clips, run.batch, rng, Harm(run.degrade, generator))
        weight = detail_weights(sample.layout[:, :, self._details].amax(dim=2) / INT8_ONE, run.detail_weight)

        def keep(rate: float) -> Tensor:
            kept = torch.rand(len(sample.true), generator=generator) >= rate
            return kept.to(run.device)[:, None, None, None]

        guide = sample.layout * sample.sees_layout[:, None, None, None, None]
        carried = replace(sample.carried, valid=sample.carried.valid * keep(run.drop_history))
        harm = _harm_of_latents(sample, run.latent_noise, generator)
        loss, made = self._forward(sample, weight, harm, guide, carried)
        return loss, {"loss": float(loss.detach()), "psnr": float(psnr(made.detach(), sample.true))}

    def _losses(
        self, sample: Sample, weight: Tensor, harm: LatentHarm, guide: Tensor, carried: History
    ) -> tuple[Tensor, Tensor]:
        run, true = self.run, sample.true
        with fast_autocast(true.device.type):
            latents = self._latents(sample)
            made = self.model.decode(harm.applied(latents, sample.guess), guide, carried)
        made = made.float()
        loss = reconstruction_loss(made, true, weight, run.gradient_weight)
        loss = loss + run.square_weight * (made - true).square().mean()
        loss = loss + run.latent_weight * (latents - sample.latents).square().mean()
        return loss + run.energy_weight * (energy_loss(made, true) * harm.share.flatten()).mean(), made

    def _latents(self, sample: Sample) -> Tensor:
        """Of the true frames, [S, C, h, w]: as the clips have them, or as the encoder that learns makes them."""
        return self.model.encode(sample.true).float() if self.run.move_encoder else sample.latents

    @torch.no_grad()
    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, clock: RunClock) -> dict[str, float]:
        """See `Task.evaluate`."""
        present = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(dict(weights))
        s = self._judged
        with fast_autocast(s.true.device.type):
            latents = self._latents(s)
        seen = {
            "": (latents, s.layout, s.carried),
            "_uncarried": (latents, s.layout, None),
            "_alone": (latents, None, None),
        }
        if s.guess is not None:
            seen |= {"_guess": (s.guess, s.layout, s.carried), "_guess_uncarried": (s.guess, s.layout, None)}
        made = {}
        for name, parts in seen.items():
            with fast_autocast(s.true.device.type):
                made[name] = self.model.decode(*parts).float().clamp(0, 1)
        rows = [s.true, s.carried.pictures, *made.values()]
        write_mosaic(
            folder / f"sample_{clock.step:06d}.png",
            torch.stack([row[:12, -1] for row in rows]).movedim(2, -1).cpu(),
        )
        self.model.load_state_dict(present)
        scores = {f"held_out{name}_psnr": float(psnr(picture, s.true)) for name, picture in made.items()}
        scores |= {
            f"held_out{name}_energy": _energy(picture) / _energy(s.true) for name, picture in made.items()
        }
        moved = float((latents - s.latents).square().mean().sqrt())
        return scores | {"carried_psnr": float(psnr(s.carried.pictures, s.true)), "latents_moved": moved}

    def export(self, weights: Mapping[str, Tensor], path: Path, notes: Mapping[str, Any]) -> None:
        """See `Task.export`: a whole tokeniser."""
        save_checkpoint(path, self._config, dict(weights), notes, dtype=torch.float32)

    def _sample(
        self, clips: Sequence[Clip], rows: int, rng: np.random.Generator, harm: Harm | None
    ) -> Sample:
        drawn = [clips[int(rng.integers(len(clips)))] for _ in range(rows)]
        gaps = [int(rng.integers(1, max(self.run.cycles) + 1)) for _ in drawn]
        places = [
            Place(int(rng.integers(gap - 1, clip.latents)), False, gap)
            for clip, gap in zip(drawn, gaps, strict=True)
        ]
        views = [draw_views(clip, self.run.views, rng) for clip in drawn]
        chosen = list(zip(drawn, places, views, strict=True))
        loaded = [load_row(clip, [p], v, False) for clip, p, v in chosen]
        if harm is not None:
            loaded = [blind(row) if rng.random() < self.run.drop_guide else row for row in loaded]
        sequences = stack_rows(loaded, False, harm)
        true = torch.from_numpy(np.stack([_frames(clip, p, v) for clip, p, v in chosen]))
        return self._flat(sequences, true.float() / 255)

    def _flat(self, sequences: Sequences, true: Tensor) -> Sample:
        """Rows and views side by side, on the device; true frames are [B, V, 4, 3, H, W]."""
        device = self.run.device

        def flat(x: Tensor) -> Tensor:  # B V T=1 ... -> S ...
            return x[:, :, 0].flatten(0, 1).to(device)

        carried = History(flat(sequences.carried.pictures), flat(sequences.carried.valid))
        cond = sequences.conditions
        assert cond.layout is not None and cond.keep_layout is not None  # noqa: PT018
        guess = self._guess(sequences)
        return Sample(
            true.flatten(0, 1).to(device),
            flat(sequences.clean),
            None if guess is None else flat(guess),
            flat(cond.layout),
            cond.keep_layout.repeat_interleave(true.shape[1]).to(device),
            carried,
        )

    @torch.no_grad()
    def _guess(self, sequences: Sequences) -> Tensor | None:
        """What the conditions alone tell, [B, V, 1, C, h, w]."""
        if self._dit is None:
            return None
        with fast_autocast(self.run.device):
            conditions = with_latents(sequences, self.model)
            conditions = conditions.each(lambda part: part.to(self.run.device))
            return self._dit.embed(conditions).guess.float()


def _harm_of_latents(sample: Sample, noise: float, g: torch.Generator) -> LatentHarm:
    """True latents, or some on the way to what the model makes of them, and a little beyond; with noise."""
    shape, device = (len(sample.true), 1, 1, 1), sample.latents.device
    share = torch.zeros(shape)
    if sample.guess is not None:
        share = 1.1 * torch.rand(shape, generator=g) * (torch.rand(shape, generator=g) < GUESSED_SHARE)
    amount = noise * torch.rand(shape, generator=g) * (torch.rand(shape, generator=g) < 0.5)
    return LatentHarm(share.to(device), (amount * torch.randn(sample.latents.shape, generator=g)).to(device))


def _energy(frames: Tensor) -> float:
    """Mean absolute difference of neighbouring frames."""
    return float(frames.diff(dim=1).abs().mean())


def _frames(clip: Clip, place: Place, views: np.ndarray) -> np.ndarray:
    """True frames of a latent frame, uint8 [V, 4, 3, H, W]."""
    frames = clip.truth.frames
    assert frames is not None, "expected clips with frames"
    first = FRAMES * place.index + 1
    return frames[first : first + FRAMES, views].transpose(1, 0, 4, 2, 3)


def _network(path: Path) -> DiT:
    """The network of a world model, in eval mode."""
    checkpoint = load_checkpoint(path)
    config = checkpoint_config(checkpoint, ModelConfig)
    dit = load_weights(DiT(config.dit, config.tokenizer.channels), checkpoint, "dit.")
    return dit.eval().requires_grad_(False)
