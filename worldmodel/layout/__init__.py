"""The scene projected into each camera as rasters: the world model's optional condition."""

from .channels import CHANNELS, INFINITY_M, Layout
from .renderer import LayoutRenderer

__all__ = ["CHANNELS", "INFINITY_M", "Layout", "LayoutRenderer"]
