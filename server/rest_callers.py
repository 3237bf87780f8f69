"""Who calls, and whether they may: the parameters that routes declare."""

from typing import Annotated, Any

from fastapi import Depends, Request

from .auth import Principal
from .state import Server


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
