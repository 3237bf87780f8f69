"""What lines a street in a town: sidewalks, houses, lamps, trees and parking bays."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from . import furniture
from .buildings import line_with_houses
from .curve import arc_lengths, offset, pose_at, section, straight
from .plan import Plan, ribbon
from .road import Profile, lay_road
from .roadside import Roadside

BAY_LENGTH_M, BAY_WIDTH_M = 5.8, 2.2
WALK_M = 3.2


@dataclass(frozen=True)
class Street:
    """A street along a line, from kerb to houses the same on both sides."""

    line: np.ndarray
    profile: Profile
    bays: bool = False  # whether a strip for parking bays lies between carriageway and sidewalk

    def reversed(self) -> "Street":
        """The same street, seen from its end."""
        return Street(self.line[::-1], self.profile, self.bays)

    @property
    def kerb_m(self) -> float:
        """Distance from the line to the kerb behind the parking bays."""
        return self.profile.right_m + (BAY_WIDTH_M if self.bays else 0.0)

    @property
    def walk_m(self) -> float:
        """Distance from the carriageway's edge to the outer edge of the sidewalk."""
        return WALK_M + self.kerb_m - self.profile.right_m

    @property
    def facade_m(self) -> float:
        """Distance from the line to the houses."""
        return self.profile.right_m + self.walk_m


def lay_street(plan: Plan, street: Street, forward: tuple[str, str], backward: tuple[str, str]) -> None:
    """Add lanes, asphalt, paint and sidewalks."""
    lay_road(plan, street.line, street.profile, forward, backward)
    plan.walks.append(ribbon(street.line, street.facade_m, -street.facade_m))


def add_parking(plan: Plan, street: Street, share: float, clear_m: float = 9.0) -> None:
    """Runs of parking bays on both sides, at least `clear_m` from both ends of the street."""
    end = arc_lengths(street.line)[-1] - clear_m
    for side in (-1, 1):
        s = clear_m + plan.rng.uniform(0.0, 3.0)
        while s + BAY_LENGTH_M < end:
            bays = min(int(plan.rng.integers(2, 7)), int((end - s) / BAY_LENGTH_M))
            if plan.rng.uniform() < share:
                _add_bays(plan, street, s, bays, side)
            s += bays * BAY_LENGTH_M + plan.rng.uniform(3.5, 6.0)


def _add_bays(plan: Plan, street: Street, start_m: float, count: int, side: int) -> None:
    inner, outer = side * street.profile.right_m, side * street.kerb_m
    part = section(street.line, start_m, start_m + count * BAY_LENGTH_M)
    plan.parking.append(ribbon(part, max(inner, outer), min(inner, outer)))
    plan.mark("lane_line", offset(part, inner), 0.1, (1.0, 1.0))
    for k in range(count):
        x, y, yaw = pose_at(street.line, start_m + (k + 0.5) * BAY_LENGTH_M, (inner + outer) / 2)
        plan.parking_bays.append((x, y, yaw if side < 0 else yaw + np.pi))


def dress_street(roadside: Roadside, street: Street, density: float, trees: bool = True) -> None:
    """Houses on both sides; lamps, trees and signs between the sidewalk's walking line and the kerb."""
    rng = roadside.plan.rng
    for side in (-1, 1):
        line_with_houses(roadside, street.line, street.facade_m, side)
    if density <= 0:
        return
    for side in (-1, 1):
        kerb, turned = side * street.kerb_m, np.pi if side < 0 else 0.0
        roadside.row(street.line, kerb + side * 0.6, 28.0, furniture.lamp, on_walk=True, jitter=0.2)
        sign = partial(furniture.sign, rng=rng)
        roadside.row(street.line, kerb + side * 0.6, 45.0 / density, sign, True, 0.7, turned)
        if trees:
            tree = partial(furniture.tree, rng=rng, crown_m=(2.0, 2.8))
            roadside.row(street.line, side * (street.profile.right_m + 1.75), 9.0 / density, tree, True, 0.3)


def close_end(roadside: Roadside, street: Street, gap_m: float = 3.0) -> None:
    """Houses across the end of the street's line, so that a driver does not look into nothing."""
    x, y, yaw = pose_at(street.line, arc_lengths(street.line)[-1])
    ahead, aside = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    half = street.facade_m + 8.0
    middle = np.array([x, y]) + gap_m * ahead
    line_with_houses(roadside, straight(middle - half * aside, middle + half * aside), 0.0, -1, gap_share=0.0)
