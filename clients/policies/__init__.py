"""Policies: what drives in the evaluation harness, and how to name, make, serve and reach one."""

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
