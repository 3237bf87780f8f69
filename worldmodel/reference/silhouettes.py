"""Shapes cut out of their faces: trees, people, posts, signs. Signed distances turned into coverage.

All functions take metres on the face (u right, v up) and the pixel's footprint there, and return coverage 0..1.
"""

import torch
from torch import Tensor

from .faces import Kind
from .patterns import pulse


def alpha(
    kind: Tensor,
    attributes: Tensor,
    u: Tensor,
    v: Tensor,
    width: Tensor,
    height: Tensor,
    fu: Tensor,
    fv: Tensor,
) -> Tensor:
    """Coverage [C, 64] of shaped faces.

    Args:
        kind: [C]; attributes: [C, 5]; u, v, fu, fv: [C, 64] metres; width, height: [C, 1].
    """
    coverage = torch.ones_like(u)
    for shape, function in _SHAPES.items():
        index = (kind == shape).nonzero(as_tuple=True)[0]
        if len(index):
            given = (t[index] for t in (attributes, u, v, width, height, fu, fv))
            coverage[index] = function(*given)
    return coverage


def _cover(inside_m: Tensor, footprint: Tensor) -> Tensor:
    """Coverage from the depth inside a shape (negative outside)."""
    return (inside_m / footprint + 0.5).clamp(0.0, 1.0)


def _ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Approximate depth inside an ellipse [m]."""
    radius = ((x / rx) ** 2 + (y / ry) ** 2).sqrt().clamp_min(1e-4)
    scale = ((x / rx**2) ** 2 + (y / ry**2) ** 2).sqrt().clamp_min(1e-4)
    return (1 - radius) * radius / scale


def _capsule(x: Tensor, y: Tensor, ax: Tensor | float, ay: Tensor | float, bx: Tensor | float, by: Tensor | float, r: Tensor | float) -> Tensor:  # fmt: skip
    """Depth inside a thick segment from a to b [m]."""
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0)
    return r - ((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2).sqrt()


def _posts(_: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor) -> Tensor:
    """A thin post every two metres."""
    return pulse(u, 2.0, 0.0, 0.14, fu)


def _tree(a: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor) -> Tensor:
    """A lobed crown on a trunk."""
    style = a[:, 0:1]
    x, y = (u - width / 2) / (0.47 * width), (v - 0.62 * height) / (0.37 * height)
    lobes = 1 + 0.09 * torch.sin(7 * x + style) * torch.sin(6 * y + 2.3 * style)
    crown = _ellipse(x * 0.47 * width, y * 0.37 * height, 0.47 * width * lobes, 0.37 * height * lobes)
    return torch.maximum(_cover(crown, torch.maximum(fu, fv)), _trunk(u, v, width, height, fu))


def _conifer(
    a: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor
) -> Tensor:
    """A cone with ragged edges on a trunk."""
    low = 0.2 * height
    edge = 0.5 * width * (height - v) / (height - low) * (0.86 + 0.14 * torch.sin(v * 5 + a[:, 0:1]))
    cone = 0.9 * torch.minimum(edge - (u - width / 2).abs(), v - low)
    return torch.maximum(_cover(cone, torch.maximum(fu, fv)), _trunk(u, v, width, height, fu))


def _trunk(u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor) -> Tensor:
    half = 0.06 * width.clamp(max=4.0)
    return _cover(torch.minimum(half - (u - width / 2).abs(), 0.5 * height - v), fu)


def _pedestrian(
    a: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor
) -> Tensor:
    h, x, size = height, u - width / 2, torch.maximum(fu, fv)
    swing = 0.13 * h * torch.sin(a[:, 0:1])
    head = _ellipse(x, v - 0.925 * h, 0.062 * h, 0.075 * h)
    torso = _capsule(x, v, 0.0, 0.58 * h, 0.0, 0.76 * h, 0.105 * h)
    legs = torch.maximum(
        _capsule(x, v, 0.04 * h, 0.47 * h, swing + 0.03 * h, 0.03 * h, 0.05 * h),
        _capsule(x, v, -0.04 * h, 0.47 * h, -swing - 0.03 * h, 0.03 * h, 0.05 * h),
    )
    arms = torch.maximum(
        _capsule(x, v, 0.12 * h, 0.77 * h, 0.14 * h - 0.6 * swing, 0.48 * h, 0.035 * h),
        _capsule(x, v, -0.12 * h, 0.77 * h, -0.14 * h - 0.6 * swing, 0.48 * h, 0.035 * h),
    )
    return _cover(torch.stack([head, torso, legs, arms]).amax(0), size)


def _cyclist(
    a: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor
) -> Tensor:
    h, x, size = height, u - width / 2, torch.maximum(fu, fv)
    swing = 0.07 * h * torch.sin(a[:, 0:1])
    head = _ellipse(x, v - 0.92 * h, 0.065 * h, 0.075 * h)
    torso = _capsule(x, v, 0.0, 0.56 * h, 0.0, 0.78 * h, 0.11 * h)
    wheel = _ellipse(x, v - 0.19 * h, 0.05 * h, 0.19 * h)
    legs = torch.maximum(
        _capsule(x, v, 0.05 * h, 0.52 * h, 0.07 * h, 0.2 * h + swing, 0.045 * h),
        _capsule(x, v, -0.05 * h, 0.52 * h, -0.07 * h, 0.2 * h - swing, 0.045 * h),
    )
    bars = _capsule(x, v, -0.16 * h, 0.6 * h, 0.16 * h, 0.6 * h, 0.02 * h)
    return _cover(torch.stack([head, torso, wheel, legs, bars]).amax(0), size)


def _sign(a: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor) -> Tensor:
    """A disc or a square plate at the top of a thin post."""
    x, y, half = u - width / 2, v - (height - width / 2), width / 2
    disc = half - (x * x + y * y).sqrt()
    square = half - torch.maximum(x.abs(), y.abs())
    plate = torch.where(a[:, 0:1] % 2 < 0.5, disc, square)
    post = torch.minimum(0.04 - x.abs(), height - half - v)
    return torch.maximum(_cover(plate, torch.maximum(fu, fv)), _cover(post, fu) * (0.08 / fu).clamp(max=1.0))


def _shadow(a: Tensor, u: Tensor, v: Tensor, width: Tensor, height: Tensor, fu: Tensor, fv: Tensor) -> Tensor:
    """A soft-edged rectangle."""
    soft = a[:, 1:2]
    along = (torch.minimum(u, width - u) / soft).clamp(0, 1)
    across = (torch.minimum(v, height - v) / soft).clamp(0, 1)
    return a[:, 0:1] * along * across


_SHAPES = {
    Kind.POSTS: _posts,
    Kind.TREE: _tree,
    Kind.CONIFER: _conifer,
    Kind.PEDESTRIAN: _pedestrian,
    Kind.CYCLIST: _cyclist,
    Kind.SIGN: _sign,
    Kind.SHADOW: _shadow,
}
