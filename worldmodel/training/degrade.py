"""Make clean history look like generated history: the network must repair what it is shown, not trust it.

What rollouts do to pictures: they blur, shift in colour, grain, and lose regions. Each clip of a batch draws its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_GRAIN = 0.06


def degrade_images(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Degrade the images that the history of some rows is carried from.

    Args:
        images: float [B, V, T, 3, H, W] in [0, 1].
        share: probability that a row is degraded at all.
        generator: source of randomness.

    Returns:
        The same shape.
    """
    chosen = torch.rand(len(images), generator=generator) < share
    strength = torch.rand(len(images), 3, generator=generator) ** 2  # mostly mild
    result = images.clone()
    for row in torch.nonzero(chosen)[:, 0].tolist():
        blur, shift, grain = strength[row].tolist()
        one = _shift_colour(_blur(images[row], blur), shift, generator)
        result[row] = one + grain * _GRAIN * torch.randn(one.shape, generator=generator)
    return result.clamp(0, 1)


def kept_regions(valid: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Zero in random patches of 4 x 4 raster cells of some rows, the same in all frames of a latent frame.

    Args:
        valid: float [B, V, T, F, h, w].
        share: probability that a row loses anything.
        generator: source of randomness.

    Returns:
        [B, V, T, 1, h, w] of 0 and 1.
    """
    chosen = torch.rand(len(valid), generator=generator) < share
    rate = 0.25 * torch.rand(len(valid), generator=generator) ** 2 * chosen
    rows, columns = valid.shape[-2] // 4, valid.shape[-1] // 4
    drawn = torch.rand(*valid.shape[:3], 1, rows, columns, generator=generator)
    kept = (drawn >= rate[:, None, None, None, None, None]).to(valid.dtype)
    return kept.repeat_interleave(4, -1).repeat_interleave(4, -2)


def _blur(images: Tensor, amount: float) -> Tensor:
    """Mix [V, T, 3, H, W] with a 3x3 mean."""
    flat = images.flatten(0, 1)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1).reshape(images.shape)
    return torch.lerp(images, soft, amount)


def _shift_colour(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Gain and offset per view and channel."""
    shape = (images.shape[0], 1, 3, 1, 1)
    gain = 1 + 0.2 * amount * torch.randn(shape, generator=generator)
    offset = 0.08 * amount * torch.randn(shape, generator=generator)
    return images * gain + offset
