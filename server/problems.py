"""Errors over HTTP: one shape for all of them, with the status that fits."""

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from clients.protocol import ErrorCode, ProtocolError


class Problem(BaseModel):
    """An error, as on the sockets."""

    code: str
    message: str
    retryable: bool
    details: dict[str, Any] = {}


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
