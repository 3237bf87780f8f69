"""X-Cache: reuse of transformer block residuals across chunks of a streaming world model.

Standalone: needs torch and nothing else. Start with `XCache` in cache.py, or `wrap` for somebody else's model.
"""

from .baselines import BASELINES, baseline
from .cache import XCache
from .executors import Request
from .method import XCACHE, Method
from .passes import Pass
from .plan import Layout, Plan
from .presets import PRESETS, preset
from .reason import Reason
from .report import Report, last_seen, report, telemetry
from .reuse import FlowBank, Reuse
from .schedule import KVCycle, Policy, Role
from .shadow import live_error, steer
from .store import State
from .wrap import wrap

__all__ = [
    "BASELINES",
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
    "Report",
    "Request",
    "Reuse",
    "Role",
    "State",
    "XCache",
    "baseline",
    "last_seen",
    "live_error",
    "preset",
    "report",
    "steer",
    "telemetry",
    "wrap",
]
