"""Looking at one block's input: take its fingerprint, compare it, judge. One pure function, so that it can be compiled."""

from collections.abc import Callable

import torch
from torch import Tensor

from .fingerprint import Fingerprint, fingerprint
from .gate import Comparison, Gate, Verdict

Examine = Callable[
    [Gate, Tensor, Tensor, Tensor, Fingerprint, Tensor | None, Tensor, Tensor], tuple[Fingerprint, Verdict]
]


def examine(
    gate: Gate,
    tiles: Tensor,
    samples: Tensor,
    members: Tensor,
    old: Fingerprint,
    action_cosine: Tensor | None,
    tau: Tensor,
    max_deviation: Tensor,
) -> tuple[Fingerprint, Verdict]:
    """Fingerprint of tiles [B, R, Vt, Nt, C] and the gate's verdict on it, for a gate that measures.

    `samples` int64 [K], `members` float32 [Vt, G], `action_cosine` and `tau` float32 [B, R], `max_deviation` [B, 1].
    """
    now = fingerprint(tiles, samples, members)
    return now, gate.judge(Comparison(now, old, members, action_cosine), tau, max_deviation, (0, 0))


def compiled() -> Examine:
    """The same function, fused by `torch.compile`: a few kernels instead of dozens; seconds for the first call."""
    return torch.compile(examine, dynamic=False)
