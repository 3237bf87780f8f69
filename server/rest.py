"""The REST side: what the server is and how it is. `rest_sessions` has the sessions."""

from typing import get_args

from fastapi import APIRouter, Response

from clients.protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, ActionSpace, Camera
from clients.protocol.requests import Encoding

from .problems import PROBLEMS
from .rest_callers import Here, Viewer
from .rest_models import EngineView, Health, ScenarioView, ServerInfo, Version
from .state import Server
from .version import VERSION

public = APIRouter()
v1 = APIRouter(prefix="/v1", responses=PROBLEMS)


@public.get("/healthz")
async def healthz() -> Health:
    """The front end's loop is alive."""
    return Health(status="ok")


@public.get("/readyz", responses={503: {"model": Health}})
async def readyz(server: Here, response: Response) -> Health:
    """A worker of the default engine is ready, all make progress, and the server takes sessions."""
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
