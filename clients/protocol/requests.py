"""What clients send: one model per message. Unknown fields are ignored, wrong ones are refused.

Every request carries `id`, echoed in its one reply. `session` may be left out while the socket drives exactly one.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, WithJsonSchema

from .version import PROTOCOL_MINOR

Encoding = Literal["jpeg", "png", "raw"]
ViewEncoding = Literal["jpeg", "png", "raw", "h264"]
ActionSpaceName = Literal["controls", "trajectory", "pose_delta"]
Mode = Literal["lockstep", "realtime"]
HoldPolicy = Literal["hold", "coast", "brake"]

Name = Annotated[str, Field(min_length=1, max_length=200)]
RequestId = Annotated[int, Field(ge=0, lt=1 << 53, strict=True)]
MAX_SESSIONS_PER_SOCKET = 256


def _as_actions(value: Any) -> np.ndarray:
    """Lists are accepted too, so that a client needs no array type."""
    try:
        with np.errstate(over="ignore"):  # becomes infinity, which is refused below
            actions = np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("expected numbers [frames, action], got something else") from None
    if actions.ndim != 2 or actions.size > 4096:
        raise ValueError(f"expected actions [frames, action], got shape {list(actions.shape)}")
    if not np.isfinite(actions).all():
        raise ValueError("expected finite actions, got NaN or infinity")
    return actions


# An array as the codec writes it: row-major, little-endian.
ARRAY_SCHEMA = {
    "type": "object",
    "title": "Array",
    "properties": {
        "__ndarray__": {"const": True},
        "dtype": {"type": "string", "pattern": "^[|<][biuf][1248]$"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 8},
        "data": {"type": "string", "format": "binary"},
    },
    "required": ["__ndarray__", "dtype", "shape", "data"],
}
ROWS_SCHEMA = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
Actions = Annotated[  # float32 [F, A]
    InstanceOf[np.ndarray],
    BeforeValidator(_as_actions),
    WithJsonSchema({"anyOf": [ARRAY_SCHEMA, ROWS_SCHEMA]}),
]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Request(_Message):
    id: RequestId


class ResumeEntry(_Message):
    """A session to attach to: one that this driver had, or one created over REST or by a fork."""

    session: Name
    token: Name


class Hello(_Request):
    """First message of a driver. Opens `sessions` new ones, or attaches to those in `resume`."""

    type: Literal["hello"] = "hello"
    protocol_minor: Annotated[int, Field(ge=0)] = PROTOCOL_MINOR
    client: Annotated[str, Field(max_length=200)] = ""
    capabilities: Annotated[list[Name], Field(max_length=100)] = []
    sessions: Annotated[int, Field(ge=0, le=MAX_SESSIONS_PER_SOCKET)] = 1
    resume: Annotated[list[ResumeEntry], Field(max_length=MAX_SESSIONS_PER_SOCKET)] = []
    encoding: Encoding = "jpeg"  # of sessions that this socket resets; what is shared keeps its own
    ticket: Name | None = None  # instead of the header token, for browsers
    engine: Name | None = None  # of the new sessions, where the server runs several; None is its first


class SessionChoices(_Message):
    """What the engine is asked to do for this session. The engine refuses what it cannot honour."""

    cameras: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    steps: Annotated[int, Field(ge=1, le=64)] | None = None
    tier: Name = "exact"
    layout: bool = True
    weather: Name | None = None  # instead of what the scenario and the seed decide
    time_of_day: Name | None = None


class Reset(_Request):
    """Start (or start again) the session's world.

    `snapshot_every` > 0 lets it survive the loss of a worker. With `newest_frames` = n the driver gets the n newest frames of
    each camera and chunk: the server encodes no others, unless a viewer watches.
    """

    type: Literal["reset"] = "reset"
    session: Name | None = None
    scenario: Name
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    rig: Name | None = None
    options: SessionChoices = SessionChoices()
    mode: Mode = "lockstep"
    hold_policy: HoldPolicy = "coast"
    snapshot_every: Annotated[int, Field(ge=0, le=100_000)] | None = None
    record: bool = False
    newest_frames: Annotated[int, Field(ge=1, le=64, strict=True)] | None = None  # None is all


class StepItem(_Message):
    """One chunk's actions for one session."""

    session: Name | None = None
    chunk: Annotated[int, Field(ge=0, lt=1 << 53, strict=True)]
    actions: Actions  # float32 [F, A]
    space: ActionSpaceName = "controls"
    deadline_ms: Annotated[float, Field(gt=0, le=3.6e6)] | None = None


class Step(StepItem):
    """Generate the next chunk of one session."""

    type: Literal["step"] = "step"
    id: RequestId


class StepMany(_Request):
    """Generate the next chunk of many sessions; a result or an error for each.

    With `stream` the reply comes in parts, in the order in which results are ready: the driver reads some while the server
    makes the others.
    """

    type: Literal["step_many"] = "step_many"
    steps: Annotated[list[StepItem], Field(min_length=1, max_length=MAX_SESSIONS_PER_SOCKET)]
    stream: bool = False


class Snapshot(_Request):
    """Keep the state at this chunk boundary on the server."""

    type: Literal["snapshot"] = "snapshot"
    session: Name | None = None


class Restore(_Request):
    """Continue this session from a snapshot, of this or another session."""

    type: Literal["restore"] = "restore"
    session: Name | None = None
    handle: Name


class Fork(_Request):
    """Copy the session; the socket drives the copies too."""

    type: Literal["fork"] = "fork"
    session: Name | None = None
    count: Annotated[int, Field(ge=1, le=64)] = 1


class SetTier(_Request):
    """Change the session's cache tier from its next chunk on; the world goes on as it is."""

    type: Literal["set_tier"] = "set_tier"
    session: Name | None = None
    tier: Name


class Close(_Request):
    """End the session and free its slot."""

    type: Literal["close"] = "close"
    session: Name | None = None


class Watch(_Request):
    """First message of a viewer; may be repeated to change cameras or rate. A ticket replaces the header token."""

    type: Literal["watch"] = "watch"
    session: Name
    ticket: Name | None = None
    cameras: Annotated[list[Name], Field(max_length=64)] | None = None
    max_rate_hz: Annotated[float, Field(gt=0, le=1000)] | None = None
    encoding: Literal["h264"] | None = None  # None: the session's own


Request = Annotated[
    Hello | Reset | Step | StepMany | Snapshot | Restore | Fork | SetTier | Close | Watch,
    Field(discriminator="type"),
]
