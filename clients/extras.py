"""Libraries that only some installs have."""

from importlib import import_module
from types import ModuleType

from .errors import RoadloopError


class MissingExtraError(RoadloopError, ImportError):
    """A library is absent; the message names the extra that brings it."""


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library of an extra.

    Args:
        module: its import name.
        extra: the extra of `roadloop` that brings it.
        purpose: what it is needed for, for the message.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(
            f"{purpose}: expected the module {missing.name}: pip install 'roadloop[{extra}]'"
        ) from None
