"""Actions that were decided beforehand: a schedule written by hand, or recorded rows. Nothing is looked at.

A schedule is YAML:

    space: controls            # the default
    steps:                     # each holds until the next one; times in seconds from the start
      - {at_s: 0.0, action: [0.0, 1.0]}
      - {at_s: 4.0, action: [0.05, 0.0]}

Recorded actions are CSV or Parquet with one row per frame, whose columns name the space: `steering, accel`, `x, y, yaw`, or `dx, dy, dyaw`;
with units behind an underscore (`steering_rad`) as well. Further columns are ignored.
"""

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..extras import need
from ..observation import Observation
from ..protocol.requests import ActionSpaceName
from .policy import EpisodeInfo, PolicyError

COLUMNS: dict[ActionSpaceName, tuple[tuple[str, ...], ...]] = {
    "controls": (("steering", "steering_rad"), ("accel", "accel_mps2")),
    "trajectory": (("x", "x_m"), ("y", "y_m"), ("yaw", "yaw_rad")),
    "pose_delta": (("dx", "dx_m"), ("dy", "dy_m"), ("dyaw", "dyaw_rad")),
}  # space -> for each column, what it may be called


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    at_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    action: Annotated[list[float], Field(min_length=2, max_length=3)]


class _Schedule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    space: ActionSpaceName = "controls"
    steps: Annotated[list[_Step], Field(min_length=1)]


class Schedule:
    """Actions by time.

    Args:
        path: YAML file.
        steps: the steps themselves, instead of a file.
        space: the action space of `steps`.

    Raises:
        ValueError: unknown or wrong keys, times that do not grow.
    """

    def __init__(
        self, path: str | None = None, steps: list[Any] | None = None, space: ActionSpaceName = "controls"
    ) -> None:
        values = (
            {"space": space, "steps": steps}
            if path is None
            else yaml.safe_load(Path(path).read_text("utf-8"))
        )
        try:
            schedule = _Schedule.model_validate(values)
        except ValidationError as error:
            raise ValueError(_first(error)) from None
        self.space: ActionSpaceName = schedule.space
        self._times_s = np.array([step.at_s for step in schedule.steps])
        if (np.diff(self._times_s) <= 0).any() or self._times_s[0] != 0.0:
            raise ValueError(f"expected at_s to begin with 0 and to grow, got {self._times_s.tolist()}")
        if len({len(step.action) for step in schedule.steps}) > 1:
            raise ValueError("expected actions of one length, got several")
        self._actions = np.array([step.action for step in schedule.steps], np.float32)

    def reset(self, info: EpisodeInfo) -> None:
        """Begin at time 0, also where it takes over in the middle of an episode."""
        self._frame, self._rows, self._dt_s = 0, info.frames_per_chunk, info.dt_s

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [F, A]: for each frame the step that holds when it begins."""
        begins_s = (self._frame + np.arange(self._rows)) * self._dt_s
        self._frame += self._rows
        return self._actions[np.searchsorted(self._times_s, begins_s + 1e-9, side="right") - 1]


class Replay:
    """Recorded rows, frame by frame.

    Args:
        path: CSV or Parquet file.
        after: when the rows have been used up: `error`, `repeat` the last row, or `loop`.

    Raises:
        ValueError: no columns of an action space, no rows, not numbers.
    """

    def __init__(self, path: str, after: str = "error") -> None:
        if after not in ("error", "repeat", "loop"):
            raise ValueError(f"expected after to be error, repeat or loop, got {after!r}")
        self.path, self.after = path, after
        self.space, self._actions = read_actions(path)

    def reset(self, info: EpisodeInfo) -> None:
        """Begin with the first row."""
        self._frame, self._rows = 0, info.frames_per_chunk

    def act(self, seen: Observation) -> np.ndarray:
        """float32 [F, A].

        Raises:
            PolicyError: the rows have been used up.
        """
        index, count = self._frame + np.arange(self._rows), len(self._actions)
        self._frame += self._rows
        if index[-1] >= count and self.after == "error":
            raise PolicyError(
                f"expected at least {index[-1] + 1} rows in {self.path}, got {count}; see `after`"
            )
        return self._actions[index % count if self.after == "loop" else np.minimum(index, count - 1)]


def read_actions(path: str) -> tuple[ActionSpaceName, np.ndarray]:
    """The action space of a file's columns, and the rows: float32 [N, A]."""
    table = _parquet(path) if path.endswith(".parquet") else _csv(path)
    for space, columns in COLUMNS.items():
        names = [next((name for name in choices if name in table), None) for choices in columns]
        if all(names):
            try:
                rows = np.stack([np.asarray(table[str(name)], np.float32) for name in names], axis=1)
            except ValueError as error:
                raise ValueError(f"{path}: expected numbers: {error}") from None
            if not len(rows):
                raise ValueError(f"{path}: expected at least one row, got none")
            return space, rows
    known = "; ".join(", ".join(choices[0] for choices in columns) for columns in COLUMNS.values())
    raise ValueError(f"{path}: expected the columns {known}; got {', '.join(table)}")


def _csv(path: str) -> dict[str, list[Any]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        names = list(rows[0]) if rows else []
    return {name: [row[name] for row in rows] for name in names}


def _parquet(path: str) -> dict[str, list[Any]]:
    parquet = need("pyarrow.parquet", "eval", "Parquet files")
    columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return columns


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = "at_s, action" if len(first["loc"]) > 1 else "space, steps"
        return f"expected one of {valid}, got {where!r}"
    return f"{where}: {first['msg']}"
