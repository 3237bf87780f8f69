"""What the server sends: one model per message. Clients ignore unknown fields and unknown notices.

`frames` maps each camera to its F encoded images, oldest first: JPEG or PNG files, or raw RGB bytes of height x width x 3. A
driver that asked for its `newest_frames` alone gets fewer.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, WithJsonSchema

from .errors import ErrorCode
from .requests import ARRAY_SCHEMA, Encoding, HoldPolicy, Mode, ViewEncoding

Array = Annotated[InstanceOf[np.ndarray], WithJsonSchema(ARRAY_SCHEMA)]
FrameMap = dict[str, list[bytes]]

EGO_COLUMNS = ("x_m", "y_m", "yaw_rad", "speed_mps", "accel_mps2", "steering_rad", "yaw_rate_radps")
AGENT_COLUMNS = ("id", "x_m", "y_m", "yaw_rad", "speed_mps", "length_m", "width_m", "height_m")


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Camera(_Message):
    """One camera of a rig. Vehicle axes: x forward, y left, z up, origin on the ground under the rear axle."""

    name: str
    height: int
    width: int
    fx: float  # focal lengths and principal point [pixel]
    fy: float
    cx: float
    cy: float
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    group: str = ""  # front, side or rear
    model: str = "pinhole"
    distortion: list[float] = []


class ActionSpace(_Message):
    """One row of actions: its columns and their range."""

    name: str
    columns: list[str]
    low: list[float]
    high: list[float]


class SessionInfo(_Message):
    """Where one session stands. The token attaches a new socket to it."""

    session: str
    resume_token: str
    state: str  # new, ready, running, ended, recovering
    next_chunk: int


class Limits(_Message):
    """What this server accepts."""

    max_message_bytes: int
    max_sessions: int
    lease_s: float
    idle_timeout_s: float
    snapshot_bytes: int


class CacheTelemetry(_Message):
    """What X-Cache did in one chunk: arrays [S, L] over denoising steps and blocks, [S, L, R] with tiles R > 1.

    `reason` is an index into `reasons`: 0 is a skip, everything else says why the block was computed. Where there is
    nothing to tell, floats are NaN. The last six are None where an engine does not measure them.
    """

    tier: str
    reasons: list[str]
    reason: Array  # uint8: 0 where (step, block) was skipped
    skip: float | None = None  # share of skips in `reason`
    cosine: Array | None = None  # float32, least cosine of the fingerprints, of -1 .. 1
    deviation: Array | None = None  # float32, largest relative deviation of a token
    age: Array | None = None  # float32, chunks since the residual that was used was computed
    error: Array | None = None  # float32, relative error of a skip that was checked by computing it too
    gate_us: float | None = None  # time that this session's decisions took [microseconds]
    bytes: int | None = None  # memory that this session's stored residuals take

    @property
    def skipped(self) -> np.ndarray:
        """bool [S, L] or [S, L, R]: the skip matrix."""
        return np.asarray(self.reason == 0)


class Welcome(_Message):
    """Answer to hello: who the server is, and the sessions of this socket."""

    type: Literal["welcome"] = "welcome"
    id: int
    protocol_minor: int
    server: str
    capabilities: list[str]
    engine: str
    model: str
    model_digest: str
    determinism: str  # sessions are reproducible within one such class of hardware and software
    frames_per_chunk: int
    dt_us: int  # time between frames
    encoding: Encoding
    encodings: list[str]
    rig: str
    cameras: list[Camera]  # of the default rig; `started` gives those of the session
    action_spaces: list[ActionSpace]
    tiers: list[str] = ["exact"]  # of the cache, the most exact first
    weathers: list[str] = []
    times_of_day: list[str] = []
    ego_columns: list[str]
    agent_columns: list[str]
    limits: Limits
    sessions: list[SessionInfo]


class Started(_Message):
    """Answer to reset: the opening frame of every camera (F = 1) and the state at time 0."""

    type: Literal["started"] = "started"
    id: int
    session: str
    next_chunk: int
    cameras: list[Camera]
    mode: Mode
    hold_policy: HoldPolicy
    encoding: Encoding
    frames: FrameMap
    ego: Array  # float64 [F, 7], columns ego_columns
    agents: Array  # float32 [N, 8], columns agent_columns, at the last frame
    agent_kinds: list[str]
    metrics: dict[str, Any]
    timing: dict[str, float]


class Stepped(_Message):
    """Answer to step: one committed chunk."""

    type: Literal["stepped"] = "stepped"
    id: int
    session: str
    chunk: int
    encoding: Encoding
    frames: FrameMap
    ego: Array  # float64 [F, 7]
    agents: Array  # float32 [N, 8]
    agent_kinds: list[str]
    reward: float
    terminated: bool
    truncated: bool
    outcome: str
    reason: str
    metrics: dict[str, Any]  # per frame: lists of F; route totals: scalars
    cache: CacheTelemetry | None  # None: an engine without a cache, or tier exact
    timing: dict[str, float]  # milliseconds on the server's own clock
    held_chunks: int = 0  # real time: chunks run without a new action since the last reply
    action_age_ms: float = 0.0  # real time: how long the action had waited when its chunk began


class ErrorReply(_Message):
    """A refused or failed request. Without an id it concerns the socket."""

    type: Literal["error"] = "error"
    id: int | None = None
    session: str | None = None
    code: ErrorCode | str
    message: str
    retryable: bool = False
    fatal: bool = False
    details: dict[str, Any] = {}


class SteppedMany(_Message):
    """Answer to step_many: results in the order of the steps; with `stream` parts of it, in the order of readiness."""

    type: Literal["stepped_many"] = "stepped_many"
    id: int
    results: list[Annotated[Stepped | ErrorReply, Field(discriminator="type")]]
    more: bool = False  # whether other parts follow


class SnapshotTaken(_Message):
    """A handle that restore accepts until the snapshot is evicted."""

    type: Literal["snapshot_taken"] = "snapshot_taken"
    id: int
    session: str
    handle: str
    next_chunk: int
    size_bytes: int
    digest: str  # sha256 of the state


class Restored(_Message):
    """The session continues at `next_chunk`; the observation is that of the snapshot."""

    type: Literal["restored"] = "restored"
    id: int
    session: str
    next_chunk: int
    cameras: list[Camera]
    encoding: Encoding
    frames: FrameMap
    ego: Array
    agents: Array
    agent_kinds: list[str]
    metrics: dict[str, Any]


class Forked(_Message):
    """The copies, which this socket now drives; their observation is that of the original."""

    type: Literal["forked"] = "forked"
    id: int
    session: str
    sessions: list[SessionInfo]


class TierSet(_Message):
    """The session has another cache tier from `next_chunk` on."""

    type: Literal["tier_set"] = "tier_set"
    id: int
    session: str
    tier: str
    next_chunk: int


class Closed(_Message):
    """The session is gone and its slot is free."""

    type: Literal["closed"] = "closed"
    id: int
    session: str


class Notice(_Message):
    """Something that happened without a request. Clients ignore codes that they do not know."""

    type: Literal["notice"] = "notice"
    code: str
    session: str | None = None
    message: str = ""
    details: dict[str, Any] = {}


class Watching(_Message):
    """Answer to watch."""

    type: Literal["watching"] = "watching"
    id: int
    session: str
    frames_per_chunk: int
    dt_us: int
    cameras: list[Camera]


class Frames(_Message):
    """To viewers: the newest chunk. A gap in `chunk` is what the viewer was too slow for, or asked not to get."""

    type: Literal["frames"] = "frames"
    session: str
    chunk: int
    encoding: ViewEncoding  # of this message
    frames: FrameMap
    ego: Array
    agents: Array
    agent_kinds: list[str]
    metrics: dict[str, Any]
    cache: CacheTelemetry | None  # None: an engine without a cache, or tier exact
    timing: dict[str, float]
    outcome: str = "running"


Reply = Annotated[
    Welcome
    | Started
    | Stepped
    | SteppedMany
    | SnapshotTaken
    | Restored
    | Forked
    | TierSet
    | Closed
    | ErrorReply
    | Notice
    | Watching
    | Frames,
    Field(discriminator="type"),
]
