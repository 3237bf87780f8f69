"""`roadloop bench xcache`: block caches driven side by side over the same scenes, against full compute and the truth."""

from .calibrate import drift_table
from .frontier import frontier, unmatched
from .measure import Settings, measure, model_rig
from .methods import ABLATIONS, FULL_COMPUTE, METHODS, PARTS, QUICK_METHODS, TABLE, Contestant, calibrated
from .page import write_page
from .race import PROTOCOLS, Course
from .scenes import GROUPS, record
from .table import averages, overall, pareto, terminal_table
from .tune import CHOICE_SCENARIOS, CHOICE_SEED, candidates, suggest

__all__ = [
    "ABLATIONS",
    "CHOICE_SCENARIOS",
    "CHOICE_SEED",
    "FULL_COMPUTE",
    "GROUPS",
    "METHODS",
    "PARTS",
    "PROTOCOLS",
    "QUICK_METHODS",
    "TABLE",
    "Contestant",
    "Course",
    "Settings",
    "averages",
    "calibrated",
    "candidates",
    "drift_table",
    "frontier",
    "measure",
    "model_rig",
    "overall",
    "pareto",
    "record",
    "suggest",
    "terminal_table",
    "unmatched",
    "write_page",
]
