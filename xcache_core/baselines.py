"""What else could be done, each a combination of the same pieces. Numbers are the authors' defaults where they have any.

cache = baseline("first_block", plan)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from .cache import XCache
from .executors import ExecutorName
from .gate import Always, DualMetric, RelativeL1, Table
from .method import XCACHE, Method
from .plan import Plan
from .reuse import Reuse
from .schedule import Policy
from .store import State

STEP_ONLY = Policy(warm_up=0, front=0)  # methods along the steps start afresh with every chunk


@dataclass(frozen=True)
class Baseline:
    """A method with its numbers. `whole_input`: the gate looks at every token, not at a sample."""

    method: Method
    policy: Policy
    about: str
    whole_input: bool = False


BASELINES: dict[str, Baseline] = {
    "never": Baseline(XCACHE, Policy(enabled=False), "computes everything"),
    "always": Baseline(
        Method(Always()), Policy(), "X-Cache's schedule without its gate: KV updates computed"
    ),
    "xcache": Baseline(XCACHE, Policy(), "as published (arXiv 2604.20289)"),
    "cosine_only": Baseline(Method(DualMetric(use_deviation=False)), Policy(), "one metric of the two"),
    "deviation_only": Baseline(Method(DualMetric(use_cosine=False)), Policy(), "the other metric"),
    "first_block": Baseline(
        Method(RelativeL1(0.08), axis="step", probe="residual"),
        replace(STEP_ONLY, front=1),
        "first-block cache: the first block's residual decides for all, from step to step",
        whole_input=True,
    ),
    "embedding": Baseline(
        Method(RelativeL1(inf), axis="step", probe="input", follow=True),
        replace(STEP_ONLY, budget=0.15),
        "TeaCache-like: the accumulated change of the first block's input decides for all, from step to step",
        whole_input=True,
    ),
    "block_l1": Baseline(
        Method(RelativeL1(0.08), axis="step"),
        STEP_ONLY,
        "DBPrune-like: every block by the change of its own input, from step to step",
        whole_input=True,
    ),
    "taylor_step": Baseline(
        Method(Always(), Reuse("taylor"), axis="step"),
        replace(STEP_ONLY, max_skips=1),
        "TaylorSeer of order 1 from step to step: every second step computed",
    ),
    "taylor_chunk": Baseline(
        Method(Always(), Reuse("taylor")), Policy(max_skips=3), "the same extrapolation across chunks"
    ),
}


def baseline(name: str, plan: Plan, *, executor: ExecutorName = "eager") -> XCache:
    """A cache that follows the baseline of that name; ValueError lists the names there are."""
    if name not in BASELINES:
        raise ValueError(f"expected a baseline named {', '.join(BASELINES)}, got {name!r}")
    chosen = BASELINES[name]
    return XCache(
        with_whole_input(plan) if chosen.whole_input else plan,
        chosen.policy,
        method=chosen.method,
        executor=executor,
    )


def fixed_table(
    plan: Plan, drift: Sequence[Sequence[float]], *, budget: float = 0.06, executor: ExecutorName = "eager"
) -> XCache:
    """MagCache-like: skip from step to step while the calibrated errors `drift[step][block]` add up to <= `budget`.

    Raises:
        ValueError: a table that is not [steps][blocks] of numbers >= 0.
    """
    table = tuple(tuple(float(x) for x in row) for row in drift)
    if len(table) != plan.steps or any(len(row) != plan.blocks or min(row) < 0 for row in table):
        raise ValueError(f"expected a table of {plan.steps} steps x {plan.blocks} blocks of numbers >= 0")
    policy = replace(STEP_ONLY, budget=budget)
    return XCache(plan, policy, method=Method(Table(table), axis="step"), executor=executor)


def calibrator(plan: Plan, *, executor: ExecutorName = "eager") -> XCache:
    """Computes every block and measures what reusing the last step's residual would have cost; see `drift_table`."""
    return XCache(
        plan, replace(STEP_ONLY, shadow_every=1), method=Method(Always(), axis="step"), executor=executor
    )


def drift_table(state: State) -> list[list[float]]:
    """Mean relative error per [step][block] that a run with `calibrator` measured; 0 where nothing was checked."""
    state.settle()
    total, number = state.planes["errors"].sum(2).unbind(-1)
    return [[float(x) for x in row] for row in (total / number.clamp_min(1.0)).tolist()]


def with_whole_input(plan: Plan) -> Plan:
    """The plan with fingerprints of every token instead of a sample."""
    return replace(plan, layout=replace(plan.layout, samples=plan.layout.tile_tokens))
