"""Sessions, their snapshots, and tickets to see them, over REST."""

from typing import Annotated

from fastapi import APIRouter, Header, Response

from clients.protocol import ErrorCode, LaneMap, ProtocolError, SessionChoices, SessionInfo

from .auth import Principal
from .live import LiveSession
from .problems import PROBLEMS
from .rest_callers import Driver, Here, Viewer
from .rest_models import (
    CreateRequest,
    ForkRequest,
    RestoreRequest,
    SessionView,
    SnapshotView,
    TicketRequest,
    TicketView,
    TierRequest,
)
from .state import Server

sessions = APIRouter(prefix="/v1", responses=PROBLEMS)


@sessions.post("/sessions", status_code=201)
async def create_session(server: Here, caller: Driver, body: CreateRequest | None = None) -> SessionInfo:
    """Open a session; drive it by giving its token in hello's resume, within the lease."""
    return server.hub.create(caller, None if body is None else body.engine).info()


@sessions.get("/sessions")
async def list_sessions(server: Here, caller: Viewer) -> list[SessionView]:
    """All open sessions."""
    return [_session_view(live) for live in server.hub.sessions.values()]


@sessions.get("/sessions/{session}")
async def get_session(session: str, server: Here, caller: Viewer) -> SessionView:
    """One open session."""
    return _session_view(server.hub.find(session, None))


@sessions.get(
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


@sessions.put("/sessions/{session}/tier")
async def put_tier(session: str, body: TierRequest, server: Here, caller: Driver) -> SessionView:
    """Change the session's cache tier from its next chunk on."""
    live = _find(server, session, caller)
    await server.hub.set_tier(live, body.tier)
    return _session_view(live)


@sessions.delete("/sessions/{session}", status_code=204)
async def delete_session(session: str, server: Here, caller: Driver) -> None:
    """End a session."""
    await server.hub.close(_find(server, session, caller))


@sessions.post("/sessions/{session}/wheel", status_code=201)
async def take_wheel(session: str, server: Here, caller: Driver) -> SessionInfo:
    """The token of a session of this caller's, to attach to it with hello's resume; whoever drove it is displaced."""
    return _find(server, session, caller).info()


@sessions.post("/sessions/{session}/fork", status_code=201)
async def fork_session(session: str, body: ForkRequest, server: Here, caller: Driver) -> list[SessionInfo]:
    """Copy a session."""
    return (await server.hub.fork(_find(server, session, caller), body.count)).sessions


@sessions.post("/sessions/{session}/snapshots", status_code=201)
async def take_snapshot(session: str, server: Here, caller: Driver) -> SnapshotView:
    """Keep the session's state."""
    taken = await server.hub.snapshot(_find(server, session, caller))
    return SnapshotView(**taken.model_dump(include=set(SnapshotView.model_fields)))


@sessions.post("/sessions/{session}/restore")
async def restore_session(session: str, body: RestoreRequest, server: Here, caller: Driver) -> SessionView:
    """Continue a session from a snapshot."""
    live = _find(server, session, caller)
    await server.hub.restore(live, body.handle)
    return _session_view(live)


@sessions.get("/snapshots")
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


@sessions.delete("/snapshots/{handle}", status_code=204)
async def delete_snapshot(handle: str, server: Here, caller: Driver) -> None:
    """Forget a snapshot."""
    server.hub.snapshots.drop(handle, None if "admin" in caller.scopes else caller.name)


@sessions.post("/tickets", status_code=201)
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


def _find(server: Server, name: str, caller: Principal) -> LiveSession:
    return server.hub.find(name, None if "admin" in caller.scopes else caller.name)


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
