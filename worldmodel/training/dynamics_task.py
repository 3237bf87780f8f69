"""Train the diffusion transformer: shortcut forcing on encoded clips, later with the model's own errors in the past."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ..model.conditioning import Conditions, Embedded
from ..model.config import FRAMES, ModelConfig
from ..model.dit import DiT
from ..model.precision import fast_autocast
from .batches import Sequences, draw_sequences, draw_views
from .clips import Clip
from .config import DynamicsRun
from .forcing import Levels, draw_levels, forcing_loss
from .mosaic import write_mosaic
from .progress import RunClock
from .rollout import RolledClip, Rollout, RolloutOptions, roll_out, with_latents
from .scores import rollout_scores
from .tokenizer_file import load_tokenizer

COMMIT_TAU = 0.875
EVALUATED_CLIPS = 6
POOL = 64  # rollouts that recycled rows are drawn from


class DynamicsTask:
    """Network, clips and loss.

    Args:
        run: the run.
        clips: encoded, to train on.
        held_out: encoded and with frames, to judge on.
    """

    def __init__(self, run: DynamicsRun, clips: Sequence[Clip], held_out: Sequence[Clip]) -> None:
        self.run, self._clips, self._held_out = run, clips, held_out
        self._tokenizer = load_tokenizer(Path(run.tokenizer)).to(run.device)
        self.model = DiT(run.dit, self._tokenizer.config.channels).to(run.device)
        if run.init is not None:
            load_weights(self.model, load_checkpoint(Path(run.init)), prefix="dit.", fresh=run.fresh)
        self._embed = torch.compile(self.model.embed, dynamic=False) if run.compile else self.model.embed
        self._network = torch.compile(self.model, dynamic=False) if run.compile else self.model
        self._pool: list[Clip] = []

    def loss(self, clock: RunClock) -> tuple[Tensor, dict[str, float]]:
        """See `Task.loss`."""
        run, rng = self.run, np.random.default_rng([self.run.seed, clock.step])
        recycling = clock.progress >= run.recycle_start
        if recycling and (clock.step % run.recycle_every == 0 or not self._pool):
            self._pool = [*self._pool, *self._recycle(clock, rng)][-POOL:]
        source = self._pool if recycling and rng.random() < run.recycle_share else self._clips
        wide = run.wide_every > 0 and clock.step % run.wide_every == run.wide_every - 1
        batch = draw_sequences(source, run, rng, wide and source is self._clips)
        shortcuts = clock.progress >= run.shortcut_start
        coarse = round(run.shortcut_share * len(batch.times)) if shortcuts else 0
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        levels = draw_levels(batch.given, coarse, COMMIT_TAU, not shortcuts, generator)
        noise = torch.randn(batch.clean.shape, generator=generator)
        with fast_autocast(run.device):
            conditions = self._conditions(batch)
            embedded = self._embed(conditions)
        guessed = (embedded.guess.float() - batch.clean.to(run.device)).square().mean()
        report = {"loss_guess": float(guessed.detach())}
        if clock.progress < run.guess_until:
            return guessed, report
        loss, parts = self._loss(batch, embedded, noise, levels, coarse)
        return loss + run.guess_weight * guessed, {**parts, **report}

    @torch.no_grad()
    def _conditions(self, batch: Sequences) -> Conditions:
        """Conditions on the device; with the latents of the carried pictures, where the network reads them."""
        conditions = with_latents(batch, self._tokenizer) if self.run.dit.carried else batch.conditions
        return conditions.each(lambda part: part.to(self.run.device))

    def _loss(
        self, batch: Sequences, embedded: Embedded, noise: Tensor, levels: Levels, coarse: int
    ) -> tuple[Tensor, dict[str, float]]:
        device = self.run.device
        clean, context, times = (t.to(device) for t in (batch.clean, batch.context, batch.times))
        levels = Levels(*(t.to(device) for t in vars(levels).values()))

        def network(x: Tensor, tau: Tensor, size: Tensor) -> Tensor:
            rows = slice(0, len(x))
            cond = embedded if len(x) == len(clean) else embedded.rows(rows)
            with fast_autocast(device):
                return self._network(x, tau, size, cond, times[rows], batch.sink)

        return forcing_loss(network, clean, context, noise.to(device), levels, coarse, self.run.loss_floor)

    def _recycle(self, clock: RunClock, rng: np.random.Generator) -> list[Clip]:
        """Run the model on some clips; what it makes becomes the past of training sequences."""
        run = self.run
        picked = [self._clips[i] for i in rng.integers(len(self._clips), size=4)]
        shortest = min(clip.latents for clip in picked)
        share = (clock.progress - run.recycle_start) / max(1 - run.recycle_start, 1e-6)
        longest = run.latents + 1 + int(share * run.recycle_chunks)  # ever longer rollouts
        chunks = min(longest, shortest)
        starts = [int(rng.integers(0, clip.latents - chunks + 1)) for clip in picked]
        views = [draw_views(clip, run.views, rng) for clip in picked]
        options = RolloutOptions(
            chunks,
            steps=int(rng.choice([1, 2, 4])),
            cycle=int(rng.choice(run.cycles)),
            commit_tau=COMMIT_TAU,
            layout=bool(rng.random() >= run.drop_layout),
        )
        rollouts = self._rolled(picked, starts, views, options, seed=clock.step)
        return [RolledClip(rollout) for rollout in rollouts]

    def _rolled(
        self,
        clips: Sequence[Clip],
        starts: Sequence[int],
        views: Sequence[np.ndarray],
        options: RolloutOptions,
        seed: int = 0,
    ) -> list[Rollout]:
        self.model.eval()
        with fast_autocast(self.run.device):
            made = roll_out(self.model, self._tokenizer, clips, starts, views, options, seed)
        self.model.train()
        return made

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, clock: RunClock) -> dict[str, float]:
        """See `Task.evaluate`."""
        present = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(dict(weights))
        rng = np.random.default_rng(0)
        clips = self._held_out[:EVALUATED_CLIPS]
        chunks = min(min(clip.latents for clip in clips), 24)
        views = [draw_views(clip, self.run.views, rng) for clip in clips]
        scores: dict[str, float] = {}
        variants = {"": RolloutOptions(chunks), "one_step_": RolloutOptions(chunks, steps=1)}
        if 4 in self.run.cycles:
            variants["cycle4_"] = RolloutOptions(chunks, cycle=4)
        for prefix, options in variants.items():
            rollouts = self._rolled(clips, [0] * len(clips), views, options)
            found = rollout_scores(rollouts, self._tokenizer)
            scores |= {prefix + name: value for name, value in found.items()}
            if not prefix:
                write_rollouts(folder / f"rollout_{clock.step:06d}.png", rollouts)
        self.model.load_state_dict(present)
        return scores

    def export(self, weights: Mapping[str, Tensor], path: Path, notes: Mapping[str, Any]) -> None:
        """See `Task.export`."""
        dit = {f"dit.{name}": tensor for name, tensor in weights.items()}
        tokenizer = {f"tokenizer.{name}": tensor for name, tensor in self._tokenizer.state_dict().items()}
        save_checkpoint(path, self._config(), {**dit, **tokenizer}, notes)

    def _config(self) -> ModelConfig:
        clip = self._clips[0]
        return ModelConfig(
            name=Path(self.run.out).name,
            rig=clip.rig.name,
            height=clip.rig.height,
            width=clip.rig.width,
            tokenizer=self._tokenizer.config,
            dit=self.run.dit,
        )


def write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> None:
    """First view of each rollout over time: truth above, made below, every fourth latent frame."""
    rows = []
    for rollout in rollouts[:4]:
        frames = rollout.clip.arrays.frames
        assert frames is not None
        shown = np.arange(0, len(rollout.latents), 4)[:6]
        true = frames[FRAMES * (rollout.start + shown + 1), rollout.views[0]]
        rows += [true, rollout.frames[FRAMES * shown + FRAMES - 1, 0]]
    write_mosaic(path, np.stack(rows))
