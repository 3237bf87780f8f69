"""Policies: what drives in the evaluation harness, and how to name, make, serve and reach one.

The names below are imported when they are first used, so that the command line costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .policy import (
        EpisodeInfo,
        PastAction,
        Policy,
        PolicyError,
        PolicyUnavailableError,
        checked_actions,
        space_of,
    )
    from .spec import PolicySpec, PolicySpecError, load_policy, policy_names

__all__ = [
    "EpisodeInfo",
    "PastAction",
    "Policy",
    "PolicyError",
    "PolicySpec",
    "PolicySpecError",
    "PolicyUnavailableError",
    "checked_actions",
    "load_policy",
    "policy_names",
    "space_of",
]

_HOMES = {
    "policy": (
        "EpisodeInfo",
        "PastAction",
        "Policy",
        "PolicyError",
        "PolicyUnavailableError",
        "checked_actions",
        "space_of",
    ),
    "spec": ("PolicySpec", "PolicySpecError", "load_policy", "policy_names"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
