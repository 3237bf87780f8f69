"""Loss terms as pure functions."""

import torch.nn.functional as F
from torch import Tensor

from ..model.config import RASTER_STRIDE


def reconstruction_loss(made: Tensor, true: Tensor, weight: Tensor, gradient_weight: float) -> Tensor:
    """L1 plus L1 of image gradients at three scales.

    Args:
        made: [B, F, 3, H, W].
        true: the same shape.
        weight: [B, F, 1, H, W], about 1 on average, more where small things matter.
        gradient_weight: share of the gradient term.
    """
    error = (made - true).flatten(
        1, 2
    )  # differences are linear: gradients of the error are errors of the gradients
    weight = weight.expand(-1, -1, 3, -1, -1).flatten(1, 2)
    loss = (error.abs() * weight).mean()
    for scale in range(3):
        if scale:
            error, weight = F.avg_pool2d(error, 2), F.avg_pool2d(weight, 2)
        across = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
        down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
        loss = loss + gradient_weight / 3 * (across.mean() + down.mean())
    return loss


def energy_loss(made: Tensor, true: Tensor) -> Tensor:
    """How far the strength of texture and of motion is off, place by place, whatever their phase.

    What cannot be known is best blurred, says a loss of errors alone; blurred things seem to stand still.

    Args:
        made: [B, F, 3, H, W].
        true: the same shape.

    Returns:
        [B].
    """
    loss = made.new_zeros(len(made))
    for axis in (-1, -2, 1):  # across, down, from frame to frame
        mine, theirs = (_strength(images.diff(dim=axis)) for images in (made, true))
        loss = loss + (mine - theirs).abs().unflatten(0, (len(made), -1)).flatten(1).mean(dim=1)
    return loss


def _strength(differences: Tensor) -> Tensor:
    """Mean magnitude over patches of two raster cells."""
    return F.avg_pool2d(differences.abs().flatten(0, 2)[:, None], 2 * RASTER_STRIDE)


def detail_weights(details: Tensor, extra: float) -> Tensor:
    """Where paint and agents are: more weight, and 1 on average.

    Args:
        details: [B, F, h, w] in [0, 1] at raster resolution.
        extra: weight added where details is 1.

    Returns:
        [B, F, 1, 4 h, 4 w].
    """
    weight = 1 + extra * details
    weight = weight / weight.mean()
    return F.interpolate(weight, scale_factor=RASTER_STRIDE, mode="nearest")[:, :, None]


def noise_weight(tau: Tensor, floor: float) -> Tensor:
    """Weight of a noise level: `floor` for pure noise, 1 for none (Dreamer 4, 2509.24527, with floor 0.1)."""
    return floor + (1 - floor) * tau


def psnr(made: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [dB] of images in [0, 1], over everything given."""
    return -10 * (made.float() - true.float()).square().mean().clamp_min(1e-10).log10()
