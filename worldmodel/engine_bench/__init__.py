"""`roadloop bench engine`: how fast the world model makes chunks, and where the time goes."""

from .measure import Settings, measure
from .table import batch_table, stage_table

__all__ = ["Settings", "batch_table", "measure", "stage_table"]
