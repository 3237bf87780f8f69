"""The static world: roads, paint, buildings, lights, as vectors. Built by `maps`, drawn by `reference`.

Knows nothing of pixels, of time, or of who drives. Axes and units as in `state.py`.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from highway_env.road.road import RoadNetwork

from .path import ReferencePath

SurfaceKind = Literal["asphalt", "sidewalk", "gravel", "plaza", "parking"]
MarkingKind = Literal["lane_line", "centre_line", "road_edge", "kerb", "crossing", "stop_line", "arrow"]
StructureKind = Literal["building", "tree", "pole", "guard_rail", "wall", "hedge", "sign", "bollard"]


@dataclass(frozen=True)
class Surface:
    """A flat polygon on the ground; later surfaces are painted over earlier ones. Grass lies everywhere else."""

    kind: SurfaceKind
    polygon: np.ndarray  # float64 [N, 2], N >= 3, not self-intersecting


@dataclass(frozen=True)
class Marking:
    """A painted or raised line on the ground.

    `lane_line`: white, between lanes of one direction. `centre_line`: yellow, between opposite directions.
    `road_edge`: white line at the edge of the carriageway. `kerb`: light stone edge of a sidewalk.
    `crossing`: the centre line of a pedestrian crossing, from kerb to kerb; `width_m` is its depth and it is
    painted as stripes along the traffic's direction. `stop_line`: a thick white line across a lane.
    """

    kind: MarkingKind
    line: np.ndarray  # float64 [N, 2], N >= 2
    width_m: float
    dash_m: tuple[float, float] | None = None  # (painted, gap); None is a continuous line


@dataclass(frozen=True)
class Structure:
    """Something that stands on the ground: an upright box (a cylinder for tree, pole and bollard).

    `length_m` lies along the yaw, `width_m` across. A tree's width and length are those of its crown.
    `style` seeds the small differences between two structures of one kind (windows, leaves).
    """

    kind: StructureKind
    x_m: float
    y_m: float
    yaw_rad: float
    length_m: float
    width_m: float
    height_m: float
    color_rgb: tuple[int, int, int]
    style: int = 0


@dataclass(frozen=True)
class TrafficLight:
    """A signal head on a pole at (x, y), facing `yaw_rad` (towards the drivers it rules), with its stop line.

    `lanes` are the highway-env lane indices (from, to, id) that it rules; a vehicle on one of them may not cross
    the end of the lane while the light is red. `cycle` phases: lights of one `group` show the same state.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    height_m: float
    stop_line: np.ndarray  # float64 [2, 2], from right to left kerb as the driver sees it
    lanes: tuple[tuple[str, str, int], ...]
    group: int = 0


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing: people walk between the ends of `line`."""

    line: np.ndarray  # float64 [2, 2]
    width_m: float


@dataclass(frozen=True)
class StaticWorld:
    """One map, complete. Immutable and shared by every session that runs on it."""

    name: str
    network: RoadNetwork
    drivable: tuple[np.ndarray, ...]  # polygons float64 [N, 2] whose union is the drivable area
    surfaces: tuple[Surface, ...]
    markings: tuple[Marking, ...]
    structures: tuple[Structure, ...]
    lights: tuple[TrafficLight, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    parking_bays: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 3))
    )  # [N, 3] x, y, yaw of box centres
    routes: dict[str, ReferencePath] = field(default_factory=dict)  # where the ego may be sent, by name
    speed_limit_mps: float = 13.9

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """(min x, min y, max x, max y) of all surfaces and structures [m]."""
        points = [surface.polygon for surface in self.surfaces]
        points += [np.array([[s.x_m, s.y_m]]) for s in self.structures]
        stacked = np.concatenate(points)
        return (*stacked.min(axis=0), *stacked.max(axis=0))  # type: ignore[return-value]
