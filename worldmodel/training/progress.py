"""How far a run is, what it says, and how it survives being killed."""

import csv
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import RunConfig
from .optimizer import Ema, Optimizers

STATE_FILE = "state.safetensors"
_SCALE = 1000  # ticks of the progress bar


class RunClock:
    """Steps and seconds of a run, over all its resumptions."""

    def __init__(self, run: RunConfig) -> None:
        self.run = run
        self.step = 0
        self._before_s = 0.0
        self._start_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, earlier sittings included."""
        return self._before_s + time.monotonic() - self._start_s

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        shares = [0.0]
        if self.run.steps is not None:
            shares.append(self.step / self.run.steps)
        if self.run.minutes is not None:
            shares.append(self.elapsed_s / (60 * self.run.minutes))
        return min(max(shares), 1.0)

    @property
    def over(self) -> bool:
        """Whether the run has reached its end."""
        return self.progress >= 1.0

    def resume(self, step: int, elapsed_s: float) -> None:
        """Continue where a checkpoint was taken."""
        self.step, self._before_s, self._start_s = step, elapsed_s, time.monotonic()


class RunLog:
    """A CSV line per report, TensorBoard where asked for, and a progress bar with the time that is left."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self._path = folder / "log.csv"
        self._columns = _existing_columns(self._path)
        self._board = _board(folder) if tensorboard else None
        self.console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=_SCALE)

    def __enter__(self) -> "RunLog":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._board is not None:
            self._board.close()

    def report(self, clock: RunClock, values: Mapping[str, float]) -> None:
        """Write one line of numbers and move the bar."""
        row = {"step": clock.step, "minutes": round(clock.elapsed_s / 60, 3), **values}
        self._append(row)
        text = "  ".join(f"{name} {_short(value)}" for name, value in row.items())
        self._bar.update(self._task, completed=int(_SCALE * clock.progress), description=f"step {clock.step}")
        self.console.print(text, highlight=False)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, clock.step)

    def _append(self, row: Mapping[str, float]) -> None:
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            _rewrite(self._path, self._columns)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)


def save_state(folder: Path, clock: RunClock, model: nn.Module, ema: Ema, optimizers: Optimizers) -> None:
    """Everything that a run needs to go on, in one file that is replaced whole."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors[f"model/{name}"] = tensor
    for name, tensor in ema.weights.items():
        tensors[f"ema/{name}"] = tensor
    for part, optimizer in optimizers.parts.items():
        for index, moments in optimizer.state_dict()["state"].items():
            for name, tensor in moments.items():
                tensors[f"{part}/{index}/{name}"] = tensor
    meta = {"step": clock.step, "elapsed_s": clock.elapsed_s, "ema_updates": ema.updates}
    partial = folder / (STATE_FILE + ".partial")
    save_file(
        {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()},
        partial,
        {"run": json.dumps(meta)},
    )
    os.replace(partial, folder / STATE_FILE)


def load_state(folder: Path, clock: RunClock, model: nn.Module, ema: Ema, optimizers: Optimizers) -> bool:
    """Put back what `save_state` wrote. False where there is nothing to resume."""
    path = folder / STATE_FILE
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()["run"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    model.load_state_dict(_part(tensors, "model/"))
    for name, tensor in _part(tensors, "ema/").items():
        ema.weights[name].copy_(tensor)
    ema.updates = meta["ema_updates"]
    for part, optimizer in optimizers.parts.items():
        moments: dict[int, dict[str, Any]] = {}
        for name, tensor in _part(tensors, f"{part}/").items():
            index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    clock.resume(meta["step"], meta["elapsed_s"])
    return True


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _existing_columns(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def _rewrite(path: Path, columns: list[str]) -> None:
    """Give the file a new header; earlier rows keep their values."""
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _board(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def _short(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
