"""Rows of houses along the outer edge of a sidewalk."""

import numpy as np

from . import furniture
from .curve import arc_lengths, pose_at
from .roadside import Roadside


def line_with_houses(
    roadside: Roadside, line: np.ndarray, facade_m: float, side: int, gap_share: float = 0.15
) -> None:
    """Put houses side by side along a street.

    Args:
        roadside: where to put them; houses that would touch a street, a sidewalk or another house are left out.
        line: the street's line [N, 2].
        facade_m: distance of the facades from that line.
        side: 1 on the left, -1 on the right.
        gap_share: share of the houses that are followed by a gap, with a tree in it.
    """
    rng = roadside.plan.rng
    s, length = float(rng.uniform(0.0, 4.0)), arc_lengths(line)[-1]
    while s < length - 6.0:
        width = float(min(rng.uniform(9.0, 24.0), length - s))
        if not _put_house(roadside, line, s, width, facade_m, side):
            s += 2.0
            continue
        s += width + 0.3
        if rng.uniform() < gap_share:
            pose = pose_at(line, s + 3.0, side * (facade_m + rng.uniform(3.0, 6.0)))
            roadside.put(furniture.tree(pose, rng, (3.0, 4.5)))
            s += 6.0


def _put_house(
    roadside: Roadside, line: np.ndarray, s_m: float, width_m: float, facade_m: float, side: int
) -> bool:
    rng = roadside.plan.rng
    depth = float(rng.uniform(9.0, 14.0))
    setback = facade_m + float(rng.choice([0.0, 0.0, 0.3, 1.0]))
    pose = pose_at(line, s_m + width_m / 2, side * (setback + 0.1 + depth / 2))
    return roadside.put(furniture.building(pose, width_m - 0.2, depth, rng))
