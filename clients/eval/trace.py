"""What is kept of a rollout: everything that scores, reports and exports need, frame by frame, without the pictures.

A trace is one `.npz` file without pickle: columns as arrays, and a JSON text with what is said once. `clients.eval.scores` reads nothing else,
so that a rollout can be scored again, by other formulas, without driving it again.
"""

import copy
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RoadloopError
from ..observation import Observation, StepResult
from ..policies import PastAction
from ..protocol.replies import AGENT_COLUMNS, EGO_COLUMNS
from ..protocol.requests import ActionSpaceName

FORMAT = 1
NOBODY, STATIC = (
    -2,
    -1,
)  # in `collision_with`: no contact, and buildings, trees, poles; otherwise an agent's id
AGENT_KINDS = ("car", "van", "truck", "bus", "pedestrian", "cyclist")
FRAME_COLUMNS = (
    "off_road",
    "wrong_way",
    "red_light",
    "collision_at_fault",
    "ttc_s",
    "lane_offset_m",
    "heading_error_rad",
    "route_progress_m",
    "route_completion",
    "speed_limit_mps",
    "time_s",
)
_FLAGS = FRAME_COLUMNS[:4]


class TraceError(RoadloopError, ValueError):
    """A file that is not a trace, or one of another version."""


@dataclass
class Trace:
    """N frames from the opening one on, C chunks, M agent rows of C + 1 moments."""

    about: dict[str, Any]  # scenario, seed, outcome, reason, dt_s, space, ...
    ego: np.ndarray  # float64 [N, 7], EGO_COLUMNS
    frames: Mapping[str, np.ndarray]  # FRAME_COLUMNS -> bool or float64 [N]
    collision_with: np.ndarray  # int64 [N]
    collision_kind: np.ndarray  # int8 [N], index into AGENT_KINDS; -1 otherwise
    free_drive_m: np.ndarray  # float64 [K]: progress expected by each frame
    actions: np.ndarray  # float32 [C, F, A]
    reward: np.ndarray  # float64 [C]
    policy_ms: np.ndarray  # float64 [C]: how long the policy thought
    step_ms: np.ndarray  # float64 [C]: from the request to its reply
    skip: np.ndarray  # float64 [C]: share of blocks that the cache skipped; NaN where there is none
    agents: np.ndarray  # float32 [M, 8], AGENT_COLUMNS
    agent_kind: np.ndarray  # int8 [M], index into AGENT_KINDS
    agents_from: np.ndarray  # int64 [C + 2]: rows of moment c are agents_from[c] to agents_from[c + 1]

    def ego_column(self, name: str) -> np.ndarray:
        """float64 [N]."""
        return np.asarray(self.ego[:, EGO_COLUMNS.index(name)])

    @property
    def dt_s(self) -> float:
        """Between frames."""
        return float(self.about["dt_s"])

    @property
    def duration_s(self) -> float:
        """Of the rollout."""
        return (len(self.ego) - 1) * self.dt_s

    def agents_at(self, moment: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and kinds of the agents at the last frame of chunk `moment - 1`; 0 is the opening frame."""
        rows = slice(int(self.agents_from[moment]), int(self.agents_from[moment + 1]))
        return self.agents[rows], self.agent_kind[rows]

    def save(self, path: Path) -> None:
        """Write the file as a whole or not at all."""
        columns = {f"frame_{name}": values for name, values in self.frames.items()}
        columns |= {each.name: getattr(self, each.name) for each in fields(self)[3:]} | {"ego": self.ego}
        about = np.frombuffer(json.dumps({"format": FORMAT, **self.about}).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=about, **columns)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """Read a file.

        Raises:
            TraceError: missing, cut, or of another version.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                data = {name: file[name] for name in file.files}
            about = json.loads(data.pop("about").tobytes())
            if (version := about.pop("format", None)) != FORMAT:
                raise TraceError(f"{path}: expected a trace of format {FORMAT}, got {version}")
            frames = {name: data.pop(f"frame_{name}") for name in FRAME_COLUMNS}
            return cls(about=about, frames=frames, **data)
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise TraceError(f"{path}: expected a trace, got {error}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that whoever reads it sees the old bytes or the new ones, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@dataclass
class TraceRecorder:
    """Collects a trace while it is driven. `fork` gives the recorder of a branch.

    Args:
        opening: the observation after the reset.
        about: what is said once.
        keep_pictures: also keep the observations, for videos and logs.
    """

    opening: Observation
    about: dict[str, Any]
    keep_pictures: bool = False
    past: list[PastAction] = field(default_factory=list)
    pictures: list[Observation] = field(default_factory=list, repr=False)
    _seen: list[Observation] = field(default_factory=list, repr=False)  # without their pictures
    _ms: list[tuple[float, float]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._keep(self.opening)

    @property
    def chunks(self) -> int:
        """Driven so far."""
        return len(self.past)

    def add(
        self,
        space: ActionSpaceName,
        actions: np.ndarray,
        result: StepResult,
        policy_ms: float,
        step_ms: float,
    ) -> None:
        """Append a chunk."""
        self.past.append(PastAction(space, actions))
        self._ms.append((policy_ms, step_ms))
        self._keep(result)

    def fork(self, **about: Any) -> "TraceRecorder":
        """A recorder that shares what was and goes on by itself."""
        branch = copy.copy(self)
        branch.about = {**self.about, **about}
        branch.past, branch.pictures = list(self.past), list(self.pictures)
        branch._seen, branch._ms = list(self._seen), list(self._ms)
        return branch

    def trace(self) -> Trace:
        """What was collected."""
        seen, results = self._seen, [each for each in self._seen if isinstance(each, StepResult)]
        last = results[-1] if results else None
        about = {"outcome": getattr(last, "outcome", "running"), "reason": getattr(last, "reason", "")}
        width = max((action.values.shape[1] for action in self.past), default=2)
        rows = [np.pad(a.values, ((0, 0), (0, width - a.values.shape[1]))) for a in self.past]
        collided, kinds = _contacts(seen)
        ms = np.array(self._ms, np.float64).reshape(-1, 2)
        counts = [len(each.agents) for each in seen]
        return Trace(
            about={**self.about, **about, "spaces": [action.space for action in self.past]},
            ego=np.concatenate([each.ego_frames for each in seen]),
            frames={name: _column(seen, name) for name in FRAME_COLUMNS},
            collision_with=collided,
            collision_kind=kinds,
            free_drive_m=_free_drive(self.opening),
            actions=np.array(rows, np.float32).reshape(len(rows), -1, width),
            reward=np.array([result.reward for result in results], np.float64),
            policy_ms=ms[:, 0],
            step_ms=ms[:, 1],
            skip=np.array([_skip(result) for result in results], np.float64),
            agents=np.concatenate([each.agents.reshape(-1, len(AGENT_COLUMNS)) for each in seen]),
            agent_kind=np.array(
                [AGENT_KINDS.index(kind) for each in seen for kind in each.agent_kinds], np.int8
            ),
            agents_from=np.cumsum([0, *counts]),
        )

    def _keep(self, seen: Observation) -> None:
        if self.keep_pictures:
            self.pictures.append(seen)
        self._seen.append(replace(seen, frames={}))


def _column(seen: Sequence[Observation], name: str) -> np.ndarray:
    dtype = bool if name in _FLAGS else np.float64
    return np.concatenate([np.asarray(each.metrics[name], dtype) for each in seen])


def _contacts(seen: Sequence[Observation]) -> tuple[np.ndarray, np.ndarray]:
    """With whom, and of what kind: int64 [N], int8 [N]. Agents are known from their chunk or the one before."""
    ids: list[int] = []
    kinds: list[int] = []
    known: dict[int, int] = {}
    for each in seen:
        names = np.asarray(each.agents)[:, 0].astype(int).tolist() if len(each.agents) else []
        known |= dict(zip(names, (AGENT_KINDS.index(kind) for kind in each.agent_kinds), strict=True))
        for other in each.metrics["collision_with"]:
            ids.append(NOBODY if other is None else int(other))
            kinds.append(-1 if other in (None, STATIC) else known[int(other)])
    return np.array(ids, np.int64), np.array(kinds, np.int8)


def _free_drive(opening: Observation) -> np.ndarray:
    if "free_drive_m" not in opening.metrics:
        raise TraceError("expected a server that tells free_drive_m with the opening frame, got an older one")
    return np.array(opening.metrics["free_drive_m"], np.float64)


def _skip(result: StepResult) -> float:
    share = None if result.cache is None else getattr(result.cache, "skip", None)
    return float("nan") if share is None else float(share)
