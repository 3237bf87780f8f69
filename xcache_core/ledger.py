"""The bookkeeping as arithmetic: what the stored numbers of all blocks allow, and what they become after a pass.

Both run once for all blocks and steps of a chunk together, so that a block pays only for comparing its input.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .gate import adaptive_threshold, update_ema
from .reason import Reason
from .reuse import Reuse, coefficient
from .store import Meta, Seen


class Numbers(NamedTuple):
    """Position in time and thresholds of every row, float64 [T, 1, B, 1] each."""

    position: Tensor
    horizon: Tensor  # the largest age of a residual that still belongs together
    floor: Tensor
    margin: Tensor
    rate: Tensor
    max_deviation: Tensor
    max_skips: Tensor
    budget: Tensor


class Standing(NamedTuple):
    """What holds before any input is looked at, [T, L, B, R] each."""

    meta: Tensor  # float64 [T, L, B, R, len(Meta)], as stored
    held: Tensor  # int64: INVALID, STALE or 0
    age: Tensor  # float64; NaN where nothing is stored
    tau: Tensor  # float32, cosine threshold
    room: Tensor  # float32, what is left of the error budget
    a: Tensor | None  # float64, extrapolation coefficient, where residuals are extrapolated


class Record(NamedTuple):
    """What passes saw and did, [T, L, B, R] each."""

    reason: Tensor  # int64, as counted
    decided: Tensor  # int64, as booked: differs where one block's residual decides for the others
    gated: Tensor  # bool [T, L, B, 1], whether the schedule left the decision to the gate
    cosine: Tensor  # float32
    deviation: Tensor  # float32
    drift: Tensor | None  # float32, where there is a budget
    finite: Tensor  # float64, whether what was stored may be used
    error: Tensor  # float64, of a checked skip
    fit: Tensor | None  # float64, fitted coefficient, where one is fitted


def standing(meta: Tensor, numbers: Numbers, reuse: Reuse) -> Standing:
    """Read the bookkeeping [T, L, B, R, len(Meta)] of all blocks."""
    valid, skips, last, previous, ema, drift, fit = meta.unbind(-1)
    age = numbers.position - last
    stale = (skips >= numbers.max_skips) | (age < 0) | (age > numbers.horizon)
    held = torch.where(valid > 0, stale * int(Reason.STALE), int(Reason.INVALID))
    tau = adaptive_threshold(ema, numbers.floor, numbers.margin).float()
    room = (numbers.budget - drift).float()
    a = None
    if reuse.keeps_previous:
        a = coefficient(reuse, fit, numbers.position, last, previous, numbers.horizon)
    return Standing(meta, held, age, tau, room, a)


def in_one_go(meta: Tensor) -> Tensor:
    """Which blocks were last computed in the same pass as the block before, for every tile: bool [T, L - 1]."""
    stamps = meta[..., Meta.STAMP]
    return (stamps[:, 1:] == stamps[:, :-1]).all(-1).all(-1)


def next_meta(was: Tensor, record: Record, numbers: Numbers) -> Tensor:
    """The bookkeeping [T, L, B, R, len(Meta)] after a pass."""
    valid, skips, last, previous, ema, drift, fit = was.unbind(-1)
    computed, usable = record.decided > 0, valid > 0
    seen = torch.where(usable & record.gated, record.cosine.double(), torch.nan)
    if record.fit is not None:
        fitted = torch.where(computed & usable & torch.isfinite(previous), record.fit, torch.nan)
        fit = update_ema(fit, fitted, numbers.rate)
    if record.drift is not None:
        drift = drift + record.drift
    columns = {
        Meta.VALID: torch.where(computed, record.finite, valid),
        Meta.SKIPS: torch.where(computed, 0.0, skips + 1),
        Meta.STAMP: torch.where(computed, numbers.position, last),
        Meta.PREVIOUS: torch.where(computed, torch.where(usable, last, torch.nan), previous),
        Meta.EMA: update_ema(ema, seen, numbers.rate),
        Meta.DRIFT: torch.where(computed, 0.0, drift),
        Meta.FIT: fit,
    }
    return torch.stack([columns[column] for column in Meta], dim=-1)


def next_seen(record: Record, age: Tensor) -> Tensor:
    """What reports show of a pass, float32 [T, L, B, R, len(Seen)]."""
    columns = {
        Seen.REASON: record.reason,
        Seen.COSINE: record.cosine,
        Seen.DEVIATION: record.deviation,
        Seen.AGE: torch.where(record.reason > 0, 0.0, age),
        Seen.ERROR: torch.where(record.reason == Reason.SHADOW, record.error, torch.nan),
    }
    return torch.stack([columns[column].float() for column in Seen], dim=-1)


def count_reasons(reason: Tensor) -> Tensor:
    """How often each reason occurs among the tiles: int64 [..., B, R] to [..., B, len(Reason)]."""
    codes = torch.arange(len(Reason), device=reason.device)
    return (reason.unsqueeze(-1) == codes).sum(-2)


def checked_errors(seen: Tensor) -> Tensor:
    """Sum and number of the checked skips, from [T, L, B, R, len(Seen)]: float64 [T, L, B, 2]."""
    error = seen[..., Seen.ERROR].double()
    known = torch.isfinite(error)
    return torch.stack([torch.where(known, error, 0.0).sum(-1), known.sum(-1).double()], dim=-1)
