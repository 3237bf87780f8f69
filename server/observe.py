"""From an engine's result to the fields of the wire, pixels aside."""

from dataclasses import fields
from typing import Any

import numpy as np

from clients.protocol.replies import EGO_COLUMNS
from worldmodel.engine import ChunkResult
from worldmodel.scene.checks import FrameChecks

CHECKS = tuple(item.name for item in fields(FrameChecks))


def observe(result: ChunkResult) -> dict[str, Any]:
    """ego [F, 7], agents [N, 8] and their kinds at the last frame, metrics, and how the episode stands."""
    last = result.states[-1]
    rows = [
        (a.id, a.x_m, a.y_m, a.yaw_rad, a.speed_mps, a.length_m, a.width_m, a.height_m) for a in last.agents
    ]
    return {
        "ego": np.array([[getattr(s.ego, column) for column in EGO_COLUMNS] for s in result.states]),
        "agents": np.array(rows, np.float32).reshape(-1, 8),
        "agent_kinds": [agent.kind for agent in last.agents],
        "metrics": _metrics(result),
        "outcome": result.outcome,
        "reason": result.reason,
        "cache": None if result.cache is None else dict(result.cache),
    }


def _metrics(result: ChunkResult) -> dict[str, Any]:
    """Every check as a list of F values, plus time and lights at the last frame."""
    metrics: dict[str, Any] = {name: [getattr(check, name) for check in result.checks] for name in CHECKS}
    metrics["time_s"] = [state.time_s for state in result.states]
    metrics["lights"] = list(result.states[-1].lights)
    if result.free_drive_m:
        metrics["free_drive_m"] = list(result.free_drive_m)
    return metrics
