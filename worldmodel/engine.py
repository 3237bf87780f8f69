"""The engine contract: whatever turns (scene, actions) into frames, one chunk at a time.

Axis legend of the project: B sessions, V views (cameras), T latent frames, F frames of a chunk, N tokens,
C channels, H/W pixels, S denoising steps, L blocks.

`ReferenceEngine` and `DiffusionEngine` implement `WorldEngine`; `tests/conformance` holds them to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import ActionError, EngineError, UnknownSessionError
from .scene.actions import ActionChunk, ActionSpaceName
from .scene.checks import FrameChecks
from .scene.clock import CHUNK_DT_S, FPS, FRAME_DT_S, FRAMES_PER_CHUNK
from .scene.outcome import Outcome
from .scene.path import ReferencePath
from .scene.state import Atmosphere, SceneFrame, TimeOfDay, Weather
from .scene.world import StaticWorld

__all__ = [
    "CHUNK_DT_S",
    "FPS",
    "FRAMES_PER_CHUNK",
    "FRAME_DT_S",
    "ActionChunk",
    "ActionError",
    "ActionSpaceName",
    "ChunkResult",
    "EngineError",
    "OpenRequest",
    "Outcome",
    "SessionId",
    "SessionOptions",
    "Surroundings",
    "UnknownSessionError",
    "WorldEngine",
]

SessionId = int


@dataclass(frozen=True)
class SessionOptions:
    """Choices made when a session is opened. Every engine accepts every field and refuses what it cannot honour."""

    cameras: tuple[str, ...] | None = None  # a subset of the rig, in this order; None is all
    steps: int | None = None  # denoising steps; None is the model's own
    tier: str = "exact"  # X-Cache quality tier
    layout: bool = True  # condition on the layout
    size: tuple[int, int] | None = (
        None  # rows and columns of the frames; None is the rig's, or the model's own
    )
    weather: Weather | None = None  # None: as the scenario and the seed decide
    time_of_day: TimeOfDay | None = None


@dataclass(frozen=True)
class OpenRequest:
    """Open one session. `scenario` and `rig` are names of presets or paths of YAML files."""

    scenario: str
    rig: str = "surround7"
    seed: int = 0
    options: SessionOptions = field(default_factory=SessionOptions)
    # First images by camera, uint8 [H, W, 3] RGB of any size, taken by the rig's cameras; None: rendered.
    images: Mapping[str, np.ndarray] | None = field(default=None, compare=False)


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
    free_drive_m: tuple[float, ...] = ()  # opening only: `scores.free_drive_by_frame` until the time limit


@dataclass(frozen=True)
class Surroundings:
    """What stays the same in a session's world while it is driven."""

    world: StaticWorld
    path: ReferencePath  # the route that the ego is asked to follow
    atmosphere: Atmosphere


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

    def flush(self) -> int:
        """Do what earlier chunks left for later, such as KV-update passes. Call it when nobody waits for a reply.

        Optional: a call that needs the result does the work itself, so neither frames nor snapshots depend on it.
        Returns how many sessions something was done for; engines that leave nothing for later do nothing.
        """
        return 0

    @property
    def model_name(self) -> str:
        """Which model makes the pictures; engines without one are their own."""
        return self.name

    @property
    def tiers(self) -> tuple[str, ...]:
        """The X-Cache tiers that sessions may have, the most exact first."""
        return ("exact",)

    def surroundings(self, session: SessionId) -> Surroundings:
        """The map, route and weather of a session.

        Raises:
            EngineError: an engine whose worlds have no map. UnknownSessionError: not open.
        """
        raise EngineError(f"expected an engine whose worlds have a map, got {self.name}")

    def set_tier(self, session: SessionId, tier: str) -> None:
        """Change the X-Cache tier of a session, from its next chunk on. Engines without a cache have `exact` alone.

        Raises:
            EngineError: a tier that there is not; the message has those that there are. UnknownSessionError: not open.
        """
        if session not in self.sessions:
            raise UnknownSessionError(f"expected an open session of {list(self.sessions)}, got {session}")
        if tier != "exact":
            raise EngineError(f"expected tier 'exact' with an engine without a cache, got {tier!r}")

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
