"""What stands along a road, one function per thing. Sizes and colours vary with the random stream that is passed in."""

import numpy as np

from ..world import Structure, StructureKind

Pose = tuple[float, float, float]  # x, y, yaw

_FACADES = (
    (196, 178, 150), (178, 120, 96), (214, 204, 188), (150, 146, 142), (168, 92, 74),
    (120, 128, 138), (206, 184, 120), (140, 112, 90), (222, 216, 208), (104, 98, 96),
    (172, 190, 196), (190, 150, 130),
)  # fmt: skip
_LEAVES = ((58, 92, 40), (72, 108, 48), (48, 80, 44), (92, 112, 52), (66, 98, 62))
_HEDGES = ((50, 84, 42), (62, 92, 46))
_SIGNS = ((220, 222, 224), (200, 40, 36), (36, 80, 170), (235, 190, 40))


def _make(
    kind: StructureKind,
    pose: Pose,
    size: tuple[float, float, float],
    color: tuple[int, int, int],
    style: int = 0,
) -> Structure:
    (x, y, yaw), (length, width, height) = (tuple(map(float, numbers)) for numbers in (pose, size))
    return Structure(kind, x, y, yaw, length, width, height, color, style)


def _pick(rng: np.random.Generator, colors: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
    shade = rng.integers(-10, 11)
    red, green, blue = (int(np.clip(c + shade, 0, 255)) for c in colors[rng.integers(len(colors))])
    return red, green, blue


def building(pose: Pose, length_m: float, depth_m: float, rng: np.random.Generator) -> Structure:
    """A house whose facade of `length_m` lies along the yaw."""
    height = float(rng.choice([2, 3, 3, 4, 4, 5, 6, 8]) * 3.1 + rng.uniform(0.5, 2.0))
    return _make(
        "building", pose, (length_m, depth_m, height), _pick(rng, _FACADES), int(rng.integers(2**16))
    )


def tree(pose: Pose, rng: np.random.Generator, crown_m: tuple[float, float] = (3.0, 7.0)) -> Structure:
    """A tree with a crown of a random diameter."""
    crown = float(rng.uniform(*crown_m))
    height = float(crown * rng.uniform(1.0, 1.4) + 2.0)
    return _make("tree", pose, (crown, crown, height), _pick(rng, _LEAVES), int(rng.integers(2**16)))


def lamp(pose: Pose) -> Structure:
    """A street lamp."""
    return _make("pole", pose, (0.18, 0.18, 7.0), (112, 116, 118))


def utility_pole(pose: Pose) -> Structure:
    """A wooden pole of an overhead line."""
    return _make("pole", pose, (0.28, 0.28, 8.5), (108, 88, 68))


def delineator(pose: Pose) -> Structure:
    """A white post at the road's edge."""
    return _make("bollard", pose, (0.14, 0.14, 1.0), (236, 236, 232))


def sign(pose: Pose, rng: np.random.Generator) -> Structure:
    """A traffic sign on a post; its plate faces along the yaw."""
    return _make("sign", pose, (0.08, 0.7, 2.4), _pick(rng, _SIGNS), int(rng.integers(2**16)))


def stop_sign(pose: Pose) -> Structure:
    """A red sign at a minor road's stop line."""
    return _make("sign", pose, (0.08, 0.75, 2.5), (190, 30, 34))


def direction_board(pose: Pose, rng: np.random.Generator) -> Structure:
    """A large board beside a highway; it faces along the yaw."""
    return _make("sign", pose, (0.15, 4.5, 5.5), (28, 92, 150), int(rng.integers(2**16)))


def rail(pose: Pose, length_m: float) -> Structure:
    """One piece of steel guard rail along the yaw."""
    return _make("guard_rail", pose, (length_m, 0.3, 0.75), (168, 172, 176))


def hedge(pose: Pose, length_m: float, rng: np.random.Generator) -> Structure:
    """A piece of hedge along the yaw."""
    return _make(
        "hedge",
        pose,
        (length_m, 1.0, float(rng.uniform(1.1, 1.8))),
        _pick(rng, _HEDGES),
        int(rng.integers(2**16)),
    )


def fence(pose: Pose, length_m: float, rng: np.random.Generator) -> Structure:
    """A piece of wooden fence along the yaw."""
    return _make("wall", pose, (length_m, 0.12, 1.2), _pick(rng, ((142, 112, 82), (196, 190, 180))))
