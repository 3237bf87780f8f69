"""The engine contract: whatever turns (scene, actions) into frames, one chunk at a time.

Axis legend of the project: B sessions, V views (cameras), T latent frames, F frames of a chunk, N tokens,
C channels, H/W pixels, S denoising steps, L blocks.

`ReferenceEngine` and `DiffusionEngine` implement `WorldEngine`; `tests/conformance` holds them to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .scene.checks import FrameChecks
from .scene.state import SceneFrame

FPS = 12
FRAMES_PER_CHUNK = 4
FRAME_DT_S = 1.0 / FPS
CHUNK_DT_S = FRAMES_PER_CHUNK / FPS

ActionSpaceName = Literal["controls", "trajectory", "pose_delta"]
Outcome = Literal["running", "success", "failure", "timeout"]

SessionId = int


class EngineError(Exception):
    """Something that the engine refuses or that failed; the session is as it was before the call."""


class ActionError(EngineError, ValueError):
    """An action of the wrong shape, dtype or range. The message reads *expected X, got Y*."""


class UnknownSessionError(EngineError, KeyError):
    """A session id that is not open."""


@dataclass(frozen=True)
class ActionChunk:
    """The ego command for one chunk.

    `values` is float32 [F, A], one row per frame:
    `controls`: steering angle [rad, left positive], acceleration [m/s^2];
    `trajectory`: x [m], y [m], yaw [rad] in the ego frame at the start of the chunk, at the end of each frame;
    `pose_delta`: dx [m], dy [m], dyaw [rad] from frame to frame, in the frame of the earlier one.
    """

    space: ActionSpaceName
    values: np.ndarray


@dataclass(frozen=True)
class SessionOptions:
    """Choices made when a session is opened. Every engine accepts every field and refuses what it cannot honour."""

    cameras: tuple[str, ...] | None = None  # a subset of the rig, in this order; None is all
    steps: int | None = None  # denoising steps; None is the model's own
    tier: str = "exact"  # X-Cache quality tier
    layout: bool = True  # condition on the layout


@dataclass(frozen=True)
class OpenRequest:
    """Open one session. `scenario` and `rig` are names of presets or paths of YAML files."""

    scenario: str
    rig: str = "surround7"
    seed: int = 0
    options: SessionOptions = field(default_factory=SessionOptions)


@dataclass(frozen=True)
class ChunkResult:
    """What one step made. The opening result (chunk -1) has the first frame only: F = 1."""

    session: SessionId
    chunk: int
    frames: np.ndarray  # uint8 [V, F, H, W, 3] RGB; a list of differing camera sizes is refused at open
    states: tuple[SceneFrame, ...]  # F of them: the world after each frame
    checks: tuple[FrameChecks, ...]  # F of them
    outcome: Outcome = "running"
    reason: str = ""  # why the outcome: "goal", "collision", "off_road", "time_limit", ...
    timings_ms: Mapping[str, float] = field(default_factory=dict)  # scene, condition, denoise, decode, ...
    cache: Mapping[str, Any] | None = None  # X-Cache telemetry of this chunk, where there is any


class WorldEngine(ABC):
    """A batch of running worlds. Not thread-safe: one owner calls it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """`reference` or `worldmodel`."""

    @abstractmethod
    def open(self, request: OpenRequest) -> ChunkResult:
        """Start a session and render its first frame. The id is in the result.

        Raises:
            EngineError: unknown scenario or rig, impossible camera, option that this engine cannot honour.
        """

    @abstractmethod
    def step(self, actions: Mapping[SessionId, ActionChunk]) -> dict[SessionId, ChunkResult | EngineError]:
        """Advance the named sessions by one chunk, as one batch where shapes agree.

        Each session's result is independent of which others are in the batch. A session whose action is refused or
        whose chunk fails gets its error as a value and stays exactly as it was; the others go on.
        """

    @abstractmethod
    def snapshot(self, session: SessionId) -> bytes:
        """The whole state at this chunk boundary, self-contained and portable between processes (no pickle)."""

    @abstractmethod
    def restore(self, snapshot: bytes) -> SessionId:
        """Open a new session from a snapshot.

        Raises:
            EngineError: bytes that are truncated, corrupt or of another engine, model or version.
        """

    @abstractmethod
    def fork(self, session: SessionId, count: int = 1) -> list[SessionId]:
        """Open `count` copies; original and copies share nothing that a step writes."""

    @abstractmethod
    def close(self, session: SessionId) -> None:
        """Free a session. Raises UnknownSessionError if it is not open."""

    @property
    @abstractmethod
    def sessions(self) -> Sequence[SessionId]:
        """Ids of the open sessions, oldest first."""
