"""Bodywork, glass, wheels and lamps of vehicles. Each function returns colour and own light (None: no light)."""

import torch
from torch import Tensor

from .patterns import above, band, dimmed, disc, glowing, mix, pulse
from .samples import Samples

_RUBBER, _RIM, _SILL = (16.0, 16.0, 18.0), (126.0, 128.0, 132.0), (26.0, 26.0, 29.0)
_SILL_M = 0.25


def paint(s: Samples) -> tuple[Tensor, None]:
    """One colour."""
    return s.color, None


def side(s: Samples) -> tuple[Tensor, None]:
    """Body side: lighter towards the shoulder, door gaps, dark sill, wheels with rims."""
    along = _from_front(s)
    doors = pulse(along, 1.15, 0.0, 0.05, s.fu) * band(s.v, 0.35, 2.0, s.fv)
    color = s.color * ((0.82 + 0.26 * s.rise) * dimmed(0.6, doors))
    return _wheels(s, mix(color, _SILL, 1 - above(s.v, _SILL_M, s.fv)), along), None


def bus_side(s: Samples) -> tuple[Tensor, Tensor]:
    """A body side with a band of windows, lit after dark, over a light stripe."""
    color, _ = side(s)
    pane = band(s.v, 0.42 * s.height, 0.80 * s.height, s.fv) * pulse(s.u, 1.5, 0.08, 1.42, s.fu)
    color = mix(color, (38.0, 46.0, 56.0), pane)
    color = mix(color, (236.0, 236.0, 236.0), 0.5 * band(s.v, 0.34 * s.height, 0.38 * s.height, s.fv))
    return color, glowing((150.0, 138.0, 100.0), pane * (0.6 * s.lamps))


def front(s: Samples) -> tuple[Tensor, Tensor]:
    """Head lamps, grille, number plate; on tall vehicles a windscreen."""
    glass, on = s.attribute(0), s.attribute(1)
    top, x, fx = s.height * (1 - glass), *_across(s)
    color = mix(s.color * (0.80 + 0.26 * s.rise), _SILL, 1 - above(s.v, _SILL_M, s.fv))
    color = mix(color, (30.0, 30.0, 33.0), band(s.v, 0.42 * top, 0.66 * top, s.fv) * (1 - above(x, 0.27, fx)))
    color = mix(color, (214.0, 214.0, 208.0), band(s.v, 0.30, 0.42, s.fv) * (1 - above(x, 0.14, fx)))
    color = _end_window(s, color, glass, top, x, fx)
    lamp = band(s.v, 0.58 * top, 0.80 * top, s.fv) * band(x, 0.30, 0.47, fx)
    color = mix(color, (226.0, 230.0, 234.0), lamp)
    return color, glowing((330.0, 320.0, 280.0), lamp * on * s.lamps)


def rear(s: Samples) -> tuple[Tensor, Tensor]:
    """Tail lamps that light when braking, number plate; on tall vehicles a rear window."""
    braking, glass, on = s.attribute(0), s.attribute(1), s.attribute(2)
    top, x, fx = s.height * (1 - glass), *_across(s)
    lit_top = top.clamp(max=1.3)
    seam = band(s.v, 0.50 * lit_top, 0.54 * lit_top, s.fv)
    color = s.color * ((0.78 + 0.26 * s.rise) * dimmed(0.7, seam))
    color = mix(color, _SILL, 1 - above(s.v, _SILL_M, s.fv))
    plate = band(s.v, 0.56 * lit_top, 0.70 * lit_top, s.fv) * (1 - above(x, 0.15, fx))
    color = _end_window(s, mix(color, (214.0, 212.0, 200.0), plate), glass, top, x, fx)
    lamp = band(s.v, 0.56 * lit_top, 0.92 * lit_top, s.fv) * band(x, 0.28, 0.49, fx)
    glow = glowing((255.0, 34.0, 26.0), lamp * torch.maximum(braking, 0.42 * on * s.lamps))
    glow += glowing((60.0, 40.0, 32.0), lamp * braking)
    return mix(color, (146.0, 18.0, 20.0), lamp), glow


def glass_side(s: Samples) -> tuple[Tensor, None]:
    """Side windows between pillars; the rest of the panel is body."""
    along, fx = _from_front(s) / s.width, s.fu / s.width
    first, last, pillars = s.attribute(1), s.attribute(2), s.attribute(3)
    pane = band(along, first, last, fx) * band(s.v, 0.08 * s.height, 0.88 * s.height, s.fv)
    middle = (first + last) / 2
    pane = pane * (1 - band(along, middle - 0.02, middle + 0.02, fx) * (pillars > 1))
    return mix(s.color, _pane(s), pane), None


def glass(s: Samples) -> tuple[Tensor, None]:
    """A windscreen or rear window in its frame."""
    x, fx = _across(s)
    pane = band(s.v, 0.06 * s.height, 0.92 * s.height, s.fv) * (1 - above(x, 0.46, fx))
    return mix(s.color * 0.9, _pane(s), pane), None


def _from_front(s: Samples) -> Tensor:
    """Distance from the vehicle's front along a side."""
    return torch.where(s.attribute(0) > 0.5, s.u, s.width - s.u)


def _across(s: Samples) -> tuple[Tensor, Tensor]:
    """Distance from the middle of an end, 0 to 0.5, and its footprint."""
    return (s.u / s.width - 0.5).abs(), s.fu / s.width


def _wheels(s: Samples, color: Tensor, along: Tensor) -> Tensor:
    radius, size = s.attribute(1), torch.maximum(s.fu, s.fv)
    for axle in (s.attribute(2), s.attribute(3)):
        x, y = along - axle * s.width, s.v - radius
        color = mix(color, _RUBBER, disc(x, y, radius * 1.12, size))
        color = mix(color, _RIM, disc(x, y, radius * 0.55, size))
    return color


def _end_window(s: Samples, color: Tensor, glass: Tensor, top: Tensor, x: Tensor, fx: Tensor) -> Tensor:
    """The window in the front or rear of a van, truck or bus."""
    pane = band(s.v, top, 0.93 * s.height, s.fv) * (1 - above(x, 0.45, fx)) * (glass > 0)
    return mix(color, (38.0, 48.0, 59.0), pane)


def _pane(s: Samples) -> Tensor:
    """Dark glass that mirrors more sky towards its top."""
    dark = s.u.new_tensor((30.0, 37.0, 45.0))[:, None]
    return dark + s.u.new_tensor((53.0, 60.0, 68.0))[:, None] * s.rise
