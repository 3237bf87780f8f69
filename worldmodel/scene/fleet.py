"""Sizes and colours of vehicles."""

from dataclasses import dataclass

import numpy as np

from .scenario import VehicleKind


@dataclass(frozen=True)
class VehicleModel:
    """Ranges that the kinds of vehicle are drawn from."""

    length_m: tuple[float, float]
    width_m: tuple[float, float]
    height_m: tuple[float, float]
    accel_mps2: float


MODELS: dict[VehicleKind, VehicleModel] = {
    "car": VehicleModel((4.0, 4.9), (1.75, 1.95), (1.4, 1.7), 1.9),
    "van": VehicleModel((5.2, 6.2), (1.95, 2.1), (2.2, 2.6), 1.6),
    "truck": VehicleModel((7.5, 10.0), (2.35, 2.5), (3.0, 3.8), 1.2),
    "bus": VehicleModel((10.5, 12.0), (2.45, 2.55), (3.0, 3.2), 1.2),
}

# As on real roads, most are white, grey or black.
PAINTS: dict[VehicleKind, tuple[tuple[int, int, int], ...]] = {
    "car": (
        (225, 226, 228), (205, 207, 210), (130, 134, 140), (70, 74, 80), (28, 30, 34), (24, 26, 30),
        (150, 30, 32), (34, 66, 130), (54, 96, 150), (36, 84, 60), (196, 160, 60), (120, 84, 58),
    ),
    "van": ((232, 232, 230), (232, 232, 230), (190, 190, 188), (40, 80, 140), (210, 150, 40)),
    "truck": ((210, 210, 205), (180, 60, 50), (50, 90, 150), (90, 110, 90)),
    "bus": ((200, 50, 45), (225, 180, 50), (60, 110, 170)),
}  # fmt: skip


@dataclass(frozen=True)
class Body:
    """Size and paint of one vehicle."""

    kind: VehicleKind
    length_m: float
    width_m: float
    height_m: float
    color_rgb: tuple[int, int, int]


def draw_body(kind: VehicleKind, generator: np.random.Generator) -> Body:
    """A vehicle of a kind."""
    model = MODELS[kind]
    spans = (model.length_m, model.width_m, model.height_m)
    length, width, height = (round(float(generator.uniform(*span)), 2) for span in spans)
    paint = PAINTS[kind][int(generator.integers(len(PAINTS[kind])))]
    return Body(kind, length, width, height, paint)
