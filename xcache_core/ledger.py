"""The bookkeeping as arithmetic: what the stored numbers of all blocks allow, and what they become after a pass.

Both run once per pass for all blocks together, so that a block pays only for comparing its input.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .gate import adaptive_threshold, update_ema
from .reason import Reason
from .reuse import Reuse, coefficient
from .store import Meta, Seen


class Numbers(NamedTuple):
    """Position in time and thresholds of every row, float64 [B, 1] each."""

    position: Tensor
    horizon: Tensor  # the largest age of a residual that still belongs together
    floor: Tensor
    margin: Tensor
    rate: Tensor
    max_deviation: Tensor
    max_skips: Tensor
    budget: Tensor


class Standing(NamedTuple):
    """What holds before any input is looked at, [L, B, R] each."""

    meta: Tensor  # float64 [L, B, R, len(Meta)], as stored
    held: Tensor  # int64: INVALID, STALE or 0
    age: Tensor  # float64; NaN where nothing is stored
    tau: Tensor  # float32, cosine threshold
    room: Tensor  # float32, what is left of the error budget
    a: Tensor  # float64, extrapolation coefficient


class Record(NamedTuple):
    """What a pass saw and did at some blocks, [n, B, R] each."""

    reason: Tensor  # int64, as counted
    decided: Tensor  # int64, as booked: differs where one block's residual decides for the others
    gated: Tensor  # bool [n, B, 1], whether the schedule left the decision to the gate
    cosine: Tensor  # float32
    deviation: Tensor  # float32
    drift: Tensor  # float32
    finite: Tensor  # float64, whether what was stored may be used
    error: Tensor  # float64, of a checked skip
    fit: Tensor  # float64, fitted coefficient


def standing(meta: Tensor, numbers: Numbers, reuse: Reuse) -> Standing:
    """Read the bookkeeping [L, B, R, len(Meta)] of all blocks."""
    age = numbers.position - meta[..., Meta.STAMP]
    stale = (meta[..., Meta.SKIPS] >= numbers.max_skips) | (age < 0) | (age > numbers.horizon)
    held = torch.where(meta[..., Meta.VALID] > 0, stale * int(Reason.STALE), int(Reason.INVALID))
    tau = adaptive_threshold(meta[..., Meta.EMA], numbers.floor, numbers.margin).float()
    room = (numbers.budget - meta[..., Meta.DRIFT]).float()
    last, previous, fit = meta[..., Meta.STAMP], meta[..., Meta.PREVIOUS], meta[..., Meta.FIT]
    return Standing(
        meta, held, age, tau, room, coefficient(reuse, fit, numbers.position, last, previous, numbers.horizon)
    )


def next_meta(was: Tensor, record: Record, numbers: Numbers) -> Tensor:
    """The bookkeeping [n, B, R, len(Meta)] after a pass."""
    computed, usable = record.decided > 0, was[..., Meta.VALID] > 0
    seen = torch.where(usable & record.gated, record.cosine.double(), torch.nan)
    fit = torch.where(computed & usable & torch.isfinite(was[..., Meta.PREVIOUS]), record.fit, torch.nan)
    replaced = torch.where(usable, was[..., Meta.STAMP], torch.nan)
    columns = {
        Meta.VALID: torch.where(computed, record.finite, was[..., Meta.VALID]),
        Meta.SKIPS: torch.where(computed, 0.0, was[..., Meta.SKIPS] + 1),
        Meta.STAMP: torch.where(computed, numbers.position, was[..., Meta.STAMP]),
        Meta.PREVIOUS: torch.where(computed, replaced, was[..., Meta.PREVIOUS]),
        Meta.EMA: update_ema(was[..., Meta.EMA], seen, numbers.rate),
        Meta.DRIFT: torch.where(computed, 0.0, was[..., Meta.DRIFT] + record.drift),
        Meta.FIT: update_ema(was[..., Meta.FIT], fit, numbers.rate),
    }
    return torch.stack([columns[column] for column in Meta], dim=-1)


def next_seen(record: Record, age: Tensor) -> Tensor:
    """What reports show of a pass, float32 [n, B, R, len(Seen)]."""
    columns = {
        Seen.REASON: record.reason,
        Seen.COSINE: record.cosine,
        Seen.DEVIATION: record.deviation,
        Seen.AGE: torch.where(record.reason > 0, 0.0, age),
        Seen.ERROR: torch.where(record.reason == Reason.SHADOW, record.error, torch.nan),
    }
    return torch.stack([columns[column].float() for column in Seen], dim=-1)
