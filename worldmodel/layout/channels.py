"""The channels of a layout. All values lie in [-1, 1] and are 0 where there is nothing."""

from dataclasses import dataclass

import numpy as np

CHANNELS = (
    "lane_line",  # share of the pixel that is a painted line between lanes or directions
    "road_edge",  # ... a line at the edge of the carriageway, or a kerb
    "crossing",  # ... a stripe of a pedestrian crossing
    "stop_line",
    "road",  # ... paved ground
    "light_red",  # a signal head that shows red; yellow is red and green
    "light_green",
    "vehicle_edge",  # edges of the visible faces of a vehicle's bounding box
    "pedestrian_edge",  # ... of a pedestrian's or cyclist's
    "agent_depth",  # inverse depth of any road user
    "braking",  # a vehicle whose brake lamps are lit
    "heading_cos",  # heading of a road user relative to the ego
    "heading_sin",
    "static_edge",  # edges of walls and buildings; all of what is thin or shaped (poles, trees, signs)
    "static_nx",  # horizontal normal of walls and buildings in the ego frame; 0 for trees and poles
    "static_ny",
    "inverse_depth",  # of whatever is seen: structures, road users, ground
    "facade_sin",  # phase of the windows along a facade, faded where they are finer than a pixel
    "facade_cos",
    "ground_sin_x",  # phase of a world-anchored grid of 8 m on the ground, faded where it is finer than a pixel
    "ground_cos_x",
    "ground_sin_y",
    "ground_cos_y",
    "color_red",  # own colour of a road user or structure, 0..1, whatever light falls on it
    "color_green",
    "color_blue",
)
INDEX = {name: k for k, name in enumerate(CHANNELS)}

GRID_PERIOD_M = 8.0
NEAR_M = 5.0  # inverse depth is NEAR_M / distance, at most 1
INFINITY_M = 10_000.0  # the depth of the sky


@dataclass(frozen=True)
class Layout:
    """Layouts of one scene at F frames.

    `rasters` float32 [F, V, C, h, w] with the channels of `CHANNELS`; `depth_m` float32 [F, V, h, w], the distance
    along the pixel's ray to whatever covers most of it, `INFINITY_M` for the sky.
    """

    rasters: np.ndarray
    depth_m: np.ndarray

    def channel(self, name: str) -> np.ndarray:
        """One channel, float32 [F, V, h, w]. Raises KeyError for an unknown name."""
        return self.rasters[:, :, INDEX[name]]
