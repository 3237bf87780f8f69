"""Planar faces: the one primitive that everything standing on the ground is made of.

A face is a convex quad, corners counter-clockwise as its viewer sees it, the first at the lower left. `u` runs from
corner 0 to corner 1, `v` up the face, both in metres. A billboard turns about the vertical to face each camera.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

STATIC_OWNER = -1
ATTRIBUTES = 5


class Kind(IntEnum):
    """What a face shows. The attributes that each kind reads stand beside it."""

    PAINT = 0  # plain bodywork
    SIDE = 1  # vehicle side with wheels: flip, wheel radius [m], front axle, rear axle (share from the front)
    FRONT = 2  # bonnet end with head lamps: windscreen share of the height
    REAR = 3  # tail lamps: braking, rear-window share of the height
    GLASS_SIDE = 4  # flip, first and last share with glass, pillars
    GLASS = 5  # windscreen or rear window
    BUS_SIDE = 6  # as SIDE, with a band of windows
    FACADE = 7  # style, window pitch, floor height, share of the pitch that is window, shops below
    ROOF = 8  # style
    WALL = 9  # style
    HEDGE = 10  # style
    LAMP_HEAD = 11  # street lamp
    SIGNAL = 12  # traffic light: state (0 red, 1 yellow, 2 green)
    SIGNAL_BACK = 13  # its dark housing
    POLE = 14
    RAIL = 15  # beam of a guard rail
    POSTS = 16  # shaped: the posts under it
    TREE = 17  # shaped: style
    CONIFER = 18  # shaped: style
    PEDESTRIAN = 19  # shaped: walking phase [rad], style
    CYCLIST = 20  # shaped: pedalling phase [rad], style
    SIGN = 21  # shaped: style, seen from behind
    SHADOW = 22  # shaped, lies on the ground: strength, softness [m]


SHAPED = tuple(kind for kind in Kind if kind >= Kind.POSTS)


@dataclass(frozen=True)
class Faces:
    """N faces as arrays."""

    corners: np.ndarray  # float32 [N, 4, 3] world metres
    kind: np.ndarray  # int64 [N]
    color: np.ndarray  # float32 [N, 3] 0..255
    attributes: np.ndarray  # float32 [N, 5]
    billboard: np.ndarray  # bool [N]
    owner: np.ndarray  # int64 [N] agent id, or STATIC_OWNER

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, index: np.ndarray) -> "Faces":
        """Some of the faces, by mask or index."""
        return Faces(*(getattr(self, field.name)[index] for field in fields(self)))


def empty() -> Faces:
    """No faces at all."""
    return make(np.zeros((0, 4, 3)), Kind.PAINT, (0, 0, 0))


def make(
    corners: np.ndarray,
    kind: Kind | Sequence[Kind] | np.ndarray,
    color: Sequence[float] | np.ndarray,
    attributes: Sequence[float] | np.ndarray = (),
    billboard: bool = False,
    owner: int | np.ndarray = STATIC_OWNER,
) -> Faces:
    """Faces that share what is given once. `corners` [N, 4, 3]; `color` and `attributes` one for all or one each."""
    count = len(corners)
    given = np.atleast_2d(np.asarray(attributes, dtype=np.float32)) if len(attributes) else np.zeros((1, 0))
    padded = np.zeros((count, ATTRIBUTES), np.float32)
    padded[:, : given.shape[1]] = given
    return Faces(
        corners=np.asarray(corners, dtype=np.float32),
        kind=np.broadcast_to(np.asarray(kind, dtype=np.int64), (count,)).copy(),
        color=np.broadcast_to(np.asarray(color, dtype=np.float32), (count, 3)).copy(),
        attributes=padded,
        billboard=np.full(count, billboard),
        owner=np.broadcast_to(np.asarray(owner, dtype=np.int64), (count,)).copy(),
    )


def concat(parts: Iterable[Faces]) -> Faces:
    """All faces of several sets, in order."""
    parts = [part for part in parts if len(part)] or [empty()]
    return Faces(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Faces)))


def upright(x_m: float, y_m: float, width_m: float, low_m: float, high_m: float) -> np.ndarray:
    """Corners [4, 3] of a billboard at (x, y): its camera-facing width and its heights above the ground."""
    half = width_m / 2
    return np.array(
        [
            [x_m, y_m + half, low_m],
            [x_m, y_m - half, low_m],
            [x_m, y_m - half, high_m],
            [x_m, y_m + half, high_m],
        ]
    )


def prism(
    bottom: tuple[float, float],
    top: tuple[float, float],
    z: tuple[float, float],
    half_width: tuple[float, float],
    deck: tuple[float, float] | None = None,
) -> np.ndarray:
    """The five visible faces of a tapered box: float64 [5, 4, 3] = left, right, front, rear, top.

    Args:
        bottom: rear and front x of the lower edge.
        top: rear and front x of the upper edge.
        z: lower and upper height.
        half_width: half of the width at the lower and at the upper edge.
        deck: rear and front x of the top face, where something else stands on the rest of it; a hidden face would
            shine through the seam.
    """
    (rb, fb), (rt, ft), (z0, z1), (w0, w1) = bottom, top, z, half_width
    rd, fd = deck or top
    return np.array(
        [
            [[fb, w0, z0], [rb, w0, z0], [rt, w1, z1], [ft, w1, z1]],
            [[rb, -w0, z0], [fb, -w0, z0], [ft, -w1, z1], [rt, -w1, z1]],
            [[fb, -w0, z0], [fb, w0, z0], [ft, w1, z1], [ft, -w1, z1]],
            [[rb, w0, z0], [rb, -w0, z0], [rt, -w1, z1], [rt, w1, z1]],
            [[rd, -w1, z1], [fd, -w1, z1], [fd, w1, z1], [rd, w1, z1]],
        ]
    )


def placed(
    corners: np.ndarray, x_m: float | np.ndarray, y_m: float | np.ndarray, yaw_rad: float | np.ndarray
) -> np.ndarray:
    """Corners [..., 3] turned by a yaw and moved to (x, y), which broadcast against [...]."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    x, y, z = np.moveaxis(corners, -1, 0)
    return np.stack([x_m + cos * x - sin * y, y_m + sin * x + cos * y, z], axis=-1)
