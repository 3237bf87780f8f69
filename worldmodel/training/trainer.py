"""The training loop: the same for tokeniser and dynamics, on CPU and CUDA, killable at any moment."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .config import RunConfig, run_folder
from .optimizer import Ema, Optimizers, build_optimizers, learning_rate
from .progress import RunClock, RunLog, load_state, save_state

WEIGHTS_FILE = "weights.safetensors"
MAX_BAD_STEPS = 20


class TrainingError(RuntimeError):
    """A run that cannot go on; its last checkpoint stands."""


class Task(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module:
        """The network whose parameters are trained."""
        ...

    def loss(self, clock: RunClock) -> tuple[Tensor, dict[str, float]]:
        """Loss of a fresh batch, and numbers worth logging."""
        ...

    def evaluate(self, weights: Mapping[str, Tensor], folder: Path, clock: RunClock) -> dict[str, float]:
        """Judge averaged weights on held-out clips and write sample pictures."""
        ...

    def export(self, weights: Mapping[str, Tensor], path: Path, notes: Mapping[str, Any]) -> None:
        """Write averaged weights as a checkpoint."""
        ...


def train(task: Task, run: RunConfig, resume: bool = False) -> Path:
    """Train to the end of the run.

    Args:
        task: model, data and loss.
        run: how long, how fast, where to.
        resume: go on from the last checkpoint in the run's folder, if there is one.

    Returns:
        The checkpoint with the averaged weights.

    Raises:
        TrainingError: the loss is not finite many times in a row.
    """
    folder = run_folder(run)
    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    model = task.model
    ema, optimizers = Ema.of(model, run.optimizer.ema_decay), build_optimizers(model, run.optimizer)
    clock = RunClock(run)
    if resume:
        load_state(folder, clock, model, ema, optimizers)

    def keep() -> None:
        save_state(folder, clock, model, ema, optimizers)
        task.export(ema.weights, folder / WEIGHTS_FILE, _notes(run, clock))

    saved = sampled = clock.elapsed_s
    bad = 0
    with RunLog(folder, run.tensorboard) as log:
        timer, timed_step = time.monotonic(), clock.step
        while not clock.over:
            finite, numbers = _step(task, run, clock, optimizers)
            bad = 0 if finite else bad + 1
            if bad > MAX_BAD_STEPS:
                raise TrainingError(
                    f"expected a finite loss, got none for {bad} steps up to step {clock.step}"
                )
            ema.update(model)
            clock.step += 1
            if clock.step % run.log_every == 0:
                speed = (clock.step - timed_step) / (time.monotonic() - timer)
                timer, timed_step = time.monotonic(), clock.step
                log.report(clock, {**numbers, "steps_per_s": speed})
            if clock.elapsed_s - saved > 60 * run.checkpoint_minutes:
                saved = clock.elapsed_s
                keep()
            if clock.elapsed_s - sampled > 60 * run.sample_minutes:
                sampled = clock.elapsed_s
                log.report(clock, task.evaluate(ema.weights, folder, clock))
        keep()
        log.report(clock, task.evaluate(ema.weights, folder, clock))
    return folder / WEIGHTS_FILE


def _step(
    task: Task, run: RunConfig, clock: RunClock, optimizers: Optimizers
) -> tuple[bool, dict[str, float]]:
    """One update; skipped where loss or gradient is not finite."""
    rate = learning_rate(run.optimizer, clock.step, clock.progress)
    optimizers.set_rate(rate)
    optimizers.zero_grad()
    loss, numbers = task.loss(clock)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(task.model.parameters(), run.optimizer.clip_norm)
    finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(loss))
    if finite:
        optimizers.step()
    return finite, {**numbers, "gradient_norm": float(norm), "learning_rate": rate}


def _notes(run: RunConfig, clock: RunClock) -> dict[str, Any]:
    """What the checkpoint says about its making."""
    return {"steps": clock.step, "hours": round(clock.elapsed_s / 3600, 3), "run": asdict(run)}
