"""Maps of worlds, weather and time of day, over the wire with the reference engine; and how maps stay small."""

from collections.abc import Iterator
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import pytest

from clients import aio
from clients.client import Client, connect
from clients.protocol import ErrorCode, LaneMap, ProtocolError
from clients.protocol.lane_map import Line
from server.lane_map import lane_map
from worldmodel.engine import Surroundings
from worldmodel.scene.conditions import TIMES_OF_DAY, WEATHERS, fix_conditions
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene

SCENARIO, RIG = "urban_cruise", "front1"


@pytest.fixture(scope="module")
def url(run_server: Any) -> Iterator[str]:
    with run_server("--engine", "reference") as server:
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with connect(url, encoding="raw") as client:
        yield client


def surroundings(scenario: str, seed: int = 3) -> Surroundings:
    scene = Scene(load_scenario(scenario), seed)
    return Surroundings(scene.world, scene.path, scene.atmosphere)


def points(seen: LaneMap) -> int:
    lines: list[Line] = [seen.route, *(lane.centre for lane in seen.lanes)]
    lines += [part.points for part in (*seen.boundaries, *seen.crosswalks)]
    return sum(map(len, lines))


def distance_m(x: float, y: float, line: Line) -> float:
    path = np.array(line)
    along = np.diff(path, axis=0)
    share = ((np.array([x, y]) - path[:-1]) * along).sum(1) / (along**2).sum(1)
    nearest = path[:-1] + np.clip(share, 0, 1)[:, None] * along
    return float(np.hypot(*(np.array([x, y]) - nearest).T).min())


def test_a_session_knows_the_roads_around_it(client: Client) -> None:
    session = client.session
    started = session.reset(SCENARIO, seed=3, rig=RIG)
    seen = session.lane_map()
    assert seen.session == session.name
    assert distance_m(started.ego["x_m"], started.ego["y_m"], seen.route) < 0.2
    kinds = {boundary.kind for boundary in seen.boundaries}
    assert {"kerb", "centre_line", "stop_line"} <= kinds
    assert any(boundary.dashed for boundary in seen.boundaries)
    assert seen.crosswalks
    assert len(seen.lights) == len(started.metrics["lights"]) > 0
    assert all(2.0 < lane.width_m < 6.0 and lane.limit_mps > 1.0 for lane in seen.lanes)
    left, low, right, high = seen.bounds_m
    assert left <= started.ego["x_m"] <= right
    assert low <= started.ego["y_m"] <= high


def test_a_map_is_sent_once_and_changes_with_the_world(client: Client, url: str, http: Any) -> None:
    session = client.session
    path = f"/v1/sessions/{session.name}/map"
    assert http(url, path).status == 409
    session.reset(SCENARIO, seed=3, rig=RIG)
    first = http(url, path)
    tag = first.headers["etag"]
    session.step([0.0, 0.0])
    opener = build_opener(ProxyHandler({}))
    request = Request(url + path, headers={"If-None-Match": tag})
    with pytest.raises(Exception, match="304") as unchanged:
        opener.open(request, timeout=20)
    unchanged.value.close()  # type: ignore[attr-defined]
    session.reset("highway_empty", seed=3, rig=RIG)
    other = http(url, path)
    assert (other.status, other.headers["etag"] != tag) == (200, True)
    assert other.body["name"] != first.body["name"]


async def test_the_asynchronous_client_reads_the_same_map(url: str) -> None:
    async with aio.connect(url) as client:
        await client.session.reset(SCENARIO, rig=RIG)
        assert (await client.session.lane_map()).lanes
        assert (await client.session.set_tier("exact")).next_chunk == 0


def test_an_engine_without_maps_says_so(run_server: Any, http: Any) -> None:
    with run_server() as server, connect(server.url) as client:
        client.session.reset("zero", rig=RIG)
        with pytest.raises(ProtocolError, match="map") as refused:
            client.session.lane_map()
        assert refused.value.code is ErrorCode.BAD_REQUEST
        assert client.session.step([0.0, 0.0]).chunk == 0


def test_weather_and_time_of_day_are_as_asked_and_the_drive_is_the_same(client: Client) -> None:
    session = client.session
    plain = session.reset(SCENARIO, seed=3, rig=RIG)
    night = session.reset(SCENARIO, seed=3, rig=RIG, options={"weather": "rain", "time_of_day": "night"})
    seen = session.lane_map()
    assert (seen.weather, seen.time_of_day) == ("rain", "night")
    assert np.array_equal(night.agents, plain.agents)
    assert night.image("front_wide").mean() < 0.7 * plain.image("front_wide").mean()
    handle = session.snapshot().handle
    expected = session.step([0.0, 0.5]).frames
    session.reset(SCENARIO, seed=3, rig=RIG)
    session.restore(handle)
    assert session.lane_map().time_of_day == "night"
    assert session.step([0.0, 0.5]).frames == expected


def test_the_reference_engine_has_the_exact_tier_alone(client: Client) -> None:
    assert client.server.tiers == ["exact"]
    client.session.reset(SCENARIO, rig=RIG)
    assert client.session.set_tier("exact").tier == "exact"
    with pytest.raises(ProtocolError, match=r"expected tier 'exact'.* got 'fast'") as refused:
        client.session.set_tier("fast")
    assert refused.value.code is ErrorCode.BAD_REQUEST
    assert client.session.step([0.0, 0.0]).cache is None


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("time_of_day", [None, *TIMES_OF_DAY])
def test_fixed_conditions_leave_everything_else_to_the_seed(weather: str, time_of_day: str | None) -> None:
    scenario = load_scenario(SCENARIO)
    fixed = Scene(fix_conditions(scenario, weather, time_of_day), 5)
    free = Scene(scenario, 5)
    assert fixed.atmosphere.weather == weather
    assert fixed.atmosphere.time_of_day == (time_of_day or free.atmosphere.time_of_day)
    assert fixed.frame == free.frame


def test_a_map_with_too_many_points_gets_coarser_until_it_fits() -> None:
    around = surroundings("rural_bends")
    fine = LaneMap(session="s", **lane_map(around))
    coarse = LaneMap(session="s", **lane_map(around, max_points=points(fine) // 2))
    assert points(coarse) <= points(fine) // 2
    assert coarse.tolerance_m > fine.tolerance_m
    for x, y in fine.route:
        assert distance_m(x, y, coarse.route) < coarse.tolerance_m + 0.02


def test_lines_of_a_map_are_as_true_as_it_says() -> None:
    around = surroundings("roundabout_back")
    seen = LaneMap(session="s", **lane_map(around))
    gaps = [distance_m(x, y, seen.route) for x, y in around.path.points]
    assert max(gaps) <= seen.tolerance_m + 0.01
