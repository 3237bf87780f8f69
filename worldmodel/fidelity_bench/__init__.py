"""`roadloop bench fidelity`: is what the model generates the world that it was told about?"""

from .gates import gates
from .measure import Settings, measure
from .page import write_page
from .table import gate_table, horizon_table

__all__ = ["Settings", "gate_table", "gates", "horizon_table", "measure", "write_page"]
