"""Behaviour cloning: the network learns to answer as the expert does, wherever the recorded drives have been."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .lessons import Lessons
from .network import OF_THE_LANE
from .torch_network import TorchNetwork

GREY, BLURRED_SHARE = 110.0, 0.6


@dataclass(frozen=True)
class CloneConfig:
    """How to learn. The defaults take a few minutes on one core with ten thousand lessons."""

    epochs: float = 12.0
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    untold_share: float = 0.5  # of moments in which it is not told where the lane is, and must see it
    braking_weight: float = 3.0  # of moments in which the expert brakes: rare, and what matters
    haste_weight: float = 4.0  # of going faster than the expert would: in doubt, brake
    stages: Sequence[float] = (
        0.03,
        0.1,
        0.3,
    )  # shares of the training after which a checkpoint is kept as well
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far it has come."""

    share: float  # of the training
    loss: float  # of the lessons since the last report
    across_mps2: float  # mean absolute errors on the lessons that are not learnt from
    along_mps2: float
    seconds: float


def clone(
    lessons: Lessons,
    out: Path,
    config: CloneConfig | None = None,
    start: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Learn; the result does not depend on how many threads there are by more than rounding.

    Args:
        lessons: of these every tenth episode is tested on.
        out: folder for `vision.safetensors`, and `vision-003.safetensors` and so on for the stages (per cent).
        config: how.
        start: weights to begin with; None begins with random ones.
        report: called after every stage and at the end.

    Returns:
        The last report.

    Raises:
        WeightsError: no weights at `start`.
    """
    config = config or CloneConfig()
    torch.manual_seed(config.seed)
    network, (learnt, tested) = TorchNetwork(), lessons.split()
    if start is not None:
        network.load(start)
    steps = max(1, round(config.epochs * len(learnt) / config.batch))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step / steps))
    names = {max(1, round(share * steps)): f"vision-{round(100 * share):03d}" for share in config.stages}
    names[steps] = "vision"
    out.mkdir(parents=True, exist_ok=True)
    began_s, losses = time.perf_counter(), []
    progress = Progress(0.0, 0.0, 0.0, 0.0, 0.0)
    for step, batch in enumerate(_batches(learnt, config, steps), 1):
        loss = _loss(network, batch, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if name := names.get(step):
            network.save(out / f"{name}.safetensors")
            errors = error_of(network, tested)
            progress = Progress(step / steps, float(np.mean(losses)), *errors, time.perf_counter() - began_s)
            report(progress)
            losses.clear()
    return progress


def error_of(network: TorchNetwork, lessons: Lessons) -> tuple[float, float]:
    """Mean absolute errors of the accelerations to the left and forwards [m/s^2]."""
    with torch.no_grad():
        parts = [
            network(*_tensors(lessons.take(range(k, min(k + 256, len(lessons)))))[:2])
            for k in range(0, len(lessons), 256)
        ]
    across, along = np.abs(torch.cat(parts).numpy() - lessons.accelerations).mean(axis=0).tolist()
    return across, along


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Other light, other colours, blur and noise, differently for each moment: a world model's pictures are not a renderer's.

    Args:
        images: uint8 [B, V, 2, H, W, 3].
        generator: decides how.

    Returns:
        float32 of the same shape, about 0..255.
    """

    each, colour = (len(images), 1, 1, 1, 1, 1), (len(images), 1, 1, 1, 1, 3)

    def draw(shape: tuple[int, ...], scale: float) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    values = images.float()
    soft = torch.rand(len(images), generator=generator) < BLURRED_SHARE
    values[soft] = torch.lerp(
        values[soft], _blurred(values[soft]), torch.rand((), generator=generator).item()
    )
    gain = (1.0 + draw(each, 0.15)) * (1.0 + draw(colour, 0.06))
    contrast = 1.0 + draw(each, 0.15)
    noise = draw((1, *images.shape[1:]), 1.0)  # one pattern for all: drawing it is what takes longest
    level = 10.0 * torch.rand(each, generator=generator)
    return torch.addcmul(GREY * gain * (1.0 - contrast), values, gain * contrast).addcmul_(level, noise)


def _blurred(values: Tensor) -> Tensor:
    """Means over 3 x 3 pixels: float32 [B, V, 2, H, W, 3]."""
    flat = values.flatten(0, 2).permute(0, 3, 1, 2)
    blurred = functional.avg_pool2d(flat, 3, stride=1, padding=1, count_include_pad=False)
    return blurred.permute(0, 2, 3, 1).reshape(values.shape)


def _batches(lessons: Lessons, config: CloneConfig, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Disturbed batches, some of them not told where the lane is, every lesson once per epoch, in another order each time."""
    order, noise = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    left = np.zeros(0, np.int64)
    for _ in range(steps):
        if len(left) < config.batch:
            left = np.concatenate([left, order.permutation(len(lessons))])
        images, numbers, wanted = _tensors(lessons.take(left[: config.batch]))
        left = left[config.batch :]
        untold = torch.rand((len(images), 1), generator=noise) < config.untold_share
        lane = torch.zeros(numbers.shape[1], dtype=torch.bool).index_fill(0, torch.tensor(OF_THE_LANE), True)
        yield disturbed(images, noise), numbers.masked_fill(untold & lane, 0.0), wanted


def _loss(network: TorchNetwork, batch: tuple[Tensor, Tensor, Tensor], config: CloneConfig) -> Tensor:
    """Huber loss of both accelerations; moments of braking count more, and so does haste.

    Where pictures leave open whether the car ahead brakes, the mean of all answers is too little for a crash: better a high quantile of caution.
    """
    images, numbers, wanted = batch
    given = network(images, numbers)
    across, along = functional.huber_loss(given, wanted, reduction="none", delta=0.5).unbind(dim=1)
    along = torch.where(given[:, 1] > wanted[:, 1], config.haste_weight, 1.0) * along
    weight = torch.where(wanted[:, 1] < -1.0, config.braking_weight, 1.0)
    return (weight * (across + along)).sum() / weight.sum()


def _tensors(lessons: Lessons) -> tuple[Tensor, Tensor, Tensor]:
    """Images, numbers, accelerations."""
    return (
        torch.from_numpy(lessons.images),
        torch.from_numpy(lessons.numbers),
        torch.from_numpy(lessons.accelerations),
    )


def _learning_rate(share: float) -> float:
    """Up over the first twentieth, then down along a cosine."""
    return min(1.0, share / 0.05 + 0.01) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
