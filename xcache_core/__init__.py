"""X-Cache: reuse of transformer block residuals across chunks of a streaming world model.

Standalone: needs torch and nothing else. Start with `XCache` in cache.py, or `wrap` for somebody else's model.
"""

from .cache import XCache
from .executors import Request
from .method import XCACHE, Method
from .passes import Pass
from .plan import Layout, Plan
from .presets import PRESETS, preset
from .reason import Reason
from .reuse import FlowBank, Reuse
from .schedule import KVCycle, Policy, Role
from .store import State

__all__ = [
    "PRESETS",
    "XCACHE",
    "FlowBank",
    "KVCycle",
    "Layout",
    "Method",
    "Pass",
    "Plan",
    "Policy",
    "Reason",
    "Request",
    "Reuse",
    "Role",
    "State",
    "XCache",
    "preset",
]
