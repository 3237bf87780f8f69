"""What the cache did and why, as plain data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from torch import Tensor

from .cache import XCache
from .reason import Reason
from .store import Seen, State

Matrix = list[list[float]]  # [step][block]


@dataclass(frozen=True)
class Report:
    """Everything since the last reset of the slots it covers."""

    executor: str
    steps: int
    blocks: int
    tiles: int
    decisions: int  # tiles asked for, over all steps and blocks
    skipped: float  # share of them that was skipped
    skip_matrix: Matrix
    reasons: dict[str, int]  # how often each applied
    reason_matrix: dict[str, list[list[int]]]  # the same by [step][block], those that occurred
    shadow_error: float | None  # mean relative error of the checked skips
    shadow_checks: int
    gate_ms: float  # host time per gated block, all slots of the state
    state_bytes: int  # all slots of the state
    never: str | None  # why nothing was skipped, or why nothing can be

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON."""
        return asdict(self)


def report(cache: XCache, state: State, slots: Sequence[int] | None = None) -> Report:
    """What was skipped and refused in these slots, all by default."""
    slots = list(range(len(state))) if slots is None else list(slots)
    state.check_slots(slots)
    state.settle()
    counts = state.planes["counts"][:, :, slots].sum(2)  # [S, L, len(Reason)]
    reasons = {reason.label: int(counts[..., reason].sum()) for reason in Reason}
    decisions = sum(reasons.values())
    total, number = state.planes["errors"][:, :, slots].sum((0, 1, 2)).tolist()
    return Report(
        executor=cache.setup.executor,
        steps=cache.plan.steps,
        blocks=cache.plan.blocks,
        tiles=cache.plan.layout.tiles,
        decisions=decisions,
        skipped=reasons[Reason.SKIPPED.label] / decisions if decisions else 0.0,
        skip_matrix=(counts[..., Reason.SKIPPED] / counts.sum(-1).clamp_min(1)).tolist(),
        reasons=reasons,
        reason_matrix={r.label: counts[..., r].tolist() for r in Reason if reasons[r.label]},
        shadow_error=total / number if number else None,
        shadow_checks=int(number),
        gate_ms=state.gate_ns / 1e6 / state.gate_calls if state.gate_calls else 0.0,
        state_bytes=state.bytes(),
        never=_why_none(cache, state, slots, reasons),
    )


def last_seen(state: State, slot: int) -> dict[str, Tensor]:
    """What was last seen in a slot, float32 [S, L], or [S, L, R] where a row has several tiles.

    `reason` codes, `cosine`, `deviation`, `age` of the residual used, `error` of a checked skip; NaN where there is none.
    Copies, on the CPU.
    """
    state.check_slots([slot])
    state.settle()
    seen = state.planes["seen"][:, :, slot].to("cpu", copy=True)  # [S, L, R, len(Seen)]
    seen = seen.squeeze(2) if seen.shape[2] == 1 else seen
    return {column.name.lower(): seen[..., column] for column in Seen}


def telemetry(state: State, slot: int) -> dict[str, list[list[Any]]]:
    """`last_seen` as plain data: reasons by name, None where there is nothing."""
    named = {name: _plain(values.tolist()) for name, values in last_seen(state, slot).items()}
    named["reason"] = _labels(named["reason"])
    return named


def _why_none(cache: XCache, state: State, slots: list[int], reasons: dict[str, int]) -> str | None:
    static = {cache.why_never(state.slots[slot].policy) for slot in slots}
    if None not in static:
        return "; ".join(sorted(why for why in static if why))
    if reasons[Reason.SKIPPED.label] or not any(reasons.values()):
        return None
    return "nothing was skipped; most often: " + max(reasons, key=lambda label: reasons[label])


def _plain(value: Any) -> Any:
    """Numbers as they are, None for those that are not finite, through nested lists."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isfinite(value) else None


def _labels(value: Any) -> Any:
    if isinstance(value, list):
        return [_labels(item) for item in value]
    return None if value is None else Reason(int(value)).label
