"""Why a block was computed for one tile of one session, or that it was skipped."""

from enum import IntEnum


class Reason(IntEnum):
    """Where several apply the highest is reported. Everything but `SKIPPED` is computed.

    From `STEP0` up the schedule alone decides, before the input is looked at.
    """

    SKIPPED = 0
    SHADOW = 1  # would have been skipped; computed to measure the error of skipping
    PADDING = 2  # would have been skipped; computed to fill a static bucket size
    DEVIATION = 3  # a token moved too far
    COSINE = 4  # some fingerprint entry turned too far
    OCCLUDED = 5  # too much of the transported residual has no source
    STALE = 6  # too many skips in a row, too old, or the error budget is spent
    INVALID = 7  # nothing is stored yet, or something is not finite
    STEP0 = 8
    ANCHOR = 9
    WARM_UP = 10
    KV_UPDATE = 11
    OFF = 12

    @property
    def label(self) -> str:
        """The name used in reports."""
        return self.name.lower()


def is_forced(code: int) -> bool:
    """Whether a code leaves the gate nothing to decide."""
    return code >= Reason.STEP0
