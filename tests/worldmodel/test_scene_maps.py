"""What holds for every map: routes on the road, nothing in the way, connected lanes, lights over their lanes."""

import numpy as np
import pytest
import shapely
from highway_env.road.road import Road
from highway_env.vehicle.behavior import IDMVehicle
from pydantic import TypeAdapter, ValidationError

from worldmodel.scene.maps import MapSpec, build_map
from worldmodel.scene.maps.roadside import footprint
from worldmodel.scene.path import ReferencePath
from worldmodel.scene.world import StaticWorld

SPECS = TypeAdapter(MapSpec)
CASES = [
    ({"kind": "highway"}, 0),
    ({"kind": "highway", "lanes": 2, "length_m": 300, "curvature": 1.0, "lane_width_m": 3.75}, 4),
    ({"kind": "two_way"}, 0),
    ({"kind": "two_way", "curvature": 1.0, "length_m": 400}, 2),
    ({"kind": "merge"}, 0),
    ({"kind": "merge", "lanes": 3, "ramp_radius_m": 45, "acceleration_lane_m": 80, "length_m": 200}, 1),
    ({"kind": "exit"}, 0),
    ({"kind": "exit", "lanes": 3, "ramp_radius_m": 45, "deceleration_lane_m": 80, "length_m": 200}, 1),
    ({"kind": "roundabout"}, 0),
    ({"kind": "roundabout", "radius_m": 15, "lane_width_m": 3.75, "crossings": False}, 1),
    ({"kind": "roundabout", "radius_m": 30, "lane_width_m": 3.3}, 1),
    ({"kind": "intersection"}, 0),
    ({"kind": "intersection", "lanes": 2, "signalised": False, "corner_radius_m": 5}, 1),
    ({"kind": "intersection", "crossings": False, "corner_radius_m": 12}, 2),
    ({"kind": "intersection", "crossings": False, "signalised": False}, 3),
    ({"kind": "u_turn"}, 0),
    ({"kind": "u_turn", "lanes": 1, "median_m": 9.5, "lane_width_m": 3.3}, 1),
    ({"kind": "u_turn", "lanes": 3, "median_m": 20}, 1),
    *(({"kind": "rural"}, seed) for seed in range(3)),
    ({"kind": "rural", "min_radius_m": 30, "bend_share": 1.0, "length_m": 500, "hedges": 1.0}, 3),
    *(({"kind": "urban"}, seed) for seed in range(5)),
    ({"kind": "urban", "signalised": 0.0, "t_junctions": 0.0, "curvature": 1.0, "parking": 1.0}, 5),
    (
        {
            "kind": "urban",
            "junctions": 2,
            "length_m": 300,
            "crossings": False,
            "t_junctions": 1.0,
            "density": 0,
        },
        6,
    ),
]
CAR = (4.7, 1.9)


def _name(case: tuple[dict, int]) -> str:
    return "-".join(str(v) for v in (*case[0].values(), case[1]))


@pytest.fixture(params=CASES, ids=_name)
def world(request: pytest.FixtureRequest) -> StaticWorld:
    spec, seed = request.param
    return build_map(SPECS.validate_python(spec), seed)


def _drivable(world: StaticWorld) -> shapely.Polygon:
    return shapely.union_all([shapely.Polygon(p) for p in world.drivable])


def test_routes_stay_on_the_drivable_area_with_a_car_width_to_spare(world: StaticWorld) -> None:
    drivable = _drivable(world)
    for name, route in world.routes.items():
        swept = shapely.LineString(route.points).buffer(0.95, cap_style="flat")
        assert swept.difference(drivable).area < 1e-3, name


def test_routes_are_evenly_spaced_smooth_and_long_enough(world: StaticWorld) -> None:
    assert world.routes
    for name, route in world.routes.items():
        steps = np.diff(route.s_m)
        assert abs(steps - 1.0).max() < 0.05, name
        assert abs(route.curvature_per_m).max() < 1 / 6.0, name
        assert 130.0 <= route.length_m <= 3000.0, name


def test_speed_limits_respect_bends_and_announce_them(world: StaticWorld) -> None:
    for name, route in world.routes.items():
        lateral = route.speed_limit_mps**2 * np.abs(route.curvature_per_m)
        braking = -np.diff(route.speed_limit_mps**2) / (2 * np.diff(route.s_m))
        assert lateral.max() < 2.51, name
        assert braking.max() < 1.81, name
        assert route.speed_limit_mps.min() > 3.0, name


def test_every_leg_of_a_route_is_connected_in_the_lane_graph(world: StaticWorld) -> None:
    for name, route in world.routes.items():
        for here, following in zip(route.lanes[:-1], route.lanes[1:], strict=True):
            same_edge = here[:2] == following[:2] and abs(here[2] - following[2]) == 1
            assert same_edge or here[1] == following[0], name
        path = world.network.shortest_path(route.lanes[0][0], route.lanes[-1][1])
        nodes = [route.lanes[0][0], *dict.fromkeys(lane[1] for lane in route.lanes)]
        assert path == nodes, name


def test_lanes_begin_where_the_lanes_before_them_end(world: StaticWorld) -> None:
    lanes = world.network.lanes_dict()
    for (_, middle, _), lane in lanes.items():
        followers = [other for (start, _, _), other in lanes.items() if start == middle]
        end, yaw = lane.position(lane.length, 0.0), lane.heading_at(lane.length)
        gaps = [np.linalg.norm(other.position(0.0, 0.0) - end) for other in followers]
        if gaps:
            turned = np.array([other.heading_at(0.0) - yaw for other in followers])
            assert min(gaps) < lane.width_at(0.0) + 0.01, middle
            assert np.abs(np.sin(turned)).max() < 0.03, middle
        else:
            assert middle.endswith(".out")


def test_lanes_lie_on_the_drivable_area_without_gaps(world: StaticWorld) -> None:
    drivable = _drivable(world).buffer(0.05)
    for index, lane in world.network.lanes_dict().items():
        points = [lane.position(s, 0.0) for s in np.linspace(0.0, lane.length, int(lane.length) + 2)]
        swept = shapely.LineString(points).buffer(0.95, cap_style="flat")
        assert swept.difference(drivable).area < 1e-3, index


def test_drivable_polygons_and_surfaces_are_simple(world: StaticWorld) -> None:
    for polygon in (*world.drivable, *(s.polygon for s in world.surfaces)):
        assert len(polygon) >= 3
        assert shapely.Polygon(polygon).is_valid


def test_no_structure_stands_on_anything_paved_for_cars(world: StaticWorld) -> None:
    bays = [shapely.Polygon(s.polygon) for s in world.surfaces if s.kind == "parking"]
    paved = shapely.union_all([_drivable(world), *bays])
    shapely.prepare(paved)
    inside = [s for s in world.structures if paved.intersects(footprint(s))]
    assert inside == []


def test_houses_do_not_stand_in_one_another(world: StaticWorld) -> None:
    areas = [footprint(s) for s in world.structures if s.kind == "building"]
    for k, area in enumerate(areas[1:], start=1):
        assert not shapely.intersects(area, areas[:k]).any()


def test_every_light_rules_lanes_that_end_at_its_stop_line(world: StaticWorld) -> None:
    drivable = _drivable(world)
    for light in world.lights:
        assert 0.3 < drivable.distance(shapely.Point(light.x_m, light.y_m)) < 1.5
        stop = shapely.LineString(light.stop_line)
        assert light.lanes
        for index in light.lanes:
            lane = world.network.get_lane(index)
            ahead = [lane.position(lane.length + d, 0.0) for d in (-0.5, 0.5)]
            assert shapely.LineString(ahead).intersects(stop)
            right, left = (lane.local_coordinates(end)[1] for end in light.stop_line)
            assert right < 0 < left
            assert np.cos(light.yaw_rad - lane.heading_at(lane.length)) < -0.99


def test_no_line_is_painted_across_a_junction_or_a_crossing(world: StaticWorld) -> None:
    turns = [
        lane
        for (start, end, _), lane in world.network.lanes_dict().items()
        if start.endswith(".stop") and end.endswith(".go")
    ]
    middles = [shapely.Point(lane.position(lane.length / 2, 0.0)).buffer(0.8) for lane in turns]
    walks = [
        shapely.LineString(c.line).buffer(c.width_m / 2 - 0.05, cap_style="flat") for c in world.crossings
    ]
    painted = {
        kind: [m.line for m in world.markings if m.kind == kind]
        for kind in ("lane_line", "centre_line", "kerb")
    }
    for kind, lines in painted.items():
        blocked = shapely.union_all(middles if kind == "kerb" else [*middles, *walks])
        assert not [line for line in lines if shapely.LineString(line).intersects(blocked)], kind


def test_parked_cars_fit_between_lane_and_kerb(world: StaticWorld) -> None:
    parking = shapely.union_all([shapely.Polygon(s.polygon) for s in world.surfaces if s.kind == "parking"])
    for x, y, yaw in world.parking_bays:
        assert parking.buffer(0.05).contains(_box(x, y, yaw))


def _box(x: float, y: float, yaw: float) -> shapely.Polygon:
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * CAR
    cos, sin = np.cos(yaw), np.sin(yaw)
    return shapely.Polygon(corners @ np.array([[cos, sin], [-sin, cos]]) + [x, y])


DRIVES = [case for case in CASES if case[1] == 0 or case[0]["kind"] == "urban"][:10]


@pytest.mark.parametrize("case", DRIVES, ids=_name)
def test_a_highway_env_driver_follows_every_route_without_leaving_the_road(case: tuple[dict, int]) -> None:
    world = build_map(SPECS.validate_python(case[0]), case[1])
    drivable = _drivable(world).buffer(0.4)
    shapely.prepare(drivable)
    for name, route in world.routes.items():
        changes = any(a[:2] == b[:2] for a, b in zip(route.lanes[:-1], route.lanes[1:], strict=True))
        if not changes:
            _drive(world, route, drivable, name)


def _drive(world: StaticWorld, route: ReferencePath, drivable: shapely.Polygon, name: str) -> None:
    """20 s from somewhat before the first tight bend, keeping to the route's speed limit."""
    bend = np.abs(route.curvature_per_m)
    tightest = float(route.s_m[np.argmax(bend > 0.9 * bend.max())])
    s = max(0.0, min(tightest - 70.0, route.length_m - 250.0))
    x, y, yaw = route.pose_at(s)
    road = Road(world.network, np_random=np.random.RandomState(0))
    lane = min(route.lanes, key=lambda i: world.network.get_lane(i).distance(np.array([x, y])))
    nodes = list(route.lanes[route.lanes.index(lane) :])
    speed = float(route.limit_at(s))
    car = IDMVehicle(road, np.array([x, y]), yaw, speed, lane, speed, nodes, enable_lane_change=False)
    road.vehicles.append(car)
    for _ in range(20 * 12):
        s = route.project(*car.position, near_s_m=s).s_m
        if s > route.length_m - 5.0:
            break
        car.target_speed = float(route.limit_at(s + 1.0))
        road.act()
        road.step(1 / 12)
        assert drivable.contains(_box(*car.position, car.heading)), (name, s)
    assert s > tightest or s > 0.8 * route.length_m, name


def _equal(a: StaticWorld, b: StaticWorld) -> bool:
    return (
        a.structures == b.structures
        and len(a.markings) == len(b.markings)
        and all(np.array_equal(m.line, n.line) for m, n in zip(a.markings, b.markings, strict=True))
        and all(np.array_equal(p, q) for p, q in zip(a.drivable, b.drivable, strict=True))
        and all(np.array_equal(a.routes[k].points, b.routes[k].points) for k in a.routes)
    )


@pytest.mark.parametrize("kind", ["highway", "rural", "urban"])
def test_a_seed_names_one_world(kind: str) -> None:
    from worldmodel.scene.maps import _build

    spec = SPECS.validate_python({"kind": kind})
    assert build_map(spec, 3) is build_map(SPECS.validate_python({"kind": kind}), 3)
    assert _equal(build_map(spec, 3), _build.__wrapped__(spec, 3))
    assert not _equal(build_map(spec, 3), build_map(spec, 4))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "motorway"}, "highway"),
        ({"kind": "highway", "lane": 2}, "lane"),
        ({"kind": "highway", "lanes": 9}, "less than or equal to 4"),
        ({"kind": "urban", "lane_width_m": 5.0}, "3.75"),
        ({"kind": "urban", "length_m": 250, "junctions": 6}, "expected length_m of at least 75 per junction"),
    ],
)
def test_a_wrong_specification_is_refused_with_its_reason(spec: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SPECS.validate_python(spec)
