"""A map under construction: what the builders of all kinds add to, and what becomes a `StaticWorld` at the end."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import shapely
from highway_env.road.road import RoadNetwork
from shapely.geometry.base import BaseGeometry

from ..path import ReferencePath
from ..world import Crossing, Marking, MarkingKind, StaticWorld, Structure, Surface, SurfaceKind, TrafficLight
from .curve import offset


@dataclass
class Plan:
    """Areas are shapely polygons until `finish`; everything else is already in its final form."""

    name: str
    rng: np.random.Generator
    speed_limit_mps: float
    network: RoadNetwork = field(default_factory=RoadNetwork)
    gravel: list[BaseGeometry] = field(default_factory=list)
    walks: list[BaseGeometry] = field(default_factory=list)  # sidewalks; asphalt is painted over them
    parking: list[BaseGeometry] = field(default_factory=list)
    asphalt: list[BaseGeometry] = field(default_factory=list)  # the drivable area
    islands: list[BaseGeometry] = field(default_factory=list)  # plaza, painted last
    open_ends: list[BaseGeometry] = field(default_factory=list)  # where the map ends: no kerb there
    markings: list[Marking] = field(default_factory=list)
    structures: list[Structure] = field(default_factory=list)
    lights: list[TrafficLight] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    parking_bays: list[tuple[float, float, float]] = field(default_factory=list)
    routes: dict[str, ReferencePath] = field(default_factory=dict)

    def mark(
        self, kind: MarkingKind, line: np.ndarray, width_m: float, dash_m: tuple[float, float] | None = None
    ) -> None:
        """Paint a line [N, 2]."""
        self.markings.append(Marking(kind, line, width_m, dash_m))

    def paved(self) -> BaseGeometry:
        """Everything between the kerbs: asphalt and parking bays."""
        return _tidy(shapely.union_all([*self.asphalt, *self.parking]))

    def end_road(self, line: np.ndarray, half_width_m: float) -> None:
        """Declare that the map ends at the last point of `line`, for a road of that half width."""
        across = [offset(line, side * (half_width_m + 1.0))[-1] for side in (-1, 1)]
        self.open_ends.append(shapely.LineString(across).buffer(0.3))

    def paint_kerbs(self) -> None:
        """Put a kerb around everything paved, but for the ends of the map."""
        edge = self.paved().boundary.difference(shapely.union_all(self.open_ends))
        for line in shapely.get_parts(shapely.line_merge(edge)):
            if line.length > 0.5:
                self.mark("kerb", np.array(line.simplify(0.01).coords), 0.18)

    def finish(self) -> StaticWorld:
        """The finished, immutable world."""
        drivable = tuple(simple_polygons(shapely.union_all(self.asphalt)))
        layers: list[tuple[SurfaceKind, list[BaseGeometry]]] = [
            ("gravel", self.gravel),
            ("sidewalk", self.walks),
            ("parking", self.parking),
        ]
        surfaces = [
            Surface(kind, p) for kind, areas in layers for p in simple_polygons(shapely.union_all(areas))
        ]
        surfaces += [Surface("asphalt", polygon) for polygon in drivable]
        surfaces += [Surface("plaza", p) for p in simple_polygons(shapely.union_all(self.islands))]
        crossed = shapely.union_all(
            [shapely.LineString(c.line).buffer(c.width_m / 2) for c in self.crossings]
        )
        markings = [piece for marking in self.markings for piece in _off_crossings(marking, crossed)]
        return StaticWorld(
            name=self.name,
            network=self.network,
            drivable=drivable,
            surfaces=tuple(surfaces),
            markings=tuple(markings),
            structures=tuple(self.structures),
            lights=tuple(self.lights),
            crossings=tuple(self.crossings),
            parking_bays=np.array(self.parking_bays, dtype=float).reshape(-1, 3),
            routes=self.routes,
            speed_limit_mps=self.speed_limit_mps,
        )


def ribbon(line: np.ndarray, left_m: float | np.ndarray, right_m: float | np.ndarray) -> shapely.Polygon:
    """The area along a line between two left offsets (right ones are negative)."""
    return shapely.Polygon(np.concatenate([offset(line, left_m), offset(line, right_m)[::-1]]))


def closed(area: BaseGeometry, radius_m: float) -> BaseGeometry:
    """Round the inner corners of an area, as kerbs are where two streets meet."""
    return area.buffer(radius_m, quad_segs=16).buffer(-radius_m, quad_segs=16)


def simple_polygons(area: BaseGeometry) -> Iterable[np.ndarray]:
    """Cut an area into polygons [N, 2] without holes, which overlap by a few centimetres at the cuts."""
    for part in shapely.get_parts(_tidy(area)):
        if part.geom_type == "Polygon" and part.area > 0.05:
            yield from _without_holes(part)


def _without_holes(polygon: shapely.Polygon) -> Iterable[np.ndarray]:
    if not polygon.interiors:
        yield np.array(polygon.exterior.coords)[:-1]
        return
    low_x, low_y, high_x, high_y = polygon.bounds
    cut = polygon.interiors[0].centroid.x
    for left, right in ((low_x - 1, cut + 0.02), (cut - 0.02, high_x + 1)):
        yield from simple_polygons(polygon.intersection(shapely.box(left, low_y - 1, right, high_y + 1)))


def _off_crossings(marking: Marking, crossed: BaseGeometry) -> Iterable[Marking]:
    """Lane and centre lines stop before a crossing and go on behind it."""
    line = shapely.LineString(marking.line)
    if marking.kind not in ("lane_line", "centre_line") or not crossed.intersects(line):
        yield marking
        return
    for part in shapely.get_parts(line.difference(crossed)):
        yield replace(marking, line=np.array(part.coords))


def _tidy(area: BaseGeometry) -> BaseGeometry:
    """Join parts that only touch, and drop points that add less than a centimetre."""
    return area.buffer(0.01, join_style="mitre").buffer(-0.01, join_style="mitre").simplify(0.01)
