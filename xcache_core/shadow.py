"""Live quality: what skipping costs, measured on the skips that were checked, and a tier that follows it."""

from dataclasses import replace

from .schedule import Policy
from .store import State

MIN_FLOOR, MAX_FLOOR = 0.5, 0.9999


def live_error(state: State, slot: int) -> float | None:
    """Mean relative error of a slot's checked skips since its reset; None before the first one.

    Skips are checked when the tier's `shadow_every` is set.
    """
    state.check_slots([slot])
    state.settle()
    total, number = state.planes["errors"][:, :, slot].sum((0, 1)).tolist()
    return total / number if number else None


def steer(policy: Policy, error: float, target: float) -> Policy:
    """A tier whose cosine floor is nearer to where skipping costs `target`.

    The angle that the floor allows grows with the error, so 1 - floor goes with its square; a change is at most
    fourfold, and the floor stays within 0.5..0.9999. Use it at a chunk boundary.

    Raises:
        ValueError: a target that is not positive or an error that is negative.
    """
    if target <= 0 or error < 0:
        raise ValueError(f"expected target > 0 and error >= 0, got {target} and {error}")
    factor = min(4.0, max(0.25, (target / max(error, 1e-12)) ** 2))
    floor = 1.0 - (1.0 - policy.floor) * factor
    return replace(policy, floor=min(MAX_FLOOR, max(MIN_FLOOR, floor)))
