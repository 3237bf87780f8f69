"""Parked cars: boxes in the bays that never move, so they are part of the scene but not of its state."""

import numpy as np

from .fleet import draw_body
from .state import AgentState

FIRST_ID = 10_000
_LONGEST_M = 5.4  # what fits a bay


def park(bays: np.ndarray, share: float, generator: np.random.Generator) -> tuple[AgentState, ...]:
    """Fill a share of the bays [N, 3] (x, y, yaw), each car slightly askew, some the wrong way round."""
    parked = []
    for k, bay in enumerate(bays):
        taken, van, reversed_ = generator.uniform(size=3) < (share, 0.12, 0.15)
        x, y, yaw = bay + generator.uniform((-0.12, -0.08, -0.03), (0.12, 0.08, 0.03))
        body = draw_body("van" if van else "car", generator)
        if taken and body.length_m < _LONGEST_M:
            yaw = float((yaw + (np.pi if reversed_ else 0.0) + np.pi) % (2 * np.pi) - np.pi)
            size = (body.length_m, body.width_m, body.height_m)
            agent = AgentState(
                FIRST_ID + k, body.kind, float(x), float(y), yaw, 0.0, *size, body.color_rgb, False, True
            )
            parked.append(agent)
    return tuple(parked)
