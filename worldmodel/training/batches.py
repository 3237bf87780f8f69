"""Draw training sequences from clips: which latent frames, how far apart, which views, with what conditions.

A sequence is what a session would have in its rolling KV: a sink, then latent frames spaced as KV cycles of 1, 2 or 4
chunks space them. Each latent frame is conditioned as if the one before it were the last commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..layout.air import Air
from ..model.conditioning import Conditions, appearance_vector, group_indices, motion_vector
from ..model.config import FRAMES
from ..model.depth import shipped_depth
from ..model.foresight import foreseen
from ..model.history import History, Moment, carry
from ..model.rays import CameraTensors, plucker
from ..model.reproject import compose
from ..model.retouch import retouch
from ..model.road_users import nobody_like
from ..scene.state import Atmosphere
from .clips import Clip, ClipArrays
from .config import DynamicsRun
from .degrade import degrade_images, kept_regions


@dataclass(frozen=True)
class Place:
    """One latent frame of a sequence. A still is a boundary image shown four times: how sessions open."""

    index: int  # latent frame, or boundary of a still
    still: bool
    gap: int  # latent frames since the commit before it


@dataclass(frozen=True)
class Sequences:
    """A batch ready for the network."""

    clean: Tensor  # float32 [B, V, T, C, h, w]: what the network is to make
    context: Tensor  # the same; or, where a rollout stands in for the past, what the network made itself
    conditions: Conditions  # without the latents of the carried pictures: those need a tokeniser
    carried: History  # axes [B, V, T, F, ...]
    times: Tensor  # [B, T] in latent frames
    sink: bool
    given: Tensor  # bool [B, T]: sinks and stills, which are never generated


def draw_sequences(
    clips: Sequence[Clip], run: DynamicsRun, rng: np.random.Generator, wide: bool
) -> Sequences:
    """A random batch. `wide`: all views of the rigs and fewer latent frames."""
    latents = run.wide_latents if wide else run.latents
    batch = max(1, run.batch // 2) if wide else run.batch
    sink = bool(rng.random() >= run.drop_sink)
    rows = []
    for _ in range(batch):
        clip = clips[int(rng.integers(len(clips)))]
        views = draw_views(clip, None if wide else run.views, rng)
        row = load_row(clip, draw_places(clip.latents, latents, run.cycles, sink, rng), views, sink)
        rows.append(blind(row) if rng.random() < run.drop_layout else row)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    sequences = stack_rows(rows, sink, Harm(run.degrade, generator))
    return replace(sequences, conditions=_drop(sequences.conditions, run, generator))


def draw_places(
    available: int, count: int, cycles: Sequence[int], sink: bool, rng: np.random.Generator
) -> list[Place]:
    """Latent frames of one sequence: the sink (if any), sometimes an opening still, then `count` in all."""
    fitting = [cycle for cycle in cycles if cycle * count + 1 <= available] or [1]
    cycle = int(rng.choice(fitting))
    even = rng.random() < 0.5
    gaps = np.full(count, cycle) if even else rng.integers(1, cycle + 1, count)
    gaps[-1] = rng.integers(1, cycle + 1)  # a chunk inside a cycle
    count = min(count, available - 1)
    gaps = gaps[:count]
    opening = bool(rng.random() < 0.25)
    if opening:
        start = int(rng.integers(0, available - gaps[1:].sum() + 1))  # boundary
        indices = start - 1 + np.concatenate([[0], gaps[1:]]).cumsum()
        places = [Place(start, True, 1)]
        places += [Place(int(i), False, int(g)) for i, g in zip(indices[1:], gaps[1:], strict=True)]
        boundary = start
    else:
        first = int(rng.integers(gaps[0] - 1, available - gaps[1:].sum()))
        indices = first + np.concatenate([[0], gaps[1:]]).cumsum()
        places = [Place(int(i), False, int(g)) for i, g in zip(indices, gaps, strict=True)]
        boundary = int(rng.integers(0, first + 1))
    return [Place(boundary, True, 1), *places] if sink else places


def draw_views(clip: Clip, count: int | None, rng: np.random.Generator) -> np.ndarray:
    """Cameras for a row: one at random and those that overlap it most; None is all."""
    total = len(clip.rig)
    if count is None or count >= total:
        return np.arange(total)
    chosen = [int(rng.integers(total))]
    while len(chosen) < count:
        reach = clip.rig.overlap[chosen].max(axis=0) + 1e-3 * rng.random(total)
        reach[chosen] = -1
        chosen.append(int(reach.argmax()))
    return np.array(chosen)


@dataclass(frozen=True)
class Row:
    """One sequence before batching; axes as in `Sequences` without B."""

    clean: Tensor
    context: Tensor
    motion: Tensor
    layout: Tensor
    source: Tensor  # history images uint8 [V, T, 3, H, W]
    source_depth: Tensor  # [V, T, h, w]
    source_boxes: Tensor  # [T, N, 7]
    boxes: Tensor  # [T, F, N, 7]
    depth: Tensor  # [V, T, F, h, w]
    along: Tensor  # bool, the same: what is taken to move along with the ego
    poses: Tensor  # [T, F, 3]
    times: Tensor
    given: Tensor
    cameras: CameraTensors
    groups: Tensor
    atmosphere: Atmosphere
    sees_layout: Tensor = field(default_factory=lambda: torch.tensor(True))


def blind(row: Row) -> Row:
    """The same in a session without layout: depth is what pictures look like, and road users are nobody's knowledge."""
    cameras = CameraTensors.stack([row.cameras] * len(row.poses))
    images = row.source.transpose(0, 1).float() / 255  # T V 3 H W
    seen = shipped_depth().estimate(images, cameras)
    ahead = foreseen(seen, row.poses, cameras)
    return replace(
        row,
        source_depth=seen.transpose(0, 1),
        depth=ahead.depth.transpose(0, 1),
        along=ahead.along.transpose(0, 1),
        source_boxes=nobody_like(row.source_boxes),
        boxes=nobody_like(row.boxes),
        sees_layout=torch.tensor(False),
    )


def load_row(clip: Clip, places: Sequence[Place], views: np.ndarray, sink: bool) -> Row:
    """Read the arrays of one sequence."""
    arrays = clip.arrays
    assert arrays.history is not None
    clean = [_latent(clip.truth, p)[views] for p in places]
    context = [_latent(arrays, p)[views] for p in places]
    images = [_image_indices(p) for p in places]
    boundaries = [p.index if p.still else p.index + 1 - p.gap for p in places]  # of the commit before
    motions, poses = zip(*(_motion(arrays, p) for p in places), strict=True)
    times = _times(places, sink)
    depth = _stack([arrays.depth[i][:, views].swapaxes(0, 1) for i in images]).float()
    return Row(
        clean=_stack(clean).float(),
        context=_stack(context).float(),
        motion=torch.stack(motions),
        layout=_stack([arrays.layout[i][:, views].swapaxes(0, 1) for i in images]),
        source=_stack([arrays.history[b][views] for b in boundaries]),
        source_depth=_stack([arrays.depth[FRAMES * b][views] for b in boundaries]).float(),
        source_boxes=torch.from_numpy(np.stack([arrays.boxes[FRAMES * b] for b in boundaries])),
        boxes=torch.from_numpy(np.stack([arrays.boxes[i] for i in images])),
        depth=depth,
        along=torch.zeros_like(depth, dtype=torch.bool),
        poses=torch.stack(poses),
        times=times,
        given=torch.tensor([p.still for p in places]),
        cameras=clip.cameras.take(torch.from_numpy(views)),
        groups=group_indices([clip.rig.cameras[v].group for v in views]),
        atmosphere=clip.atmosphere,
    )


@dataclass(frozen=True)
class Harm:
    """How history is degraded."""

    share: float  # of the rows
    generator: torch.Generator


def stack_rows(rows: Sequence[Row], sink: bool, harm: Harm | None = None) -> Sequences:
    """Batch rows of equal shape and carry their history into them."""

    def gather(name: str) -> Tensor:
        return torch.stack([getattr(row, name) for row in rows])

    cameras = CameraTensors.stack([row.cameras for row in rows])
    source = gather("source").float() / 255
    if harm is not None:
        source = degrade_images(source, harm.share, harm.generator)
    history = _carried(rows, source, cameras)
    if harm is not None:
        kept = kept_regions(history.valid, harm.share, harm.generator)
        history = replace(history, valid=history.valid * kept)
    layout, sees_layout = gather("layout"), gather("sees_layout")
    known = layout * sees_layout[:, None, None, None, None, None, None]
    history = retouch(history, known, gather("depth"), Air.of([row.atmosphere for row in rows]))
    conditions = Conditions(
        motion=gather("motion"),
        rays=plucker(cameras),
        groups=gather("groups"),
        neighbours=cameras.neighbours,
        appearance=torch.stack([appearance_vector(row.atmosphere) for row in rows]),
        layout=layout,
        history=history.raster,
        keep_layout=sees_layout,
    )
    return Sequences(
        gather("clean"), gather("context"), conditions, history, gather("times"), sink, gather("given")
    )


def _carried(rows: Sequence[Row], source: Tensor, cameras: CameraTensors) -> History:
    """Carry history into all latent frames of all rows; axes [B, V, T, F, ...]."""
    batch, latents = len(rows), len(rows[0].times)

    def fold(x: Tensor) -> Tensor:  # B V T ... -> (B T) V ...
        return x.transpose(1, 2).flatten(0, 1)

    def joined(name: str) -> Tensor:  # B T ... -> (B T) ...
        return torch.cat([getattr(row, name) for row in rows])

    def unfold(x: Tensor) -> Tensor:
        return x.unflatten(0, (batch, latents)).transpose(1, 2)

    moment = Moment(
        fold(source), fold(torch.stack([row.source_depth for row in rows])), joined("source_boxes")
    )
    depth, along = (fold(torch.stack([getattr(row, name) for row in rows])) for name in ("depth", "along"))
    history = carry(moment, depth, joined("poses"), cameras.repeat(latents), joined("boxes"), along)
    return History(unfold(history.pictures), unfold(history.valid))


def _drop(cond: Conditions, run: DynamicsRun, generator: torch.Generator) -> Conditions:
    """Withhold conditions from some rows, degrade the history of others."""
    batch = len(cond.motion)

    def keep(rate: float) -> Tensor:
        return torch.rand(batch, generator=generator) >= rate

    known = torch.rand(cond.groups.shape, generator=generator) >= run.drop_group
    return replace(
        cond,
        groups=torch.where(known, cond.groups, 0),
        keep_motion=keep(run.drop_motion),
        keep_history=keep(run.drop_history),
    )


def _latent(arrays: ClipArrays, place: Place) -> np.ndarray:
    source = arrays.stills if place.still else arrays.latents
    assert source is not None, "expected an encoded clip"
    return source[place.index]


def _image_indices(place: Place) -> np.ndarray:
    if place.still:
        return np.full(FRAMES, FRAMES * place.index)
    return FRAMES * place.index + 1 + np.arange(FRAMES)


def _motion(arrays: ClipArrays, place: Place) -> tuple[Tensor, Tensor]:
    """Motion vector, and the poses of the four images in the frame of the commit before."""
    origin = torch.zeros(3)
    if place.still:
        still = torch.zeros(FRAMES, 3)
        return motion_vector(still, origin, torch.tensor(1)), still
    first = FRAMES * (place.index + 1 - place.gap)
    deltas = torch.from_numpy(np.array(arrays.deltas[first : FRAMES * (place.index + 1)]))
    poses = compose(origin, deltas)
    since = poses[-FRAMES - 1] if place.gap > 1 else origin
    return motion_vector(deltas[-FRAMES:], since, torch.tensor(place.gap)), poses[-FRAMES:]


def _times(places: Sequence[Place], sink: bool) -> Tensor:
    """Times in latent frames; a sink comes before everything and its time does not matter."""
    gaps = torch.tensor([p.gap for p in places])
    start = 1 if sink else 0
    gaps[: start + 1] = torch.arange(start + 1)
    return gaps.cumsum(0)


def _stack(parts: Sequence[np.ndarray]) -> Tensor:
    """T arrays [V, ...] -> [V, T, ...]."""
    return torch.from_numpy(np.stack(parts, axis=1))
