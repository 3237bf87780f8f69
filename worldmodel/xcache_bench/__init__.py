"""`roadloop bench xcache`: block caches driven side by side over the same scenes, against full compute and the truth."""

from .methods import METHODS, QUICK_METHODS
from .race import race
from .scenes import GROUPS, record
from .scores import score
from .table import averages, pareto

__all__ = ["GROUPS", "METHODS", "QUICK_METHODS", "averages", "pareto", "race", "record", "score"]
