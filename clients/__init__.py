"""The client side: wire protocol, Python client, environments, evaluation.

The names below are imported when they are first used, so that `import clients` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client, Session, connect, watch
    from .errors import ConnectionLostError, ReplyTimeoutError, RoadloopError
    from .local import local_server
    from .observation import Observation, StepResult
    from .protocol import ErrorCode, ProtocolError

__all__ = [
    "Client",
    "ConnectionLostError",
    "ErrorCode",
    "Observation",
    "ProtocolError",
    "ReplyTimeoutError",
    "RoadloopError",
    "Session",
    "StepResult",
    "connect",
    "local_server",
    "watch",
]

_HOMES = {
    "client": ("Client", "Session", "connect", "watch"),
    "errors": ("ConnectionLostError", "ReplyTimeoutError", "RoadloopError"),
    "local": ("local_server",),
    "observation": ("Observation", "StepResult"),
    "protocol": ("ErrorCode", "ProtocolError"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
