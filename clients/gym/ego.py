"""The `ego` vector of an observation: chosen columns in physical units, within bounds that no sane drive reaches.

The columns are those of the ego's state, and the driving checks that say where the route goes. The latter are what a
navigation system would tell; a policy that is to see with its cameras only leaves them out.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ..observation import Observation
from ..protocol.replies import EGO_COLUMNS

BOUNDS: Mapping[str, tuple[float, float]] = {
    "x_m": (-1e6, 1e6),
    "y_m": (-1e6, 1e6),
    "yaw_rad": (-1e3, 1e3),
    "speed_mps": (-30.0, 100.0),
    "accel_mps2": (-50.0, 50.0),
    "steering_rad": (-1.6, 1.6),
    "yaw_rate_radps": (-10.0, 10.0),
    "lane_offset_m": (-100.0, 100.0),
    "heading_error_rad": (-4.0, 4.0),
    "route_completion": (0.0, 1.0),
    "speed_limit_mps": (0.0, 100.0),
}
DEFAULT_COLUMNS = (
    "speed_mps",
    "accel_mps2",
    "steering_rad",
    "yaw_rate_radps",
    "lane_offset_m",
    "heading_error_rad",
    "speed_limit_mps",
)


def check_columns(columns: Sequence[str]) -> None:
    """Raises ValueError for unknown columns, or none at all."""
    unknown = [name for name in columns if name not in BOUNDS]
    if unknown or not columns:
        raise ValueError(f"expected ego columns of {', '.join(BOUNDS)}, got {', '.join(unknown) or 'none'}")


def ego_vector(seen: Observation, columns: Sequence[str]) -> np.ndarray:
    """The columns at the last frame: float32 [E], clipped to their bounds."""
    state = dict(zip(EGO_COLUMNS, seen.ego_frames[-1], strict=True))
    values = [state[name] if name in state else seen.metrics[name][-1] for name in columns]
    low, high = ego_bounds(tuple(columns))
    return np.clip(np.array(values, np.float32), low, high)


@lru_cache(maxsize=16)
def ego_bounds(columns: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest values: float32 [E] each."""
    low, high = np.array([BOUNDS[name] for name in columns], np.float32).T
    return low, high
