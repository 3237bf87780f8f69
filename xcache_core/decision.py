"""What was decided about one block."""

from dataclasses import dataclass

from torch import Tensor

from .fingerprint import Fingerprint
from .gate import Verdict


@dataclass
class Decision:
    """One entry per tile, [B, R] each unless said otherwise."""

    reason: Tensor  # int64, 0 is a skip
    forced: Tensor  # int64 [B, 1], the schedule's word
    verdict: Verdict
    rate: Tensor  # float64 [B, 1], of the EMA
    age: Tensor  # float64, of the stored residual; NaN: there is none
    meta: Tensor  # float64 [B, R, len(Meta)], the bookkeeping as it was
    now: Fingerprint | None  # of the input, when fingerprints are taken at this block
    outcome: Tensor  # float64 [B * R, 3], filled in when residuals are kept: finite, relative error, fit
    moved: Tensor | None = None  # the transported residual, [B, R, Vt, Nt, C]
    checked: Tensor | None = None  # what a skip would have used, when skips are checked here
