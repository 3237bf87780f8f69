"""The scene projected into each camera as rasters: the world model's optional condition."""

from .channels import CHANNELS, INFINITY_M, Layout
from .renderer import LayoutRenderer
from .standing import standing_depth

__all__ = ["CHANNELS", "INFINITY_M", "Layout", "LayoutRenderer", "standing_depth"]
