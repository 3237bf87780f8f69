"""What faces look like: colour and own light by kind, from the position on the face. Box-filtered, so nothing flickers.

Colours are planar float32 [3, P], 0..255.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .faces import Kind
from .silhouettes import pulse


@dataclass(frozen=True)
class Samples:
    """P samples of faces of one kind."""

    u: Tensor
    v: Tensor
    width: Tensor
    height: Tensor
    fu: Tensor  # footprint along u [m]
    fv: Tensor
    color: Tensor  # [3, P]
    attributes: Tensor  # [5, P]


@dataclass(frozen=True)
class SampleLight:
    """What the atmosphere adds to P samples."""

    lamps: Tensor  # [P] 0 off, 1 on
    horizon: Tensor  # [3, P] sky colour that glass mirrors

    def at(self, index: Tensor) -> "SampleLight":
        """Some of the samples."""
        return SampleLight(self.lamps[index], self.horizon[:, index])


Surface = Callable[[Samples, SampleLight], tuple[Tensor, Tensor]]


def shade_kinds(kind: Tensor, samples: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Colour and own light, each [3, P], of samples of any kinds."""
    color, glow = samples.color.clone(), torch.zeros_like(samples.color)
    for each, surface in _SURFACES.items():
        index = (kind == each).nonzero(as_tuple=True)[0]
        if len(index):
            fields = (getattr(samples, name)[..., index] for name in Samples.__dataclass_fields__)
            color[:, index], glow[:, index] = surface(Samples(*fields), light.at(index))
    return color, glow


def mix(a: Tensor, b: Tensor | tuple[float, float, float], share: Tensor) -> Tensor:
    """a where share is 0, b where it is 1. `b` is [3, P] or one colour."""
    target = b if isinstance(b, Tensor) else a.new_tensor(b)[:, None]
    return a + (target - a) * share


def _glow(rgb: tuple[float, float, float], share: Tensor) -> Tensor:
    return share.new_tensor(rgb)[:, None] * share


def _band(x: Tensor, low: Tensor | float, high: Tensor | float, footprint: Tensor) -> Tensor:
    """Share of the footprint around x inside [low, high]."""
    a = ((x - low) / footprint + 0.5).clamp(0, 1)
    return a - ((x - high) / footprint + 0.5).clamp(0, 1)


def _disc(x: Tensor, y: Tensor, radius: Tensor | float, footprint: Tensor) -> Tensor:
    return ((radius - (x * x + y * y).sqrt()) / footprint + 0.5).clamp(0, 1)


def _hash(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """A fixed pseudo-random number 0..1 per integer triple."""
    mixed = a.long() * 73856093 ^ b.long() * 19349663 ^ c.long() * 83492791
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed >> 8) & 0xFFFF).float() / 65535.0


def _paint(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    return s.color, torch.zeros_like(s.color)


def _from_front(s: Samples) -> Tensor:
    """Distance from the vehicle's front along a side."""
    return torch.where(s.attributes[0] > 0.5, s.u, s.width - s.u)


def _side(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Body side: shaded to the sill, door gaps, dark under-body, wheels with rims."""
    along, size = _from_front(s), torch.maximum(s.fu, s.fv)
    color = s.color * (0.82 + 0.26 * (s.v / s.height).clamp(0, 1))
    color = mix(
        color, s.color * 0.55, 0.8 * pulse(along, 1.15, 0.0, 0.05, s.fu) * _band(s.v, 0.35, 2.0, s.fv)
    )
    color = mix(color, (26.0, 26.0, 29.0), 1 - _band(s.v, 0.24, 1e3, s.fv))
    return _wheels(s, color, along, size), torch.zeros_like(color)


def _wheels(s: Samples, color: Tensor, along: Tensor, size: Tensor) -> Tensor:
    radius = s.attributes[1]
    for axle in (s.attributes[2], s.attributes[3]):
        x, y = along - axle * s.width, s.v - radius
        color = mix(color, (16.0, 16.0, 18.0), _disc(x, y, radius * 1.12, size))
        color = mix(color, (126.0, 128.0, 132.0), _disc(x, y, radius * 0.55, size))
    return color


def _bus_side(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    color, glow = _side(s, light)
    band = _band(s.v, 0.42 * s.height, 0.80 * s.height, s.fv)
    pane = band * pulse(s.u, 1.5, 0.08, 1.42, s.fu)
    color = mix(color, (38.0, 46.0, 56.0), pane)
    color = mix(color, (236.0, 236.0, 236.0), 0.5 * _band(s.v, 0.34 * s.height, 0.38 * s.height, s.fv))
    return color, glow + _glow((150.0, 138.0, 100.0), pane * 0.6 * light.lamps)


def _front(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Head lamps, grille, bumper, number plate; on tall vehicles a windscreen."""
    glass, on = s.attributes[0], s.attributes[1]
    body_top = s.height * (1 - glass)
    x = (s.u / s.width - 0.5).abs()  # 0 in the middle, 0.5 at the sides
    fx = s.fu / s.width
    color = s.color * (0.80 + 0.26 * (s.v / s.height).clamp(0, 1))
    color = mix(
        color,
        (30.0, 30.0, 33.0),
        _band(s.v, 0.42 * body_top, 0.66 * body_top, s.fv) * _band(x, -1.0, 0.27, fx),
    )
    color = mix(color, (26.0, 26.0, 29.0), 1 - _band(s.v, 0.24, 1e3, s.fv))
    color = mix(color, (214.0, 214.0, 208.0), _band(s.v, 0.30, 0.42, s.fv) * _band(x, -1.0, 0.14, fx))
    color = mix(
        color,
        (40.0, 52.0, 64.0),
        _band(s.v, body_top, 0.94 * s.height, s.fv) * _band(x, -1.0, 0.46, fx) * (glass > 0),
    )
    lamp = _band(s.v, 0.58 * body_top, 0.80 * body_top, s.fv) * _band(x, 0.30, 0.47, fx)
    color = mix(color, (226.0, 230.0, 234.0), lamp)
    return color, _glow((255.0, 246.0, 214.0), lamp * on * light.lamps) * 1.3


def _rear(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Tail lamps that light when braking, number plate, bumper; on tall vehicles a rear window."""
    braking, glass, on = s.attributes[0], s.attributes[1], s.attributes[2]
    body_top = s.height * (1 - glass)
    lit_top = torch.minimum(body_top, torch.full_like(body_top, 1.3))
    x, fx = (s.u / s.width - 0.5).abs(), s.fu / s.width
    color = s.color * (0.78 + 0.26 * (s.v / s.height).clamp(0, 1))
    color = mix(color, s.color * 0.6, 0.7 * _band(s.v, 0.50 * lit_top, 0.54 * lit_top, s.fv))
    color = mix(color, (26.0, 26.0, 29.0), 1 - _band(s.v, 0.26, 1e3, s.fv))
    color = mix(
        color,
        (214.0, 212.0, 200.0),
        _band(s.v, 0.56 * lit_top, 0.70 * lit_top, s.fv) * _band(x, -1.0, 0.15, fx),
    )
    color = mix(
        color,
        (34.0, 42.0, 52.0),
        _band(s.v, body_top, 0.9 * s.height, s.fv) * _band(x, -1.0, 0.44, fx) * (glass > 0),
    )
    lamp = _band(s.v, 0.56 * lit_top, 0.92 * lit_top, s.fv) * _band(x, 0.28, 0.49, fx)
    color = mix(color, (150.0, 18.0, 20.0), lamp)
    glow = _glow((255.0, 34.0, 26.0), lamp * torch.maximum(braking, 0.45 * on * light.lamps))
    return color, glow + _glow((255.0, 150.0, 120.0), lamp * braking * 0.25)


def _glass_side(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Side windows between pillars; the rest of the panel is body."""
    along = _from_front(s) / s.width
    fx = s.fu / s.width
    first, last, pillars = s.attributes[1], s.attributes[2], s.attributes[3]
    pane = _band(along, first, last, fx) * _band(s.v, 0.08 * s.height, 0.88 * s.height, s.fv)
    middle = (first + last) / 2
    pane = pane * (1 - _band(along, middle - 0.02, middle + 0.02, fx) * (pillars > 1))
    return mix(s.color, _pane(s), pane), torch.zeros_like(s.color)


def _glass(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    x, fx = (s.u / s.width - 0.5).abs(), s.fu / s.width
    pane = _band(s.v, 0.06 * s.height, 0.92 * s.height, s.fv) * _band(x, -1.0, 0.46, fx)
    return mix(s.color * 0.9, _pane(s), pane), torch.zeros_like(s.color)


def _pane(s: Samples) -> Tensor:
    """Dark glass that mirrors more sky towards its top."""
    dark = s.color.new_tensor((30.0, 37.0, 45.0))[:, None]
    return mix(dark.expand(3, len(s.u)), (118.0, 138.0, 158.0), 0.6 * (s.v / s.height).clamp(0, 1))


def _facade(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Walls with rows of windows, a ground floor with doors or shops, a cornice."""
    style = s.attributes[0].long()
    floor = 3.0 + 0.2 * (style % 4)
    pitch = facade_pitch(s.attributes[0], s.width)
    ground = torch.where(s.height > 6.5, 1.15 * floor, floor)
    opening = 0.42 + 0.07 * (style // 4 % 4)
    margin = (1 - opening) / 2 * pitch
    across = pulse(s.u, pitch, margin, pitch - margin, s.fu)
    up = pulse(s.v - ground, floor, 0.28 * floor, 0.82 * floor, s.fv)
    upper = _band(s.v, ground, s.height - 0.4, s.fv)
    window = across * up * upper
    low = _band(s.v, 0.0, ground, s.fv)
    shop = (style // 16 % 2 == 0) & (s.height > 6.5)
    wide = pulse(s.u, pitch, 0.12 * pitch, 0.88 * pitch, s.fu) * _band(s.v, 0.5, 0.80 * ground, s.fv)
    door = pulse(s.u, 3 * pitch, 1.3 * pitch, 1.3 * pitch + 1.2, s.fu) * _band(s.v, 0.0, 2.2, s.fv)
    small = across * _band(s.v, 1.0, 2.3, s.fv)
    glazed = torch.where(shop, wide, torch.maximum(small, door)) * low
    color = s.color * (1 - 0.12 * torch.where(shop, low, 0.5 * low))
    color = mix(
        color,
        s.color * 1.16,
        0.8 * pulse(s.v - ground, floor, 0.0, 0.22, s.fv) * _band(s.v, ground - 0.2, s.height, s.fv),
    )
    color = mix(color, s.color * 0.74, _band(s.v, s.height - 0.4, s.height, s.fv))
    color = mix(color, s.color * 0.80, 0.7 * _band(s.v, 0.0, 0.5, s.fv))
    return _lit_windows(s, light, color, window, glazed, pitch, floor, ground)


def facade_pitch(style: Tensor, width: Tensor) -> Tensor:
    """Distance between windows [m]: 2.4 to 4 by style, fitted so that a wall holds a whole number of them."""
    wanted = 2.4 + 0.4 * (style.long() % 5)
    return width / (width / wanted).round().clamp_min(1.0)


def _lit_windows(
    s: Samples,
    light: SampleLight,
    color: Tensor,
    window: Tensor,
    glazed: Tensor,
    pitch: Tensor,
    floor: Tensor,
    ground: Tensor,
) -> tuple[Tensor, Tensor]:
    """Glass of a slightly different shade per window; after dark some are lit."""
    column, row = (s.u / pitch).floor(), ((s.v - ground) / floor).floor()
    chance = _hash(column, row, s.attributes[0])
    sharp = (1.6 - torch.maximum(s.fu / pitch, s.fv / floor) * 1.6).clamp(
        0, 1
    )  # one window per pixel or more: the mean
    tone = 0.5 + (chance - 0.5) * sharp
    sky = light.horizon * 0.35
    pane = s.color.new_tensor((44.0, 54.0, 66.0))[:, None] * (0.7 + 0.6 * tone) + sky * 0.35
    color = mix(color, pane, torch.maximum(window, glazed))
    lit = ((chance > 0.62).float() * sharp + 0.38 * (1 - sharp)) * light.lamps
    glow = _glow((244.0, 196.0, 112.0), (window * lit + glazed * 0.8 * light.lamps) * 0.8)
    return color, glow


def _roof(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    return s.color * 0.6, torch.zeros_like(s.color)


def _wall(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    joints = torch.maximum(pulse(s.u, 3.0, 0.0, 0.12, s.fu), pulse(s.v, 0.6, 0.0, 0.06, s.fv))
    color = mix(s.color, s.color * 0.7, joints)
    return mix(color, s.color * 1.15, _band(s.v, s.height - 0.15, s.height, s.fv)), torch.zeros_like(s.color)


def _leaves(s: Samples, scale: float) -> Tensor:
    """A light and dark mottle -1..1 that fades where it is finer than a pixel."""
    style, fade = s.attributes[0], (1 - torch.maximum(s.fu, s.fv) / scale).clamp(0, 1)
    a = torch.sin(s.u * (5.2 / scale) + 1.7 * style + 1.3 * torch.sin(s.v * (3.1 / scale) + style))
    b = torch.sin(s.v * (6.1 / scale) + 0.9 * style + 1.1 * torch.sin(s.u * (4.3 / scale)))
    return a * b * fade


def _hedge(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    tone = 0.72 + 0.36 * (s.v / s.height).clamp(0, 1) + 0.16 * _leaves(s, 0.5)
    return s.color * tone, torch.zeros_like(s.color)


def _tree(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Leaves lighter towards the top and the left; below the crown the trunk shows."""
    x, rise = s.u / s.width - 0.5, (s.v / s.height).clamp(0, 1)
    tone = 0.55 + 0.55 * rise - 0.22 * x + 0.20 * _leaves(s, 0.22 * 5) + 0.10 * _leaves(s, 0.5)
    trunk = (1 - _band(rise, 0.26, 2.0, s.fv / s.height)) * _band(x.abs() * s.width, -1.0, 0.3, s.fu)
    return mix(s.color * tone, (84.0, 66.0, 50.0), trunk), torch.zeros_like(s.color)


def _person(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Skin and hair above, a coloured top, dark or light trousers, shoes."""
    h, f = s.v / s.height, s.fv / s.height
    dark = (s.attributes[1] % 3) / 3
    color = s.color * 1.0
    trousers = s.color.new_tensor((44.0, 48.0, 66.0))[:, None] + 70.0 * dark
    color = mix(color, trousers.expand(3, len(h)), 1 - _band(h, 0.50, 9.0, f))
    color = mix(color, (28.0, 26.0, 26.0), 1 - _band(h, 0.05, 9.0, f))
    color = mix(color, (206.0, 160.0, 128.0), _band(h, 0.845, 0.955, f))
    return mix(color, (58.0, 44.0, 34.0), _band(h, 0.955, 9.0, f)), torch.zeros_like(color)


def _rail(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    ridge = _band(s.v, 0.68 * s.height, 0.80 * s.height, s.fv)
    color = mix(s.color, s.color * 0.62, ridge)
    return mix(color, s.color * 0.55, 1 - _band(s.v, 0.48 * s.height, 9.0, s.fv)), torch.zeros_like(color)


def _lamp_head(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    return s.color * 0.9, _glow((255.0, 226.0, 168.0), torch.ones_like(s.u) * light.lamps)


_SIGNAL_COLORS = ((255.0, 44.0, 36.0), (255.0, 196.0, 44.0), (54.0, 244.0, 128.0))


def _signal(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """Three lamps from the top: red, yellow, green; the one that is on has a halo."""
    size = torch.maximum(s.fu, s.fv)
    color, glow = s.color.clone(), torch.zeros_like(s.color)
    for state, rgb in enumerate(_SIGNAL_COLORS):
        x, y = s.u - s.width / 2, s.v - s.height * (0.83 - 0.33 * state)
        on = (s.attributes[0].round() == state).float()
        lamp = _disc(x, y, 0.21, size)
        color = mix(color, tuple(0.16 * c for c in rgb), lamp)
        halo = torch.exp(-(x * x + y * y) / 0.09) * 0.55
        glow = glow + _glow(rgb, torch.maximum(lamp, halo) * on)
    return color, glow


def _sign(s: Samples, light: SampleLight) -> tuple[Tensor, Tensor]:
    """A coloured plate with a light middle in front, grey behind; a grey post."""
    x, y = s.u - s.width / 2, s.v - (s.height - s.width / 2)
    size = torch.maximum(s.fu, s.fv)
    plate = mix(s.color, (238.0, 238.0, 236.0), _disc(x, y, 0.30 * s.width, size))
    back = s.attributes[1] > 0.5
    grey = s.color.new_tensor((128.0, 130.0, 132.0))[:, None].expand(3, len(x))
    post = s.v < s.height - s.width
    return torch.where(back | post, grey, plate), torch.zeros_like(s.color)


_SURFACES: dict[Kind, Surface] = {
    Kind.SIDE: _side,
    Kind.FRONT: _front,
    Kind.REAR: _rear,
    Kind.GLASS_SIDE: _glass_side,
    Kind.GLASS: _glass,
    Kind.BUS_SIDE: _bus_side,
    Kind.FACADE: _facade,
    Kind.ROOF: _roof,
    Kind.WALL: _wall,
    Kind.HEDGE: _hedge,
    Kind.LAMP_HEAD: _lamp_head,
    Kind.SIGNAL: _signal,
    Kind.RAIL: _rail,
    Kind.TREE: _tree,
    Kind.PEDESTRIAN: _person,
    Kind.CYCLIST: _person,
    Kind.SIGN: _sign,
}
