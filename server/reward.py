"""The default reward of one chunk, in metres of progress: what the driving was worth, less what went wrong.

reward = progress along the route in this chunk [m]
         - 20 if a collision was the ego's fault - 5 if the ego left the road - 5 if it ran a red light
         - 1 if it drove against the direction of its lane
Each is counted once per chunk. Environments that want other weights compute them from `metrics`.
"""

from collections.abc import Mapping
from typing import Any

PENALTIES = {"collision_at_fault": 20.0, "off_road": 5.0, "red_light": 5.0, "wrong_way": 1.0}


def chunk_reward(metrics: Mapping[str, Any], progress_before_m: float) -> float:
    """The reward of the chunk with these per-frame metrics."""
    progress_m = float(metrics["route_progress_m"][-1]) - progress_before_m
    return progress_m - sum(penalty for name, penalty in PENALTIES.items() if any(metrics[name]))
