"""Run the model on a stored clip as a session would: open on a real image, then feed on its own frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..model.conditioning import Conditions
from ..model.config import FRAMES, LATENT_STRIDE
from ..model.cycle import place_of
from ..model.dit import DiT, commit_step
from ..model.history import History
from ..model.noise import chunk_noise
from ..model.sampler import sample, schedule
from ..model.tokenizer import Tokenizer
from .batches import Place, Sequences, blind, load_row, stack_rows
from .clips import Clip, ClipArrays


@dataclass(frozen=True)
class RolloutOptions:
    """How to run."""

    chunks: int = 12
    steps: int = 4
    cycle: int = 1
    commit_tau: float = 0.875
    layout: bool = True
    history: bool = True
    motion: bool = True
    fresh_noise: bool = False  # in every chunk, instead of once in a KV cycle


@dataclass(frozen=True)
class Rollout:
    """What the model made of one clip, from one boundary on."""

    clip: Clip
    start: int  # boundary
    views: np.ndarray
    latents: np.ndarray  # float16 [T, V, C, h, w]
    frames: np.ndarray  # uint8 [4 T, V, H, W, 3]

    @property
    def boundaries(self) -> np.ndarray:
        """Last image of every latent frame, uint8 [T, V, 3, H, W]."""
        return self.frames[FRAMES - 1 :: FRAMES].transpose(0, 1, 4, 2, 3)


@torch.no_grad()
def roll_out(
    dit: DiT,
    tokenizer: Tokenizer,
    clips: Sequence[Clip],
    starts: Sequence[int],
    views: Sequence[np.ndarray],
    options: RolloutOptions,
    seed: int = 0,
) -> list[Rollout]:
    """Generate from boundaries of clips, as one batch.

    Args:
        dit: the network; eval mode.
        tokenizer: the one that encoded the clips.
        clips: of one size and view count.
        starts: boundary to open at, per clip.
        views: cameras, per clip.
        options: how to run.
        seed: of the noise.
    """
    batch = len(clips)
    rows = list(range(batch))
    rig = clips[0].rig
    latent_size = (dit.channels, rig.height // LATENT_STRIDE, rig.width // LATENT_STRIDE)
    cache = dit.new_cache(len(views[0]), latent_size[1] * latent_size[2], batch, dtype=torch.float32)
    commit = commit_step(options.commit_tau, options.steps)
    names = [[clip.rig.names[v] for v in chosen] for clip, chosen in zip(clips, views, strict=True)]

    opening = [Place(start, True, 1) for start in starts]
    clean, cond, _ = _prepare(tokenizer, clips, opening, views, None, options)
    embedded = dit.embed(cond)
    dit.write_sink(clean, commit, embedded, cache, rows)
    one = torch.ones(batch, dtype=torch.int64)
    dit.kv_update(clean, commit, embedded, cache, rows, one)

    made: list[Tensor] = []
    pictures: list[Tensor] = []
    source: Tensor | None = None
    for chunk in range(options.chunks):
        turn = place_of(chunk, options.cycle)
        ahead = turn.ahead
        places = [Place(start + chunk, False, ahead) for start in starts]
        _, cond, carried = _prepare(tokenizer, clips, places, views, source, options)
        embedded = dit.embed(cond)
        context = cache.context(rows, one * ahead)
        epoch = chunk if options.fresh_noise else turn.noise
        noise = torch.stack([chunk_noise(seed + row, epoch, names[row], latent_size) for row in rows])
        clean = sample(
            lambda x, step, e=embedded, c=context: dit.denoise(x, step, e, c),  # type: ignore[misc]
            noise,
            schedule(options.steps),
        )
        guide = None if cond.layout is None else cond.layout[:, :, 0]
        frames = tokenizer.decode(clean, guide, carried).float().clamp(0, 1)  # B V F 3 H W
        made.append(clean)
        pictures.append(frames)
        if turn.commits:
            dit.kv_update(clean, commit, embedded, cache, rows, one * ahead)
            source = frames[:, :, -1]
    return [
        _result(row, clip, start, chosen, made, pictures)
        for row, (clip, start, chosen) in enumerate(zip(clips, starts, views, strict=True))
    ]


class RolledClip(Clip):
    """A clip whose past is what the model made of it; the truth stays the truth."""

    def __init__(self, rollout: Rollout) -> None:
        super().__init__(rollout.clip.folder)
        self._rollout = rollout

    @cached_property
    def truth(self) -> ClipArrays:  # type: ignore[override]
        """The clip's own arrays, in the part and the views that were rolled out."""
        return self._part(self._rollout.clip.arrays)

    @cached_property
    def arrays(self) -> ClipArrays:  # type: ignore[override]
        """The same with latents and boundary images as generated; boundary 0 is the real image."""
        truth, rollout = self.truth, self._rollout
        assert truth.history is not None
        history = np.concatenate([truth.history[:1], rollout.boundaries])
        return replace(truth, latents=rollout.latents, history=history)

    @cached_property
    def rig(self):  # type: ignore[no-untyped-def,override]
        """The cameras that were rolled out."""
        whole = self._rollout.clip.rig
        return whole.subset([whole.names[v] for v in self._rollout.views])

    def _part(self, arrays: ClipArrays) -> ClipArrays:
        first, count = self._rollout.start, len(self._rollout.latents)
        images, views = slice(FRAMES * first, FRAMES * (first + count) + 1), self._rollout.views
        assert arrays.latents is not None and arrays.stills is not None and arrays.history is not None  # noqa: PT018
        return ClipArrays(
            layout=arrays.layout[images][:, views],
            depth=arrays.depth[images][:, views],
            deltas=arrays.deltas[FRAMES * first : FRAMES * (first + count)],
            boxes=arrays.boxes[images],
            latents=arrays.latents[first : first + count][:, views],
            stills=arrays.stills[first : first + count + 1][:, views],
            history=arrays.history[first : first + count + 1][:, views],
        )


def _prepare(
    tokenizer: Tokenizer,
    clips: Sequence[Clip],
    places: Sequence[Place],
    views: Sequence[np.ndarray],
    source: Tensor | None,
    options: RolloutOptions,
) -> tuple[Tensor, Conditions, History | None]:
    """Clean latents [B, V, C, h, w], conditions and carried pictures [B, V, F, ...] of one latent frame per clip."""
    rows = [
        load_row(clip, [place], chosen, False)
        for clip, place, chosen in zip(clips, places, views, strict=True)
    ]
    if source is not None:
        rows = [replace(row, source=255 * own[:, None]) for row, own in zip(rows, source, strict=True)]
    if not options.layout:
        rows = [blind(row) for row in rows]
    sequences = stack_rows(rows, False)
    cond = with_latents(sequences, tokenizer)
    cond = withhold(cond, options.motion, options.layout, options.history)
    carried = History(sequences.carried.pictures[:, :, 0], sequences.carried.valid[:, :, 0])
    return sequences.clean[:, :, 0], cond, carried if options.history else None


def with_latents(sequences: Sequences, tokenizer: Tokenizer) -> Conditions:
    """The conditions, with the latents of the carried pictures."""
    device = tokenizer.mean.device
    history = History(sequences.carried.pictures.to(device), sequences.carried.valid)
    return replace(sequences.conditions, carried=tokenizer.encode_carried(history).float())


def withhold(cond: Conditions, motion: bool, layout: bool, history: bool) -> Conditions:
    """Conditions without the parts that are switched off."""
    kept = cond if layout else replace(cond, layout=None)
    kept = kept if history else replace(kept, history=None, carried=None)
    if motion:
        return kept
    return replace(kept, keep_motion=torch.zeros(len(cond.motion), dtype=torch.bool))


def _result(
    row: int, clip: Clip, start: int, views: np.ndarray, made: list[Tensor], pictures: list[Tensor]
) -> Rollout:
    latents = torch.stack([clean[row] for clean in made])
    frames = torch.cat([picture[row].transpose(0, 1) for picture in pictures])  # (T F) V 3 H W
    return Rollout(
        clip,
        start,
        views,
        latents.half().numpy(),
        (frames * 255).round().byte().movedim(2, -1).numpy(),
    )
