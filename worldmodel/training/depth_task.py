"""Train the network that sessions without layout know distances by: one picture in, the renderer's depth out."""

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ..model.config import FRAMES
from ..model.depth import NEAR_M, DepthNet, camera_geometry, log_depth
from ..model.precision import fast_autocast
from ..model.reproject import FAR_M, agree
from .clips import Clip
from .config import DepthRun
from .mosaic import write_mosaic
from .progress import RunClock

HELD_OUT_SAMPLES = 112
SHOWN = 8
GAIN = 0.6  # of colours, up to half of it to both sides


class DepthTask:
    """Network, clips and loss.

    Args:
        run: the run.
        clips: encoded and with frames, to train on.
        held_out: the same, to judge on.
    """

    def __init__(self, run: DepthRun, clips: Sequence[Clip], held_out: Sequence[Clip]) -> None:
        self.run, self._clips = run, clips
        self.model = DepthNet(run.depth).to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if run.init is not None:
            load_weights(self.model, load_checkpoint(Path(run.init)))
        self._forward = torch.compile(self._losses) if run.compile else self._losses
        self._judged = self._batch(held_out, HELD_OUT_SAMPLES, np.random.default_rng(12345))

    def loss(self, clock: RunClock) -> tuple[Tensor, dict[str, float]]:
        """See `Task.loss`."""
        rng = np.random.default_rng([self.run.seed, clock.step])
        images, geometry, depth = self._batch(self._clips, self.run.batch, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        images = harmed(images.cpu(), self.run.degrade, generator).to(images.device)
        loss, told = self._forward(images, geometry, depth)
        return loss, {"loss": float(loss.detach()), "agree": agreement(told.detach(), depth)}

    def _losses(self, images: Tensor, geometry: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        with fast_autocast(images.device.type):
            told = self.model(images, geometry)
        # Medians, not means: between a house and the sky there is nothing.
        return (told - depth).abs().mean(), told

    @torch.no_grad()
    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, clock: RunClock) -> dict[str, float]:
        """See `Task.evaluate`."""
        model, (images, geometry, depth) = self._averaged(weights), self._judged
        with fast_autocast(images.device.type):
            told = model(images, geometry)
        rows = (images, _grey(depth, images), _grey(told, images))
        shown = torch.stack([row[:SHOWN] for row in rows])
        write_mosaic(folder / f"sample_{clock.step:06d}.png", shown.movedim(2, -1))
        return {
            "held_out_error": float((told - depth).abs().mean()),
            "held_out_agree": agreement(told, depth),
            "ground_agree": agreement(geometry[:, -1], depth),
        }

    def export(self, weights: Mapping[str, Tensor], path: Path, notes: Mapping[str, Any]) -> None:
        """See `Task.export`."""
        save_checkpoint(path, self.run.depth, self._averaged(weights).state_dict(), notes)

    def _averaged(self, weights: Mapping[str, Tensor]) -> DepthNet:
        model = DepthNet(self.run.depth).to(self.run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.load_state_dict(dict(weights))
        return model.eval()

    def _batch(
        self, clips: Sequence[Clip], count: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images [N, 3, H, W] in [0, 1], camera geometry [N, GEOMETRY, h, w], log depth [N, h, w]."""
        rows = [_draw(clips[int(rng.integers(len(clips)))], self.run.made_share, rng) for _ in range(count)]
        images, geometry, depth = (torch.stack(part).to(self.run.device) for part in zip(*rows, strict=True))
        return images, geometry, depth


def _draw(clip: Clip, made_share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One picture of one camera, as rendered or after the tokeniser; mirrored or not."""
    arrays = clip.arrays
    assert arrays.frames is not None, "expected clips with frames"
    assert arrays.history is not None, "expected encoded clips"
    view = int(rng.integers(arrays.frames.shape[1]))
    if rng.random() < made_share:
        boundary = int(rng.integers(len(arrays.history)))
        index, image = FRAMES * boundary, arrays.history[boundary, view]
    else:
        index = int(rng.integers(len(arrays.frames)))
        image = arrays.frames[index, view].transpose(2, 0, 1)
    row = (
        torch.from_numpy(image.copy()).float() / 255,
        camera_geometry(clip.cameras)[view],
        log_depth(torch.from_numpy(arrays.depth[index, view].copy())),
    )
    return mirrored(*row) if rng.random() < 0.5 else row


def mirrored(image: Tensor, geometry: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same place with left and right exchanged."""
    image, geometry, depth = image.flip(-1), geometry.flip(-1), depth.flip(-1)
    geometry[1] = -geometry[1]
    return image, geometry, depth


def harmed(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Pictures [N, 3, H, W] as rollouts leave them, a share of them: shifted in colour, and soft over several pixels."""

    def drawn(*size: int) -> Tensor:
        return torch.rand(len(images), *size, generator=generator)

    chosen = (drawn(1, 1, 1) < share).to(images.dtype)
    gain = 1 + GAIN * chosen * (drawn(3, 1, 1) - 0.5)
    soft = F.interpolate(F.avg_pool2d(images, 4), scale_factor=4, mode="bilinear")
    return torch.lerp(images, soft, chosen * drawn(1, 1, 1) ** 2).mul(gain).clamp(0, 1)


def agreement(told: Tensor, depth: Tensor) -> float:
    """Share of cells where two log depths agree as re-projection asks for."""
    return float(agree((-told).exp(), depth.exp()).float().mean())


def _grey(log_metres: Tensor, like: Tensor) -> Tensor:
    """Depth [N, h, w] as pictures of the size of others, [N, 3, H, W]: black is near."""
    grey = (log_metres - log(NEAR_M)) / log(FAR_M / NEAR_M)
    return F.interpolate(grey[:, None], like.shape[-2:]).expand_as(like)
