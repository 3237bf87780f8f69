"""A world's roads as lines for a picture from above, within a fixed size. Imported by workers only."""

from collections.abc import Iterable
from typing import Any, get_args

import numpy as np
import shapely

from clients.protocol.lane_map import LineKind
from worldmodel.engine import Surroundings
from worldmodel.scene.lane_graph import LaneGraph, lane_graph
from worldmodel.scene.world import StaticWorld

MAX_POINTS = 20_000  # about 350 KB of JSON; the maps that are shipped have about 1,000
TOLERANCE_M = 0.05

Line = list[list[float]]


def lane_map(around: Surroundings, max_points: int = MAX_POINTS) -> dict[str, Any]:
    """The fields of `clients.protocol.LaneMap` but for the session.

    Lines lose the points that they can spare: first within 5 cm, then more coarsely until the whole map has at most
    `max_points`, or each line only its ends.
    """
    tolerance_m = TOLERANCE_M
    drawn = _draw(around, tolerance_m)
    while _count(drawn) > max_points and tolerance_m < 100.0:
        tolerance_m *= 2.0
        drawn = _draw(around, tolerance_m)
    ends = np.concatenate([np.array(line) for line in _lines(drawn)])
    return {
        "name": around.world.name,
        "weather": around.atmosphere.weather,
        "time_of_day": around.atmosphere.time_of_day,
        "bounds_m": [*ends.min(axis=0).tolist(), *ends.max(axis=0).tolist()],
        "tolerance_m": tolerance_m,
        **drawn,
    }


def _draw(around: Surroundings, tolerance_m: float) -> dict[str, Any]:
    world = around.world
    return {
        "lanes": _lanes(lane_graph(world), tolerance_m),
        "boundaries": _boundaries(world, tolerance_m),
        "crosswalks": [
            {"points": _line(crossing.line, tolerance_m), "width_m": crossing.width_m}
            for crossing in world.crossings
        ],
        "lights": [
            {"x_m": _cm(light.x_m), "y_m": _cm(light.y_m), "yaw_rad": light.yaw_rad}
            | {"stop_line": _line(light.stop_line, tolerance_m)}
            for light in world.lights
        ],
        "route": _line(around.path.points, tolerance_m),
    }


def _lanes(graph: LaneGraph, tolerance_m: float) -> list[dict[str, Any]]:
    return [
        {
            "centre": _line(info.points, tolerance_m),
            "width_m": _cm(info.lane.width_at(0.0)),
            "limit_mps": _cm(info.lane.speed_limit),
        }
        for info in graph.lanes.values()
    ]


def _boundaries(world: StaticWorld, tolerance_m: float) -> list[dict[str, Any]]:
    kinds = get_args(LineKind)
    return [
        {
            "kind": marking.kind,
            "points": _line(marking.line, tolerance_m),
            "width_m": marking.width_m,
            "dashed": marking.dash_m is not None,
        }
        for marking in world.markings
        if marking.kind in kinds
    ]


def _line(points: np.ndarray, tolerance_m: float) -> Line:
    simple = shapely.LineString(points).simplify(tolerance_m, preserve_topology=False)
    return [[_cm(x), _cm(y)] for x, y in simple.coords]


def _cm(metres: float) -> float:
    return round(float(metres), 2)


def _lines(drawn: dict[str, Any]) -> Iterable[Line]:
    yield drawn["route"]
    for part, key in (
        ("lanes", "centre"),
        ("boundaries", "points"),
        ("crosswalks", "points"),
        ("lights", "stop_line"),
    ):
        yield from (item[key] for item in drawn[part])


def _count(drawn: dict[str, Any]) -> int:
    return sum(len(line) for line in _lines(drawn))
