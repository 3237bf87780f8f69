"""The little that clients ask over REST: maps, sessions, health. Everything else goes over their socket."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from .errors import ConnectionLostError
from .handshake import http_url, is_local
from .protocol import ErrorCode, LaneMap, ProtocolError


def call(
    url: str,
    path: str,
    method: str = "GET",
    token: str | None = None,
    body: Any = None,
    timeout_s: float = 30.0,
) -> Any:
    """One call: the answer's JSON, None for an empty one.

    Raises:
        ConnectionLostError: nobody answers there.
        ProtocolError: the server refuses.
    """
    data = _exchange(url, path, method, token, body, timeout_s)
    return json.loads(data) if data else None


def lane_map(url: str, session: str, *, token: str | None = None, timeout_s: float = 30.0) -> LaneMap:
    """The roads of a session's world and its route: lines in metres, world frame.

    Raises:
        ConnectionLostError: nobody answers there.
        ProtocolError: the server refuses: UNKNOWN_SESSION, BAD_STATE before the first reset, BAD_REQUEST without maps.
    """
    path = f"/v1/sessions/{quote(session, safe='')}/map"
    return LaneMap.model_validate_json(_exchange(url, path, "GET", token, None, timeout_s))


def _exchange(url: str, path: str, method: str, token: str | None, body: Any, timeout_s: float) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(http_url(url, path), data, headers, method=method)
    proxies = urllib.request.ProxyHandler({} if is_local(url) else None)
    try:
        with urllib.request.build_opener(proxies).open(request, timeout=timeout_s) as response:
            answer: bytes = response.read()
            return answer
    except urllib.error.HTTPError as error:
        with error:
            raise _problem(error.code, error.read()) from None
    except OSError as error:
        raise ConnectionLostError(f"expected a server at {url}: {error}") from None


def _problem(status: int, body: bytes) -> ProtocolError:
    try:
        problem = json.loads(body)
        return ProtocolError(
            ErrorCode(problem["code"]), problem["message"], details=problem.get("details", {})
        )
    except (ValueError, KeyError, TypeError):
        return ProtocolError(ErrorCode.UNSUPPORTED, f"expected a roadloop server, got HTTP status {status}")
