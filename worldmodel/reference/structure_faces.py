"""Static structures as faces: built once per world."""

from itertools import pairwise

import numpy as np

from worldmodel.scene.state import LightState
from worldmodel.scene.world import StaticWorld, Structure, TrafficLight

from . import faces
from .faces import Faces, Kind, placed, prism, upright

LIGHT_CODE = {"red": 0.0, "yellow": 1.0, "green": 2.0}
STREET_LAMP_MIN_M = 4.5  # a pole at least this high carries a lamp
SIGNAL_WIDTH_M, SIGNAL_HEIGHT_M = 0.55, 1.5  # a little larger than life, to be read at 128x224
RAIL_PANEL_M = 25.0


def structure_faces(world: StaticWorld) -> Faces:
    """Faces of all structures and of the poles of the traffic lights."""
    parts = [_BUILDERS[structure.kind](structure) for structure in world.structures]
    return faces.concat(parts + [_signal_pole(light) for light in world.lights])


def signal_faces(lights: tuple[TrafficLight, ...], states: tuple[LightState, ...]) -> Faces:
    """The heads of the traffic lights, showing their states."""
    return faces.concat(_signal(light, state) for light, state in zip(lights, states, strict=True))


def _box(structure: Structure, low_m: float = 0.0) -> np.ndarray:
    x, y = structure.length_m / 2, structure.width_m / 2
    corners = prism((-x, x), (-x, x), (low_m, structure.height_m), (y, y))
    return placed(corners, structure.x_m, structure.y_m, structure.yaw_rad)


def _building(structure: Structure) -> Faces:
    """Four facades, whose windows follow from the style, and a flat roof."""
    kinds = (Kind.FACADE,) * 4 + (Kind.ROOF,)
    style = structure.style % 1024
    along, across = structure.length_m, structure.width_m
    floor, opening = 3.0 + 0.2 * (style % 4), 0.42 + 0.07 * (style // 4 % 4)
    shops = float(style // 16 % 2 == 0 and structure.height_m > 6.5)
    attributes = [
        [style, _pitch(style, width), floor, opening, shops]
        for width in (along, along, across, across, along)
    ]
    return faces.make(_box(structure), kinds, structure.color_rgb, np.array(attributes))


def _pitch(style: int, width_m: float) -> float:
    """Distance between windows: 2.4 to 4 m by style, fitted so that a wall holds a whole number of them."""
    wanted = 2.4 + 0.4 * (style % 5)
    return width_m / max(1, round(width_m / wanted))


def _wall(structure: Structure) -> Faces:
    kind = Kind.HEDGE if structure.kind == "hedge" else Kind.WALL
    return faces.make(_box(structure), kind, structure.color_rgb, (structure.style % 1024,))


def _rail(structure: Structure) -> Faces:
    """Both sides of a guard rail, a beam over posts, in panels short enough to be culled."""
    count = max(1, round(structure.length_m / RAIL_PANEL_M))
    edges = np.linspace(-structure.length_m / 2, structure.length_m / 2, count + 1)
    y, top = structure.width_m / 2, structure.height_m
    parts = []
    for kind, low, high in ((Kind.POSTS, 0.0, 0.5 * top), (Kind.RAIL, 0.48 * top, top)):
        panels = [prism((a, b), (a, b), (low, high), (y, y))[:2] for a, b in pairwise(edges)]
        corners = placed(np.concatenate(panels), structure.x_m, structure.y_m, structure.yaw_rad)
        parts.append(faces.make(corners, kind, structure.color_rgb))
    return faces.concat(parts)


def _tree(structure: Structure) -> Faces:
    """Every third style is a conifer."""
    style, width = structure.style % 1024, max(structure.width_m, structure.length_m)
    corners = upright(structure.x_m, structure.y_m, width, 0.0, structure.height_m)
    kind = Kind.CONIFER if style % 3 == 0 else Kind.TREE
    return faces.make(corners[None], kind, structure.color_rgb, (style,), billboard=True)


def _pole(structure: Structure) -> Faces:
    """A thin cylinder; a high one carries a street lamp on a short arm towards its yaw."""
    width = max(0.12, min(structure.width_m, 0.5))
    stem = upright(structure.x_m, structure.y_m, width, 0.0, structure.height_m)
    parts = [faces.make(stem[None], Kind.POLE, structure.color_rgb, billboard=True)]
    if structure.kind == "pole" and structure.height_m >= STREET_LAMP_MIN_M:
        top = structure.height_m
        arm = prism((0.0, 1.6), (0.0, 1.6), (top - 0.16, top), (0.05, 0.05))
        head = prism((0.9, 1.9), (0.9, 1.9), (top - 0.28, top - 0.05), (0.2, 0.2))
        under = head[4][::-1].copy()
        under[:, 2] = top - 0.28
        lamp = np.concatenate([head[:4], under[None]])
        for corners, kind in ((arm[:4], Kind.POLE), (lamp, Kind.LAMP_HEAD)):
            at = placed(corners, structure.x_m, structure.y_m, structure.yaw_rad)
            parts.append(faces.make(at, kind, structure.color_rgb))
    return faces.concat(parts)


def _sign(structure: Structure) -> Faces:
    """A plate on a post, facing along its yaw, with a grey back."""
    half = max(structure.width_m, 0.6) / 2
    box = prism((0.0, 0.0), (0.0, 0.0), (0.0, structure.height_m), (half, half))[2:4]
    corners = placed(box, structure.x_m, structure.y_m, structure.yaw_rad)
    return faces.make(
        corners,
        Kind.SIGN,
        structure.color_rgb,
        np.array([[structure.style % 1024, 0.0], [structure.style % 1024, 1.0]]),
    )


_BUILDERS = {
    "building": _building,
    "tree": _tree,
    "pole": _pole,
    "bollard": _pole,
    "guard_rail": _rail,
    "wall": _wall,
    "hedge": _wall,
    "sign": _sign,
}


def _signal_pole(light: TrafficLight) -> Faces:
    stem = upright(light.x_m, light.y_m, 0.16, 0.0, light.height_m)
    return faces.make(stem[None], Kind.POLE, (70, 72, 74), billboard=True)


def _signal(light: TrafficLight, state: LightState) -> Faces:
    """A box at the top of the pole; its front shows the lamps."""
    y, top = SIGNAL_WIDTH_M / 2, light.height_m + 0.1
    box = prism((-0.1, 0.2), (-0.1, 0.2), (top - SIGNAL_HEIGHT_M, top), (y, y))[:4]
    corners = placed(box, light.x_m, light.y_m, light.yaw_rad)
    kinds = (Kind.SIGNAL_BACK, Kind.SIGNAL_BACK, Kind.SIGNAL, Kind.SIGNAL_BACK)
    return faces.make(corners, kinds, (34, 36, 38), (LIGHT_CODE[state],))
