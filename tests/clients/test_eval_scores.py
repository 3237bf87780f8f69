"""Scores from traces: the same numbers as the world's own, on the same drives; and what is kept of a drive."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.eval.comfort import comfortable
from clients.eval.scores import score
from clients.eval.trace import NOBODY, Trace, TraceError, TraceRecorder
from clients.observation import Observation, StepResult
from server.observe import observe
from worldmodel.engine import ChunkResult
from worldmodel.scene import comfort as world_comfort
from worldmodel.scene.actions import ActionChunk
from worldmodel.scene.clock import FRAME_DT_S
from worldmodel.scene.expert import Expert
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.scene import Scene
from worldmodel.scene.scores import EpisodeRecord, free_drive_by_frame, score_episode

ABOUT = {"dt_s": FRAME_DT_S, "frames_per_chunk": 4}


def drive(scenario: str, seed: int, chunks: int, wild: float) -> tuple[EpisodeRecord, TraceRecorder]:
    """The expert with noise, judged by the world and as a client sees it."""
    loaded = load_scenario(scenario)
    scene = Scene(loaded, seed)
    expert, rng = Expert(scene), np.random.default_rng(seed)
    record = EpisodeRecord.start(scene.path, scene.frame, scene.checks[0])
    free = free_drive_by_frame(scene.path, scene.frame, scene.checks[0], loaded.duration_s)
    opening = ChunkResult(0, -1, np.empty(0), (scene.frame,), tuple(scene.checks), free_drive_m=free)
    recorder = TraceRecorder(_seen(opening, Observation), dict(ABOUT))
    while scene.outcome == "running" and recorder.chunks < chunks:
        values = expert.act().values + (wild * rng.normal(size=(4, 2)) * [0.1, 3.0]).astype(np.float32)
        action = np.clip(values, [-0.6, -8.0], [0.6, 4.0]).astype(np.float32)
        frames = scene.step(ActionChunk("controls", action))
        for frame, checks in zip(frames, scene.checks, strict=True):
            record.add(frame, checks)
        result = ChunkResult(
            0, 0, np.empty(0), tuple(frames), tuple(scene.checks), scene.outcome, scene.reason
        )
        recorder.add("controls", action, _seen(result, StepResult), 1.0, 2.0)
    record.outcome = scene.outcome
    return record, recorder


def _seen(result: ChunkResult, kind: Any) -> Any:
    values = observe(result)
    values["ego_frames"] = values.pop("ego")
    if kind is Observation:
        values = {key: value for key, value in values.items() if key not in ("outcome", "reason", "cache")}
    return kind(session="s", chunk=result.chunk, cameras={}, encoding="raw", frames={}, **values)


@pytest.mark.parametrize(
    ("scenario", "seed", "wild"),
    [
        ("highway_cut_in", 3, 0.0),
        ("urban_busy_dusk", 1, 1.0),
        ("left_turn_lights", 2, 2.0),
        ("u_turn", 5, 0.5),
    ],
)
def test_a_client_scores_a_drive_as_the_world_does(scenario: str, seed: int, wild: float) -> None:
    record, recorder = drive(scenario, seed, 30, wild)
    ours, theirs = score(recorder.trace()).to_dict(), score_episode(record).to_dict()
    theirs.pop("outcome")
    for name, value in theirs.items():
        assert ours[name] == (None if value is None else pytest.approx(value, abs=1e-12)), name


def test_hits_lights_and_ways_off_the_road_are_counted_alike() -> None:
    """The same frames with faults written into them: every branch of the formulas, whatever the traffic does."""
    record, recorder = drive("highway_empty", 1, 12, 0.0)
    trace = recorder.trace()
    for k, other in ((5, 7), (6, 7), (9, -1), (12, -1), (30, -1), (33, 8)):
        trace.collision_with[k] = other
        trace.frames["collision_at_fault"][k] = other != 8
        trace.collision_kind[k] = {7: 4, 8: 0}.get(other, -1)
    trace.frames["red_light"][20] = trace.frames["wrong_way"][21] = trace.frames["off_road"][22] = True
    trace.frames["ttc_s"][23] = 0.4
    trace.about["outcome"] = record.outcome = "timeout"
    record.contacts.clear()
    from worldmodel.scene.scores import Contact

    record.contacts += [Contact(5, "pedestrian", 7, True), Contact(9, "static", -1, True)]
    record.contacts += [Contact(30, "static", -1, True), Contact(33, "vehicle", 8, False)]
    record.red_lights, record.wrong_way[21], record.off_road[22], record.ttc_s[23] = 1, True, True, 0.4
    ours, theirs = score(trace).to_dict(), score_episode(record).to_dict()
    theirs.pop("outcome")
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    assert (ours["contacts"], ours["pdms"]) == (4, 0.0)


def test_progress_against_a_reference_drive_is_measured_as_the_world_does() -> None:
    slow, slow_trace = drive("highway_empty", 1, 12, 0.0)
    fast, fast_trace = drive("highway_empty", 1, 9, 1.0)
    slow.expect(fast)
    ours = score(slow_trace.trace(), fast_trace.trace())
    assert ours.ego_progress == pytest.approx(score_episode(slow).ego_progress, abs=1e-12)
    assert ours.ade_m is not None
    assert 0 < ours.ade_m < 20
    assert score(slow_trace.trace(), slow_trace.trace()).ade_m == 0


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 40])
def test_comfort_is_judged_alike(count: int) -> None:
    rng = np.random.default_rng(count)
    for scale in (0.05, 0.5, 5.0):
        speed, yaw = 10 + np.cumsum(rng.normal(0, scale, count)), np.cumsum(rng.normal(0, scale / 10, count))
        np.testing.assert_array_equal(
            comfortable(speed, yaw, FRAME_DT_S), world_comfort.comfortable(speed, yaw, FRAME_DT_S)
        )


def test_a_trace_survives_its_file(tmp_path: Path) -> None:
    _, recorder = drive("urban_busy_dusk", 2, 5, 0.5)
    trace = recorder.trace()
    trace.save(tmp_path / "trace.npz")
    again = Trace.load(tmp_path / "trace.npz")
    assert again.about == trace.about
    for name, values in asdict(trace).items():
        if name == "frames":
            for column in values:
                np.testing.assert_array_equal(again.frames[column], values[column])
        elif name != "about":
            np.testing.assert_array_equal(getattr(again, name), values)
    assert score(again) == score(trace)
    assert len(again.agents_at(0)[0]) == again.agents_from[1]
    assert (again.collision_with == NOBODY).all()


def test_a_fork_of_a_recorder_shares_what_was_and_nothing_after() -> None:
    _, recorder = drive("highway_empty", 1, 3, 0.0)
    branch = recorder.fork(branch="b")
    _, other = drive("highway_empty", 1, 4, 0.0)
    branch.add("controls", other.past[3].values, other._seen[4], 1.0, 2.0)
    assert (len(recorder.trace().ego), len(branch.trace().ego)) == (13, 17)
    assert branch.about["branch"] == "b"
    assert "branch" not in recorder.about


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"nonsense", lambda data: b""]
)
def test_a_damaged_trace_is_said_to_be_one(tmp_path: Path, damage: Any) -> None:
    _, recorder = drive("highway_empty", 1, 1, 0.0)
    path = tmp_path / "trace.npz"
    recorder.trace().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TraceError, match="expected a trace"):
        Trace.load(path)
