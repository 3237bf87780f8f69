"""Buildings, plants, people and street furniture. Each function returns colour and own light (None: no light)."""

import torch
from torch import Tensor

from .patterns import above, band, dimmed, disc, glowing, mix, pulse, scatter01
from .samples import Samples

_SIGNAL_COLORS = ((255.0, 44.0, 36.0), (255.0, 196.0, 44.0), (54.0, 244.0, 128.0))
_TALL_M = 6.5  # from here on a building has a high ground floor


def facade(s: Samples) -> tuple[Tensor, Tensor]:
    """Walls with rows of windows, a ground floor with doors or shops, ledges and a cornice."""
    pitch, floor = s.attribute(1), s.attribute(2)
    ground = torch.where(s.height > _TALL_M, 1.15 * floor, floor)
    low = 1 - above(s.v, ground, s.fv)
    windows = _upper_windows(s, pitch, floor, ground)
    shop = s.attribute(4)
    entrance = _ground_openings(s, pitch, ground, shop) * low
    ledge = pulse(s.v - ground, floor, 0.0, 0.22, s.fv) * (1 - low)
    tone = dimmed(1.13, ledge) * dimmed(0.92, low) * dimmed(0.74, above(s.v, s.height - 0.4, s.fv))
    tone *= dimmed(0.86, 1 - above(s.v, 0.5, s.fv))
    return _glazed(s, s.color * tone, windows, entrance, pitch, floor, ground)


def _upper_windows(s: Samples, pitch: Tensor, floor: Tensor, ground: Tensor) -> Tensor:
    margin = (1 - s.attribute(3)) / 2 * pitch
    across = pulse(s.u, pitch, margin, pitch - margin, s.fu)
    up = pulse(s.v - ground, floor, 0.28 * floor, 0.82 * floor, s.fv)
    return across * up * band(s.v, ground, s.height - 0.4, s.fv)


def _ground_openings(s: Samples, pitch: Tensor, ground: Tensor, shop: Tensor) -> Tensor:
    """Shop windows where there are shops, else small windows and a door in every third bay."""
    margin = torch.where(shop > 0, 0.12 * pitch, 0.26 * pitch)
    across = pulse(s.u, pitch, margin, pitch - margin, s.fu)
    bottom, top = torch.where(shop > 0, 0.5, 1.0), torch.where(shop > 0, 0.80 * ground, 2.3)
    window = across * band(s.v, bottom, top, s.fv)
    door = pulse(s.u - 1.3 * pitch, 3 * pitch, 0.0, 1.2, s.fu) * (1 - above(s.v, 2.2, s.fv)) * (1 - shop)
    return torch.maximum(window, door)


def _glazed(
    s: Samples, color: Tensor, windows: Tensor, entrance: Tensor, pitch: Tensor, floor: Tensor, ground: Tensor
) -> tuple[Tensor, Tensor]:
    """Glass of a slightly different shade per window; after dark some are lit."""
    chance = scatter01((s.u / pitch).floor(), ((s.v - ground) / floor).floor(), s.attribute(0))
    # A pixel that holds a window or more shows the mean of all windows.
    sharp = (1.6 - 1.6 * torch.maximum(s.fu / pitch, s.fv / floor)).clamp_(0, 1)
    tone = 1 + 0.6 * (chance - 0.5) * sharp
    pane = s.u.new_tensor((44.0, 54.0, 66.0))[:, None] * tone + s.horizon * 0.12
    lit = torch.lerp(torch.full_like(sharp, 0.38), (chance > 0.62).float(), sharp)
    glow = (windows * lit).add_(entrance, alpha=0.8).mul_(0.8 * s.lamps)
    return mix(color, pane, torch.maximum(windows, entrance)), glowing((244.0, 196.0, 112.0), glow)


def roof(s: Samples) -> tuple[Tensor, None]:
    """Flat and darker than the walls."""
    return s.color * 0.6, None


def wall(s: Samples) -> tuple[Tensor, None]:
    """Masonry or planks with joints and a light coping."""
    joints = torch.maximum(pulse(s.u, 3.0, 0.0, 0.12, s.fu), pulse(s.v, 0.6, 0.0, 0.06, s.fv))
    return s.color * (dimmed(0.7, joints) * dimmed(1.15, above(s.v, s.height - 0.15, s.fv))), None


def hedge(s: Samples) -> tuple[Tensor, None]:
    """Leaves, lighter towards the top."""
    return s.color * (0.72 + 0.36 * s.rise + 0.16 * _leaves(s, 0.5)), None


def tree(s: Samples) -> tuple[Tensor, None]:
    """Leaves lighter towards the top and the left; below the crown the trunk shows."""
    x = s.u / s.width - 0.5
    tone = 0.55 + 0.55 * s.rise - 0.22 * x + 0.20 * _leaves(s, 1.1) + 0.10 * _leaves(s, 0.5)
    trunk = (1 - above(s.rise, 0.26, s.fv / s.height)) * (1 - above(x.abs() * s.width, 0.3, s.fu))
    return mix(s.color * tone, (84.0, 66.0, 50.0), trunk), None


def _leaves(s: Samples, scale_m: float) -> Tensor:
    """A light and dark mottle -1..1 that fades where it is finer than a pixel."""
    style, fade = s.attribute(0), (1 - torch.maximum(s.fu, s.fv) / scale_m).clamp_(0, 1)
    a = torch.sin(s.u * (5.2 / scale_m) + 1.7 * style + 1.3 * torch.sin(s.v * (3.1 / scale_m) + style))
    b = torch.sin(s.v * (6.1 / scale_m) + 0.9 * style + 1.1 * torch.sin(s.u * (4.3 / scale_m)))
    return a * b * fade


def person(s: Samples) -> tuple[Tensor, None]:
    """Hair, skin, a coloured top, trousers, shoes."""
    h, f = s.v / s.height, s.fv / s.height
    trousers = s.u.new_tensor((44.0, 48.0, 66.0))[:, None] + 23.0 * (s.attribute(1) % 3)
    color = mix(s.color, trousers, 1 - above(h, 0.50, f))
    color = mix(color, (28.0, 26.0, 26.0), 1 - above(h, 0.05, f))
    color = mix(color, (206.0, 160.0, 128.0), band(h, 0.845, 0.955, f))
    return mix(color, (58.0, 44.0, 34.0), above(h, 0.955, f)), None


def rail(s: Samples) -> tuple[Tensor, None]:
    """A beam with a dark groove."""
    return s.color * dimmed(0.62, band(s.rise, 0.38, 0.62, s.fv / s.height)), None


def posts(s: Samples) -> tuple[Tensor, None]:
    """Darker than the beam they carry."""
    return s.color * 0.55, None


def lamp_head(s: Samples) -> tuple[Tensor, Tensor]:
    """A street lamp, lit after dark."""
    return s.color * 0.9, glowing((255.0, 226.0, 168.0), torch.ones_like(s.u) * s.lamps)


def signal(s: Samples) -> tuple[Tensor, Tensor]:
    """Three lamps from the top: red, yellow, green; the one that is on has a halo."""
    size, state = torch.maximum(s.fu, s.fv), s.attribute(0).round()
    color, glow = s.color, torch.zeros_like(s.color)
    for code, rgb in enumerate(_SIGNAL_COLORS):
        x, y = s.u - s.width / 2, s.v - s.height * (0.83 - 0.33 * code)
        lamp = disc(x, y, 0.21, size)
        color = mix(color, (0.16 * rgb[0], 0.16 * rgb[1], 0.16 * rgb[2]), lamp)
        halo = torch.exp(-(x * x + y * y) / 0.09) * 0.55
        glow += glowing(rgb, torch.maximum(lamp, halo) * (state == code))
    return color, glow


def sign(s: Samples) -> tuple[Tensor, None]:
    """A coloured plate with a light middle in front, grey behind; a grey post."""
    x, y = s.u - s.width / 2, s.v - (s.height - s.width / 2)
    plate = mix(s.color, (238.0, 238.0, 236.0), disc(x, y, 0.30 * s.width, torch.maximum(s.fu, s.fv)))
    grey = (s.attribute(1) > 0.5) | (s.v < s.height - s.width)
    return torch.where(grey, s.u.new_tensor((128.0, 130.0, 132.0))[:, None], plate), None
