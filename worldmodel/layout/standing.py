"""Depth of what stands still: what the ego's own motion can be read from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..scene.state import SceneFrame
from ..scene.world import StaticWorld
from .renderer import LayoutRenderer


def standing_depth(renderer: LayoutRenderer, world: StaticWorld, frames: Sequence[SceneFrame]) -> np.ndarray:
    """Metres along every ray, float32 [F, V, h, w]; NaN where road users are."""
    depth_m = renderer.render(world, frames).depth_m
    deserted = renderer.render(world, [replace(frame, agents=()) for frame in frames]).depth_m
    return np.where(depth_m == deserted, deserted, np.float32(np.nan))
