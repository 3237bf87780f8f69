"""A caching method is a combination of pieces: what decides, what is reused, along which axis, and at which scope."""

from dataclasses import dataclass
from typing import Literal

from .executors import ExecutorName
from .gate import DUAL_METRIC, Gate
from .plan import Plan
from .reuse import HOLD, Reuse
from .schedule import Axis


@dataclass(frozen=True)
class Method:
    """The pieces that all sessions of a cache share; the numbers that differ are in each slot's `Policy`.

    Args:
        gate: the decision.
        reuse: what stands in for a skipped block.
        axis: `chunk`: reuse (step, block) of an earlier chunk. `step`: reuse the block of an earlier step of the same
            chunk, whose step 0 is always computed.
        probe: None: every block decides for itself. `input`: the first block's input decides for all blocks.
            `residual`: the first block is computed, and its residual decides for the others.
        follow: compare with the last input, computed or not, instead of the last one that was computed.
    """

    gate: Gate = DUAL_METRIC
    reuse: Reuse = HOLD
    axis: Axis = "chunk"
    probe: Literal["input", "residual"] | None = None
    follow: bool = False

    def __post_init__(self) -> None:
        if self.axis not in ("chunk", "step"):
            raise ValueError(f"expected axis 'chunk' or 'step', got {self.axis!r}")
        if self.probe not in (None, "input", "residual"):
            raise ValueError(f"expected probe 'input', 'residual' or None, got {self.probe!r}")
        if self.probe is not None and not self.gate.measures:
            raise ValueError(f"expected a gate that measures for a probe, got {type(self.gate).__name__}")
        if self.reuse.transport and self.axis == "step":
            raise ValueError("expected axis 'chunk' for transported residuals, got 'step'")

    @property
    def foresees(self) -> bool:
        """Whether blocks in a row can be decided about from the input of the first one.

        Then each must skip for its own sake, and what a skip adds must be what was added when it was computed.
        """
        alone = self.probe is None and not self.follow
        return alone and self.gate.foresees and self.reuse.order == "hold" and not self.reuse.transport


XCACHE = Method()


@dataclass(frozen=True)
class Setup:
    """What all passes of one cache have in common."""

    plan: Plan
    method: Method
    executor: ExecutorName
    buckets: tuple[int, ...] | None

    @property
    def runs_ahead(self) -> bool:
        """Whether a stack of blocks is decided about several blocks at once."""
        return self.executor == "eager" and self.method.foresees
