"""Errors put together over a drive: pooled, so that neither a standing car nor an equal picture decides a mean."""

from collections.abc import Sequence

import torch

from .images import MAX_PSNR_DB

MOVING_M, TURNING_RAD = 0.05, 0.01  # per frame: smaller true motion does not divide an error
PAIR_SHARE = 0.5  # of the true difference that a counterfactual pair must show to count as right


def relative_error(found: Sequence[float], wanted: Sequence[float], floor: float) -> float:
    """Mean absolute error over the mean size of what was wanted, or over `floor` where that is larger."""
    if not found or len(found) != len(wanted):
        raise ValueError(
            f"expected as many values found as wanted, at least one, got {len(found)}, {len(wanted)}"
        )
    pairs = torch.tensor([found, wanted], dtype=torch.float64)
    return float((pairs[0] - pairs[1]).abs().mean() / pairs[1].abs().mean().clamp_min(floor))


def pair_is_right(found: tuple[float, float], wanted: tuple[float, float]) -> bool:
    """Whether two commands lead apart as they should: the right way, and at least half as far."""
    return (found[0] - found[1]) / (wanted[0] - wanted[1]) >= PAIR_SHARE


def mean_square(images: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean squared error of 0..255 pictures of one shape, in squared grey levels."""
    return float((images.float() - reference.float()).square().mean())


def psnr_of(mean_squares: Sequence[float]) -> float:
    """PSNR of the mean of mean squared errors [dB]."""
    error = sum(mean_squares) / len(mean_squares)
    return min(MAX_PSNR_DB, float(10 * torch.log10(torch.tensor(255.0**2 / max(error, 1e-12)))))
