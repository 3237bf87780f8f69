"""The world model as an engine: conditions, memory and the chunk loop."""

from .engine import DiffusionEngine

__all__ = ["DiffusionEngine"]
