"""The Intelligent Driver Model (Treiber, Hennecke, Helbing 2000), for net gaps, as pure functions."""

import math
from dataclasses import dataclass

import numpy as np

MILD_MPS2 = 3.0


@dataclass(frozen=True)
class IdmParameters:
    """How a driver keeps distance."""

    accel_mps2: float = 1.8
    brake_mps2: float = 2.5  # comfortable deceleration
    headway_s: float = 1.3
    standstill_m: float = 2.5
    exponent: float = 4.0
    hardest_mps2: float = 8.0


def free_term(speed_mps: float, wanted_mps: float, idm: IdmParameters) -> float:
    """Acceleration on an empty road; above the wanted speed no harder than comfortable braking."""
    if wanted_mps < 0.05:
        return -idm.brake_mps2
    share = max(float(speed_mps), 0.0) / wanted_mps
    return max(idm.accel_mps2 * (1.0 - math.pow(share, idm.exponent)), -idm.brake_mps2)


def follow_accel(
    free_mps2: np.ndarray | float,
    speed_mps: np.ndarray | float,
    gap_m: np.ndarray | float,
    leader_mps: np.ndarray | float,
    idm: IdmParameters,
) -> np.ndarray:
    """Acceleration behind a leader, elementwise, where `free_mps2` is that of an empty road; a gap of inf is none.

    IDM brakes hard for a vehicle that cuts in at the same speed. As in its successor with the constant-acceleration
    heuristic (Kesting, Treiber, Helbing 2010), braking stays mild where that is enough not to collide.
    """
    closing = speed_mps - np.asarray(leader_mps)
    approach = speed_mps * closing / (2.0 * math.sqrt(idm.accel_mps2 * idm.brake_mps2))
    wanted = idm.standstill_m + np.maximum(0.0, speed_mps * idm.headway_s + approach)
    taken = idm.accel_mps2 * (wanted / np.maximum(gap_m, 0.3)) ** 2
    needed = 1.5 * np.maximum(closing, 0.0) ** 2 / (2.0 * np.maximum(np.asarray(gap_m) - 1.5, 0.3))
    return np.asarray(np.maximum(free_mps2 - taken, -np.maximum(needed, MILD_MPS2)))


def stop_accel(speed_mps: float, way_m: float, brake_mps2: float) -> float:
    """The highest acceleration that still lets a vehicle stop within `way_m`, braking evenly; inf if far away.

    Follows the speed sqrt(2 b way), which falls at b: unlike IDM before a standing leader it does not begin far too early.
    """
    allowed = math.sqrt(2.0 * brake_mps2 * max(way_m, 0.0))
    if way_m < 1.0 and speed_mps < 1.0:
        return -brake_mps2  # near enough: no creeping
    if speed_mps < 0.6 * allowed:
        return math.inf
    share = min(speed_mps / max(allowed, 0.1), 1.0)
    hardest = max(1.5 * brake_mps2, speed_mps**2 / (2.0 * max(way_m, 0.7)))
    return max((allowed - speed_mps) / 0.5 - brake_mps2 * share * share, -hardest)
