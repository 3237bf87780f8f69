"""What REST takes and gives. Unknown keys of bodies are refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from clients.protocol import ActionSpace, Camera


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Health(BaseModel):
    """`ok`, or why not."""

    status: str


class Version(BaseModel):
    """Versions of software and protocol."""

    server: str
    protocol_major: int
    protocol_minor: int


class EngineView(BaseModel):
    """An engine that runs here."""

    engine: str
    model: str
    model_digest: str
    tiers: list[str]
    workers_ready: int


class ScenarioView(BaseModel):
    """A scenario that reset accepts. Weather and time of day are those it has unless it leaves them to the seed."""

    name: str
    title: str
    group: str
    split: str
    map: str
    weather: str
    time_of_day: str
    duration_s: float


class ServerInfo(BaseModel):
    """What can be driven here, and how much of it."""

    engine: str
    model: str
    model_digest: str
    determinism: str
    frames_per_chunk: int
    dt_us: int
    default_rig: str
    rigs: dict[str, list[Camera]]
    scenarios: list[str]
    action_spaces: list[ActionSpace]
    tiers: list[str]
    weathers: list[str]
    times_of_day: list[str]
    encodings: list[str]
    engines: list[EngineView]
    sessions: int
    session_slots: int
    workers_ready: int
    draining: bool


class SessionView(BaseModel):
    """An open session, without its token."""

    session: str
    owner: str
    state: str
    next_chunk: int
    mode: str
    scenario: str | None
    seed: int | None
    rig: str | None
    tier: str | None
    weather: str | None
    time_of_day: str | None
    cameras: list[str]
    driven: bool
    viewers: int
    worker: str
    engine: str


class CreateRequest(_Body):
    """Which engine; the server's first one if it is left out."""

    engine: str | None = None


class TierRequest(_Body):
    """Which tier."""

    tier: Annotated[str, Field(min_length=1, max_length=200)]


class SnapshotView(BaseModel):
    """A kept snapshot."""

    handle: str
    session: str
    next_chunk: int
    size_bytes: int
    digest: str


class ForkRequest(_Body):
    """How many copies."""

    count: Annotated[int, Field(ge=1, le=64)] = 1


class RestoreRequest(_Body):
    """Which snapshot."""

    handle: Annotated[str, Field(min_length=1, max_length=200)]


class TicketRequest(_Body):
    """What a browser wants to do: `view` needs the session."""

    scope: Literal["view", "drive"] = "view"
    session: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class TicketView(BaseModel):
    """Good for one socket."""

    ticket: str
    expires_in_s: float
