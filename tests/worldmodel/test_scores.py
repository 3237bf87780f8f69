"""Episode scores against values worked out by hand."""

import json
import math

import numpy as np
import pytest

from worldmodel.scene.checks import STATIC, FrameChecks
from worldmodel.scene.path import ReferencePath
from worldmodel.scene.scores import EpisodeRecord, EpisodeScores, free_drive, pdm_score, score_episode
from worldmodel.scene.state import AgentState, EgoState, SceneFrame

AGENTS = tuple(
    AgentState(id, kind, 0, 0, 0, 1, 1, 1, 1, (0, 0, 0))  # type: ignore[arg-type]
    for id, kind in ((1, "car"), (2, "pedestrian"), (3, "cyclist"))
)


def straight_path(length_m: float = 1000.0, limit_mps: float = 10.0) -> ReferencePath:
    x = np.arange(0.0, length_m + 1)
    points = np.stack([x, np.zeros_like(x)], axis=1)
    return ReferencePath(points, np.full_like(x, limit_mps), np.full_like(x, 2.0), ())


def checks(**changes: object) -> FrameChecks:
    fine = {
        "collision_with": None,
        "collision_at_fault": False,
        "off_road": False,
        "wrong_way": False,
        "red_light": False,
        "ttc_s": math.inf,
        "lane_offset_m": 0.0,
        "heading_error_rad": 0.0,
        "route_progress_m": 0.0,
        "route_completion": 0.0,
        "speed_limit_mps": 10.0,
    }
    return FrameChecks(**{**fine, **changes})  # type: ignore[arg-type]


def episode(
    speed_mps: float = 10.0, seconds: int = 10, events: dict[int, dict[str, object]] | None = None
) -> EpisodeRecord:
    """A straight drive at one speed; `events` change the checks of single frames."""
    record: EpisodeRecord | None = None
    for k in range(seconds * 12 + 1):
        x = speed_mps * k / 12
        frame = SceneFrame(k, k / 12, EgoState(x, 0, 0, speed_mps), AGENTS, ())
        made = checks(route_progress_m=x, route_completion=x / 1000, **(events or {}).get(k, {}))
        if record is None:
            record = EpisodeRecord.start(straight_path(), frame, made)
        else:
            record.add(frame, made)
    assert record is not None
    return record


def hit(agent: int, fault: bool = True) -> dict[str, object]:
    return {"collision_with": agent, "collision_at_fault": fault}


def test_pdms_is_the_product_of_gates_and_the_weighted_mean() -> None:
    assert pdm_score(1, 1, 1, 1, 1) == 1.0
    assert pdm_score(1, 1, 0, 0.5, 1) == pytest.approx((2.5 + 2) / 12)
    assert pdm_score(0.5, 1, 1, 0.8, 0) == pytest.approx(0.5 * 9 / 12)
    assert pdm_score(1, 0, 1, 1, 1) == 0.0


def test_a_clean_drive_at_the_limit_scores_full_marks() -> None:
    scores = score_episode(episode())
    assert (scores.no_collision, scores.drivable_area, scores.time_to_collision, scores.comfort) == (
        1,
        1,
        1,
        1,
    )
    assert scores.ego_progress == pytest.approx(1.0)
    assert scores.pdms == pytest.approx(1.0)
    assert scores.route_completion == pytest.approx(0.1)
    assert scores.driving_score == pytest.approx(0.1)
    assert (scores.distance_m, scores.duration_s) == (pytest.approx(100.0), pytest.approx(10.0))


def test_progress_is_measured_against_the_free_drive_from_the_same_start() -> None:
    # The free drive gains 2.4 m/s^2 from 5 to 10 m/s: 2.083 s at a mean of 7.5 m/s, then 10 m/s.
    free = 7.5 * (5 / 2.4) + 10 * (10 - 5 / 2.4)
    assert score_episode(episode(speed_mps=5.0)).ego_progress == pytest.approx(50 / free, rel=1e-3)


def test_a_reference_driver_replaces_the_free_drive() -> None:
    record = episode(speed_mps=5.0, seconds=10)
    record.expect(episode(speed_mps=6.25, seconds=12))
    assert score_episode(record).ego_progress == pytest.approx(0.8)
    record.expect(episode(speed_mps=6.25, seconds=4))  # it was done sooner, and would have gone on
    assert score_episode(record).ego_progress == pytest.approx(0.8)
    record.expect(episode(speed_mps=0.4))  # 4 m: nothing to be gained there
    assert score_episode(record).ego_progress == 1.0


def test_the_free_drive_starts_from_rest_at_the_bound_and_brakes_for_bends() -> None:
    times, distances = free_drive(straight_path(limit_mps=100.0), 0.0, 0.0)
    assert np.interp(10.0, times, distances) == pytest.approx(2.4 * 10**2 / 2, rel=1e-3)
    angle = np.linspace(0, np.pi / 2, 50)
    bend = np.stack([100 + 20 * np.sin(angle), 20 - 20 * np.cos(angle)], axis=1)
    points = np.concatenate([np.stack([np.arange(100.0), np.zeros(100)], axis=1), bend])
    path = ReferencePath(points, np.full(150, 30.0), np.full(150, 2.0), ())
    times, distances = free_drive(path, 0.0, 20.0)
    speed = np.diff(distances) / np.diff(times)
    assert speed[-5] == pytest.approx(math.sqrt(4.89 * 20), rel=0.02)  # v^2 / r at the lateral bound
    assert np.diff(speed**2)[60:95].min() / 2 == pytest.approx(-4.05, rel=0.02)


def test_past_the_end_of_the_route_the_free_drive_goes_on() -> None:
    record = episode(speed_mps=5.0, seconds=10)
    times, distances = free_drive(straight_path(20.0), 0.0, 5.0)
    record.expected_time_s, record.expected_m = times.tolist(), distances.tolist()
    assert score_episode(record).ego_progress < 0.6


@pytest.mark.parametrize(
    ("events", "nc", "penalty"),
    [
        ({40: hit(1), 41: hit(1), 80: hit(1)}, 0.0, 0.60),  # one car, however often
        ({40: hit(1), 50: hit(3)}, 0.0, 0.36),
        ({40: hit(2)}, 0.0, 0.50),
        ({40: hit(STATIC), 41: hit(STATIC)}, 0.5, 0.65),
        ({k: hit(STATIC) for k in range(40, 80)}, 0.5, 0.65),  # leaning on a wall is one contact
        ({40: hit(STATIC), 60: hit(STATIC)}, 0.5, 0.65**2),
        ({40: hit(1, fault=False)}, 1.0, 1.0),
        ({40: {"red_light": True}, 70: {"red_light": True}}, 1.0, 0.49),
    ],
)
def test_collisions_and_red_lights_cost_what_the_leaderboard_says(
    events: dict[int, dict[str, object]], nc: float, penalty: float
) -> None:
    scores = score_episode(episode(events=events))
    assert scores.no_collision == nc
    assert scores.infraction_penalty == pytest.approx(penalty)
    assert scores.driving_score == pytest.approx(0.1 * penalty)


def test_leaving_the_road_fails_the_gate_and_takes_its_share_off_the_completion() -> None:
    scores = score_episode(episode(events={k: {"off_road": True} for k in range(12)}))
    assert (scores.drivable_area, scores.pdms) == (0.0, 0.0)
    assert scores.off_road_share == pytest.approx(12 / 121)
    assert scores.driving_score == pytest.approx(0.1 * (1 - 12 / 121))


@pytest.mark.parametrize(("ttc", "score"), [(1.01, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_collision_within_a_second_is_a_violation(ttc: float, score: float) -> None:
    scores = score_episode(episode(events={5: {"ttc_s": ttc}}))
    assert (scores.time_to_collision, scores.min_ttc_s) == (score, ttc)


def test_success_needs_the_goal_and_a_clean_drive() -> None:
    clean, red = episode(), episode(events={5: {"red_light": True}})
    assert not score_episode(clean).success
    clean.outcome = red.outcome = "success"
    assert score_episode(clean).success
    assert not score_episode(red).success


def test_running_out_of_time_is_an_infraction() -> None:
    record = episode()
    record.outcome = "timeout"
    assert score_episode(record).infraction_penalty == pytest.approx(0.7)


def test_records_and_scores_are_plain_data() -> None:
    record = episode(events={40: hit(1), 41: {"ttc_s": 3.0}})
    again = EpisodeRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again == record
    scores = score_episode(again)
    assert EpisodeScores(**json.loads(json.dumps(scores.to_dict(), allow_nan=False))) == scores
