"""Box-filtered patterns: shares of a pixel's footprint, so that nothing flickers. All arguments are [P] or numbers."""

import torch
from torch import Tensor

Number = Tensor | float
Rgb = tuple[float, float, float]


def mix(a: Tensor, b: Tensor | Rgb, share: Tensor) -> Tensor:
    """Colours [3, P]: `a` where share is 0, `b` (also one colour) where it is 1."""
    target = b if isinstance(b, Tensor) else a.new_tensor(b)[:, None]
    return a + (target - a) * share


def glowing(rgb: Rgb, share: Tensor) -> Tensor:
    """Own light [3, P] of one colour."""
    return share.new_tensor(rgb)[:, None] * share


def dimmed(factor: float, share: Tensor) -> Tensor:
    """Multiplier [P]: 1 where share is 0, the factor where it is 1."""
    return 1 + (factor - 1) * share


def band(x: Tensor, low: Number, high: Number, footprint: Tensor) -> Tensor:
    """Share of a footprint around x that lies between two values."""
    return above(x, low, footprint) - above(x, high, footprint)


def above(x: Tensor, low: Number, footprint: Tensor) -> Tensor:
    """Share of a footprint around x that lies above a value."""
    return ((x - low) / footprint).add_(0.5).clamp_(0.0, 1.0)


def disc(x: Tensor, y: Tensor, radius: Number, footprint: Tensor) -> Tensor:
    """Share of a footprint around (x, y) inside a disc around the origin."""
    return ((radius - (x * x + y * y).sqrt()) / footprint).add_(0.5).clamp_(0.0, 1.0)


def pulse(x: Tensor, period: Number, start: Number, end: Number, footprint: Tensor) -> Tensor:
    """Box-filtered pulse train: share of a footprint around x that lies in [start, end) of every period."""
    middle, half = x / period, footprint / (2 * period)
    a, length = start / period, (end - start) / period
    high, low = _pulse_integral(middle + half, a, length), _pulse_integral(middle - half, a, length)
    return (high - low) / (2 * half)


def _pulse_integral(x: Tensor, start: Number, length: Number) -> Tensor:
    whole = x.floor()
    inside = (x - whole - start).clamp_min_(0.0)
    limited = torch.minimum(inside, length) if isinstance(length, Tensor) else inside.clamp_max_(length)
    return limited.add_(whole * length)


def scatter01(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """A fixed pseudo-random number 0..1 per triple of whole numbers."""
    mixed = a.to(torch.int32) * 73856093 ^ b.to(torch.int32) * 19349663 ^ c.to(torch.int32) * 83492791
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed >> 8) & 0xFFFF).to(torch.float32).mul_(1 / 65535)
