"""The REST side: what the server is, and sessions for those who create them before they drive."""

from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from clients.protocol import (
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    ActionSpace,
    Camera,
    ErrorCode,
    LaneMap,
    ProtocolError,
    SessionChoices,
    SessionInfo,
)
from clients.protocol.requests import Encoding

from .auth import Principal
from .live import LiveSession
from .state import Server
from .version import VERSION


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error, as on the sockets."""

    code: str
    message: str
    retryable: bool
    details: dict[str, Any] = {}


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


STATUS = {
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.UNKNOWN_SESSION: 404,
    ErrorCode.UNKNOWN_SNAPSHOT: 404,
    ErrorCode.BAD_STATE: 409,
    ErrorCode.TOO_MANY: 429,
    ErrorCode.CAPACITY: 503,
    ErrorCode.DRAINING: 503,
    ErrorCode.WORKER_LOST: 503,
    ErrorCode.INTERNAL: 500,
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in sorted({400, *STATUS.values()})
}

public = APIRouter()
v1 = APIRouter(prefix="/v1", responses=PROBLEMS)


def problem_response(error: ProtocolError) -> Response:
    """An error as HTTP, with Retry-After where waiting helps."""
    problem = Problem(
        code=error.code, message=error.message, retryable=error.retryable, details=error.details
    )
    headers = {}
    if "retry_after_s" in error.details:
        headers["Retry-After"] = str(error.details["retry_after_s"])
    if error.code is ErrorCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        problem.model_dump_json(), STATUS.get(error.code, 400), headers=headers, media_type="application/json"
    )


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


def _caller(scope: str) -> Any:
    """The principal of a call, who must have the scope."""

    def caller(request: Request) -> Principal:
        principal = _server(request).gate.authenticate(request.headers.get("authorization"))
        principal.demand(scope)
        return principal

    return Depends(caller)


Driver = Annotated[Principal, _caller("drive")]
Viewer = Annotated[Principal, _caller("view")]
Here = Annotated[Server, Depends(_server)]


def _find(server: Server, name: str, caller: Principal) -> LiveSession:
    return server.hub.find(name, None if "admin" in caller.scopes else caller.name)


@public.get("/healthz")
async def healthz() -> Health:
    """The front end's loop is alive."""
    return Health(status="ok")


@public.get("/readyz", responses={503: {"model": Health}})
async def readyz(server: Here, response: Response) -> Health:
    """A worker is ready and makes progress, and the server takes sessions."""
    status = server.readiness()
    response.status_code = 200 if status == "ok" else 503
    return Health(status=status)


@public.get("/version")
async def version() -> Version:
    """Versions of software and protocol."""
    return Version(server=VERSION, protocol_major=PROTOCOL_MAJOR, protocol_minor=PROTOCOL_MINOR)


@public.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **PROBLEMS})
async def metrics(server: Here, caller: Viewer) -> Response:
    """Prometheus metrics."""
    return Response(server.hub.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@v1.get("/server")
async def server_info(server: Here, caller: Viewer) -> ServerInfo:
    """What can be driven here."""
    info = server.pool.describe()
    return ServerInfo(
        engine=info.engine,
        model=info.model,
        model_digest=info.model_digest,
        determinism=info.determinism,
        frames_per_chunk=info.frames_per_chunk,
        dt_us=info.dt_us,
        default_rig=info.default_rig,
        rigs={name: [Camera(**camera) for camera in cameras] for name, cameras in info.rigs.items()},
        scenarios=[scenario["name"] for scenario in info.scenarios],
        action_spaces=[ActionSpace(**space) for space in info.action_spaces],
        tiers=info.tiers,
        weathers=info.weathers,
        times_of_day=info.times_of_day,
        encodings=list(get_args(Encoding)),
        engines=_engines(server),
        sessions=len(server.hub.sessions),
        session_slots=server.pool.slots,
        workers_ready=len(server.pool.ready_workers),
        draining=server.hub.draining,
    )


@v1.get("/scenarios")
async def scenarios(server: Here, caller: Viewer, engine: str | None = None) -> list[ScenarioView]:
    """What reset accepts with this engine, with what to group and filter by."""
    return [ScenarioView(**scenario) for scenario in server.pool.describe(engine).scenarios]


@v1.post("/sessions", status_code=201)
async def create_session(server: Here, caller: Driver, body: CreateRequest | None = None) -> SessionInfo:
    """Open a session; drive it by giving its token in hello's resume, within the lease."""
    return server.hub.create(caller, None if body is None else body.engine).info()


@v1.get("/sessions")
async def list_sessions(server: Here, caller: Viewer) -> list[SessionView]:
    """All open sessions."""
    return [_session_view(live) for live in server.hub.sessions.values()]


@v1.get("/sessions/{session}")
async def get_session(session: str, server: Here, caller: Viewer) -> SessionView:
    """One open session."""
    return _session_view(server.hub.find(session, None))


@v1.get(
    "/sessions/{session}/map",
    response_class=Response,
    responses={
        200: {"model": LaneMap, "headers": {"ETag": {"schema": {"type": "string"}}}},
        304: {"description": "The caller has it already (If-None-Match)"},
    },
)
async def get_map(
    session: str,
    server: Here,
    caller: Viewer,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """The roads of the session's world as lines, in metres."""
    file = await server.hub.lane_map(server.hub.find(session, None))
    headers = {"ETag": file.etag, "Cache-Control": "private, no-cache"}  # kept, but asked for each time
    if if_none_match is not None and file.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type="application/json")


@v1.put("/sessions/{session}/tier")
async def put_tier(session: str, body: TierRequest, server: Here, caller: Driver) -> SessionView:
    """Change the session's cache tier from its next chunk on."""
    live = _find(server, session, caller)
    await server.hub.set_tier(live, body.tier)
    return _session_view(live)


@v1.delete("/sessions/{session}", status_code=204)
async def delete_session(session: str, server: Here, caller: Driver) -> None:
    """End a session."""
    await server.hub.close(_find(server, session, caller))


@v1.post("/sessions/{session}/wheel", status_code=201)
async def take_wheel(session: str, server: Here, caller: Driver) -> SessionInfo:
    """The token of a session of this caller's, to attach to it with hello's resume; whoever drove it is displaced."""
    return _find(server, session, caller).info()


@v1.post("/sessions/{session}/fork", status_code=201)
async def fork_session(session: str, body: ForkRequest, server: Here, caller: Driver) -> list[SessionInfo]:
    """Copy a session."""
    return (await server.hub.fork(_find(server, session, caller), body.count)).sessions


@v1.post("/sessions/{session}/snapshots", status_code=201)
async def take_snapshot(session: str, server: Here, caller: Driver) -> SnapshotView:
    """Keep the session's state."""
    taken = await server.hub.snapshot(_find(server, session, caller))
    return SnapshotView(**taken.model_dump(include=set(SnapshotView.model_fields)))


@v1.post("/sessions/{session}/restore")
async def restore_session(session: str, body: RestoreRequest, server: Here, caller: Driver) -> SessionView:
    """Continue a session from a snapshot."""
    live = _find(server, session, caller)
    await server.hub.restore(live, body.handle)
    return _session_view(live)


@v1.get("/snapshots")
async def list_snapshots(server: Here, caller: Driver) -> list[SnapshotView]:
    """The caller's snapshots."""
    owner = None if "admin" in caller.scopes else caller.name
    return [
        SnapshotView(
            handle=s.handle,
            session=s.session,
            next_chunk=s.next_chunk,
            size_bytes=s.size_bytes,
            digest=s.digest,
        )
        for s in server.hub.snapshots.list(owner)
    ]


@v1.delete("/snapshots/{handle}", status_code=204)
async def delete_snapshot(handle: str, server: Here, caller: Driver) -> None:
    """Forget a snapshot."""
    server.hub.snapshots.drop(handle, None if "admin" in caller.scopes else caller.name)


@v1.post("/tickets", status_code=201)
async def create_ticket(body: TicketRequest, server: Here, caller: Viewer) -> TicketView:
    """A one-use ticket for a browser's socket, sent in its first message."""
    if (body.scope == "view") != (body.session is not None):
        raise ProtocolError(
            ErrorCode.BAD_REQUEST, f"expected a session for view only, got {body.session} for {body.scope}"
        )
    if body.session is not None:
        server.hub.find(body.session, None)
    ticket = server.gate.mint_ticket(caller, body.scope, body.session)
    return TicketView(ticket=ticket, expires_in_s=server.config.ticket_s)


def _engines(server: Server) -> list[EngineView]:
    """Those of the workers, as sessions choose them; the first one is for those who do not."""
    infos = {worker.engine_name: worker.info for worker in reversed(server.pool.workers) if worker.info}
    ready = [worker.engine_name for worker in server.pool.ready_workers]
    return [
        EngineView(
            engine=name,
            model=infos[name].model,
            model_digest=infos[name].model_digest,
            tiers=infos[name].tiers,
            workers_ready=ready.count(name),
        )
        for name in dict.fromkeys(worker.engine_name for worker in server.pool.workers)
        if name in infos
    ]


def _session_view(live: LiveSession) -> SessionView:
    options = live.setup.options if live.setup else SessionChoices()
    return SessionView(
        session=live.name,
        owner=live.owner,
        state=live.state.phase,
        next_chunk=live.state.next_chunk,
        mode=live.state.mode,
        scenario=live.setup.scenario if live.setup else None,
        seed=live.setup.seed if live.setup else None,
        rig=live.setup.rig if live.setup else None,
        tier=options.tier if live.setup else None,
        weather=options.weather,
        time_of_day=options.time_of_day,
        cameras=[camera["name"] for camera in live.cameras],
        driven=live.driver is not None,
        viewers=len(live.audience),
        worker=live.worker.name,
        engine=live.engine,
    )
