"""What the front end and a worker say to each other: tiny messages grouped by receiver, msgpack, one version.

Both ends are our own processes on a private socket; the version guards against mixed installations. `req` pairs an
answer with its request.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from clients.protocol import pack, unpack

WORKER_PROTOCOL = 5
MAX_BYTES = 1 << 30  # a snapshot of a large model is the largest message


# To a worker --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenWork:
    """Start (or start again) a session's world."""

    req: int
    session: str
    scenario: str
    rig: str
    seed: int
    options: dict[str, Any]
    encoding: str


@dataclass(frozen=True)
class StepWork:
    """Run one chunk. It fails unrun if it cannot begin within `wait_ms` of `sent_s` (this machine's monotonic clock)."""

    req: int
    session: str
    space: str
    actions: np.ndarray  # float32 [F, A]
    sent_s: float
    wait_ms: float | None = None
    video: list[str] = field(default_factory=list)  # cameras that somebody watches as a video stream
    video_key: bool = False  # ... and somebody has to start with this chunk
    newest: int | None = None  # how many of each camera's newest frames to encode as pictures; None is all


@dataclass(frozen=True)
class SnapshotWork:
    """Give the state as bytes."""

    req: int
    session: str


@dataclass(frozen=True)
class RestoreWork:
    """Open the session from a snapshot, in place of its world if it has one."""

    req: int
    session: str
    state: bytes
    encoding: str
    cameras: list[str]


@dataclass(frozen=True)
class ForkWork:
    """Copy a session under new names."""

    req: int
    session: str
    copies: list[str]


@dataclass(frozen=True)
class TierWork:
    """Change the cache tier of a session."""

    req: int
    session: str
    tier: str


@dataclass(frozen=True)
class MapWork:
    """Give the map of a session's world."""

    req: int
    session: str


@dataclass(frozen=True)
class CloseWork:
    """Free a session; unknown ones are fine."""

    req: int
    session: str


@dataclass(frozen=True)
class StopWork:
    """Finish and exit."""

    req: int


# To the front end ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The engine is loaded. Also what clients learn about it."""

    version: int
    worker: str
    pid: int
    engine: str
    model: str
    model_digest: str
    determinism: str
    frames_per_chunk: int
    dt_us: int
    action_spaces: list[dict[str, Any]]
    tiers: list[str]
    weathers: list[str]
    times_of_day: list[str]
    scenarios: list[dict[str, Any]]  # name, title, group, ...: fields of rest.ScenarioView
    rigs: dict[str, list[dict[str, Any]]]  # name -> cameras
    default_rig: str


@dataclass(frozen=True)
class Unfit:
    """The engine cannot be built as it is configured: starting the worker again would not help."""

    worker: str
    reason: str


@dataclass(frozen=True)
class Heartbeat:
    """The worker's process is alive; sent by a thread of its own."""

    worker: str
    sessions: int
    memory_bytes: int


@dataclass(frozen=True)
class Chunk:
    """A world's newest chunk, encoded: answers OpenWork and StepWork."""

    req: int
    cameras: list[dict[str, Any]]  # of an opening; empty after
    frames: dict[str, list[bytes]]
    ego: np.ndarray
    agents: np.ndarray
    agent_kinds: list[str]
    metrics: dict[str, Any]
    outcome: str
    reason: str
    cache: dict[str, Any] | None
    timing: dict[str, float] = field(default_factory=dict)
    batch: int = 1


@dataclass(frozen=True)
class Video:
    """The video streams of a chunk, some time after the Chunk itself."""

    session: str
    chunk: int
    units: dict[str, list[bytes]]  # camera -> an H.264 access unit per frame
    key: bool  # every stream starts with a keyframe


@dataclass(frozen=True)
class State:
    """Answers SnapshotWork."""

    req: int
    state: bytes


@dataclass(frozen=True)
class Map:
    """Answers MapWork: fields of clients.protocol.LaneMap, session aside."""

    req: int
    map: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """Answers RestoreWork, ForkWork, TierWork, CloseWork, StopWork."""

    req: int


@dataclass(frozen=True)
class Failed:
    """Any work that was refused or failed; the session is as it was."""

    req: int
    code: str
    message: str


TO_WORKER = (
    OpenWork,
    StepWork,
    SnapshotWork,
    RestoreWork,
    ForkWork,
    TierWork,
    MapWork,
    CloseWork,
    StopWork,
)
TO_FRONT_END = (Ready, Unfit, Heartbeat, Chunk, Video, State, Map, Done, Failed)
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*TO_WORKER, *TO_FRONT_END)}
FIELDS = {name: {item.name for item in fields(kind)} for name, kind in KINDS.items()}


def to_bytes(message: Any) -> bytes:
    """One message as bytes."""
    return pack({"kind": type(message).__name__, **vars(message)})


def from_bytes(data: bytes | memoryview) -> Any:
    """The message in these bytes.

    Raises:
        ValueError: not one of this version's messages.
    """
    values = unpack(data, MAX_BYTES)
    kind = values.pop("kind", "")
    if FIELDS.get(kind) != values.keys():
        raise ValueError(
            f"expected a worker message of version {WORKER_PROTOCOL}, got fields {sorted(values)}"
        )
    return KINDS[kind](**values)
