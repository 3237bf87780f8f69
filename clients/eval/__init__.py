"""Evaluation: suites of worlds, a runner, scores, and what is made of them.

The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison import compare
    from .harness import Evaluation, evaluate, rescore
    from .results import Result, RunFolder
    from .scores import Scores, score
    from .suite import Suite, load_suite
    from .trace import Trace

__all__ = [
    "Evaluation",
    "Result",
    "RunFolder",
    "Scores",
    "Suite",
    "Trace",
    "compare",
    "evaluate",
    "load_suite",
    "rescore",
    "score",
]

_HOMES = {
    "comparison": ("compare",),
    "harness": ("Evaluation", "evaluate", "rescore"),
    "results": ("Result", "RunFolder"),
    "scores": ("Scores", "score"),
    "suite": ("Suite", "load_suite"),
    "trace": ("Trace",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
