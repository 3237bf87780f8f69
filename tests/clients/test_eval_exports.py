"""What is made of a run: video, log, tables, dataset, page. Each is read back by somebody else's reader."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from clients.eval import evaluate
from clients.eval.column_stats import pooled, statistics
from clients.eval.comparison import compare, compare_results
from clients.eval.comparison_page import write_comparison
from clients.eval.harness import Evaluation
from clients.eval.lerobot import DatasetError, write_dataset
from clients.eval.mcap_log import OPTICAL, quaternion, rotation, write_log
from clients.eval.parquet import write_parquet
from clients.eval.report import report, write_report
from clients.eval.results import Result, ResultsError, RunFolder
from clients.eval.stats import bootstrap
from clients.eval.testing import FakeServer
from clients.eval.video import VideoError, write_mp4, write_video

SUITE = {
    "name": "two",
    "title": "Two <roads>",
    "repeats": 2,
    "scenarios": [
        {"scenario": "clear", "max_s": 3},
        {
            "scenario": "blocked",
            "group": "hard",
            "decision": {"at_s": 1.0, "branches": {"self": "policy", "brake": "constant?accel=-4"}},
        },
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Six rollouts with videos and logs."""
    with pytest.MonkeyPatch.context() as patch:
        server = FakeServer()
        for module in ("runner", "harness"):
            patch.setattr(f"clients.eval.{module}.connect", server.connect)
        out = tmp_path_factory.mktemp("run")
        policy = "constant?accel=1"
        video = partial(write_video, width_px=240)
        return evaluate(SUITE, policy, out, url="fake", slots=2, video=video, log=write_log)


def test_a_video_has_every_frame_at_the_right_rate(run: Evaluation) -> None:
    result = run.results[0]
    with av.open(str(run.folder.video_path(result.key))) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, float(stream.average_rate)) == ("h264", 12.0)
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    trace = run.folder.trace(result.key)
    assert len(pictures) == len(trace.ego) == 37
    front = np.array([picture[24:72, 16:104].mean() for picture in pictures])  # the camera grows brighter
    np.testing.assert_allclose(front, np.arange(37) * 5, atol=4)


def test_a_video_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="at least one frame"):
        write_mp4(tmp_path / "none.mp4", [], 12.0)
    assert not list(tmp_path.iterdir())


def test_a_log_holds_every_frame_in_foxgloves_schemas(run: Evaluation) -> None:
    result = next(r for r in run.results if r.branch == "brake")
    trace = run.folder.trace(result.key)
    with run.folder.log_path(result.key).open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        found: dict[str, list[Any]] = {}
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append((schema.name, message.log_time, decoded))
    names = {topic: rows[0][0] for topic, rows in found.items()}
    assert names == {
        "/camera/front/image": "foxglove.CompressedImage",
        "/camera/front/calibration": "foxglove.CameraCalibration",
        "/tf": "foxglove.FrameTransforms",
        "/ego/pose": "foxglove.PoseInFrame",
        "/world": "foxglove.SceneUpdate",
        "/state": "roadloop.State",
    }
    count = len(trace.ego)
    assert [len(found[t]) for t in ("/camera/front/image", "/tf", "/state")] == [count] * 3
    assert len(found["/world"]) == len(trace.step_ms) + 1
    states = [decoded for _, _, decoded in found["/state"]]
    np.testing.assert_allclose([s.speed_mps for s in states], trace.ego_column("speed_mps"))
    np.testing.assert_allclose([s.action_accel for s in states[12:24]], -4.0)
    times = np.array([time for _, time, _ in found["/ego/pose"]])
    np.testing.assert_allclose(np.diff(times), 1e9 / 12, atol=2)
    assert len(found["/world"][-1][2].entities[0].cubes) == 2  # the parked car and the ego


def test_camera_axes_in_the_log_look_where_the_camera_looks() -> None:
    for yaw, pitch, roll in ((0.0, 0.0, 0.0), (1.2, -0.3, 0.1), (3.0, 0.5, -0.7)):
        matrix = rotation(yaw, pitch, roll) @ OPTICAL
        x, y, z, w = quaternion(matrix)
        ahead = np.array(
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
        )  # the turned z axis
        np.testing.assert_allclose(ahead, matrix[:, 2], atol=1e-12)
        expected = [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)]
        np.testing.assert_allclose(ahead, expected, atol=1e-12)


def test_tables_have_a_row_per_rollout_and_per_frame(run: Evaluation, tmp_path: Path) -> None:
    rollouts, steps = write_parquet(run.folder, tmp_path)
    frame = pandas.read_parquet(rollouts)
    assert len(frame) == 6
    assert set(frame["status"]) == {"done"}
    assert frame.set_index("key").loc[run.results[0].key, "pdms"] == (run.results[0].scores or {})["pdms"]
    rows = pandas.read_parquet(steps)
    one = rows[rows["key"] == run.results[0].key]
    trace = run.folder.trace(run.results[0].key)
    np.testing.assert_array_equal(one["speed_mps"], trace.ego_column("speed_mps"))
    assert one["action_1"].iloc[0] == 1.0
    assert np.isnan(one["action_1"].iloc[-1])


def test_a_dataset_has_lerobots_layout(run: Evaluation, tmp_path: Path) -> None:
    assert write_dataset(run.folder, tmp_path / "set") == 6
    root = tmp_path / "set"
    info = json.loads((root / "meta/info.json").read_text())
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    data = pq.read_table(root / "data/chunk-000/file-000.parquet")
    lengths = [len(run.folder.trace(r.key).ego) - 1 for r in run.folder.ordered()]
    assert (info["codebase_version"], info["fps"], info["splits"]) == ("v3.0", 12, {"train": "0:6"})
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (6, sum(lengths), 2)
    assert [e["length"] for e in episodes] == lengths
    assert [e["dataset_from_index"] for e in episodes] == np.cumsum([0, *lengths[:-1]]).tolist()
    assert len(data) == episodes[-1]["dataset_to_index"] == sum(lengths)
    stored = {key for key, feature in info["features"].items() if feature["dtype"] != "video"}
    assert set(data.column_names) == stored
    kinds = {"float32": "float", "int64": "int64", "bool": "bool"}
    for name in stored:
        feature, kind = info["features"][name], data.schema.field(name).type
        if (size := feature["shape"][0]) > 1:
            assert kind.list_size == size, name
            kind = kind.value_type
        assert str(kind) == kinds[feature["dtype"]], name
    np.testing.assert_array_equal(data["index"], np.arange(sum(lengths)))
    first = data.slice(0, lengths[0]).to_pydict()
    np.testing.assert_allclose(first["timestamp"], np.arange(lengths[0]) / 12, rtol=1e-6)
    assert first["frame_index"] == list(range(lengths[0]))
    tasks = pandas.read_parquet(root / "meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert dict(tasks["task_index"]) == {"clear": 0, "blocked": 1}
    for episode, result in zip(episodes, run.folder.ordered(), strict=True):
        assert episode["tasks"] == [result.scenario]


def test_every_row_of_a_dataset_has_its_picture_at_its_time(run: Evaluation, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_dataset(run.folder, root)
    key = "observation.images.front"
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    info = json.loads((root / "meta/info.json").read_text())
    place = {name: episodes[0][f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
    with av.open(str(root / info["video_path"].format(video_key=key, **place))) as video:
        pictures = {
            float(f.pts * f.time_base): f.to_ndarray(format="rgb24").mean() for f in video.decode(video=0)
        }
    times = np.array(list(pictures))
    for episode in episodes:
        begins, ends = (episode[f"videos/{key}/{name}_timestamp"] for name in ("from", "to"))
        assert ends - begins == pytest.approx(episode["length"] / 12)
        for frame in (0, episode["length"] - 1):
            nearest = times[np.abs(times - (begins + frame / 12)).argmin()]
            assert nearest == pytest.approx(begins + frame / 12, abs=1e-3)
            assert pictures[nearest] == pytest.approx(frame * 5 % 256, abs=4)


def test_statistics_of_a_dataset_are_those_of_all_rows(run: Evaluation, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_dataset(run.folder, root)
    stats = json.loads((root / "meta/stats.json").read_text())
    info = json.loads((root / "meta/info.json").read_text())
    assert set(stats) == set(info["features"])
    rows = np.stack(pq.read_table(root / "data/chunk-000/file-000.parquet")["action"].to_pylist())
    for name, value in {
        "min": rows.min(0),
        "max": rows.max(0),
        "mean": rows.mean(0),
        "std": rows.std(0),
    }.items():
        np.testing.assert_allclose(stats["action"][name], value, rtol=1e-5, atol=1e-6)
    assert stats["action"]["count"] == [len(rows)]
    image = stats["observation.images.front"]
    assert np.shape(image["mean"]) == (3, 1, 1)
    assert 0 <= np.min(image["min"]) <= np.max(image["max"]) <= 1
    episode = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[0]
    assert np.shape(episode["stats/action/mean"]) == (2,)
    assert np.shape(episode["stats/observation.images.front/q50"]) == (3, 1, 1)


def test_pooled_statistics_are_exact_but_for_quantiles() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(k, k + 1, (50 * (k + 1), 3)) for k in range(3)]
    whole, joined = pooled([statistics(part) for part in parts]), statistics(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(whole[name], joined[name])


def test_a_run_without_pictures_is_no_dataset(run: Evaluation, tmp_path: Path) -> None:
    bare = RunFolder(tmp_path / "bare")
    bare.begin(json.loads((run.folder.path / "run.json").read_text()), resume=False)
    with pytest.raises(DatasetError, match="--mcap"):
        write_dataset(bare, tmp_path / "set")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(DatasetError, match="empty folder"):
        write_dataset(run.folder, tmp_path / "full")


def test_the_page_is_one_file_with_everything_in_it(run: Evaluation, tmp_path: Path) -> None:
    path = write_report(run.folder, run.results, tmp_path / "page.html")
    text = path.read_text()
    assert "src=" not in text.replace("<svg", "")
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "Two &lt;roads&gt;" in text
    for words in ("Overall", "Groups", "hard", "What would have happened", "brake", "Rollouts", "videos/"):
        assert words in text
    assert text.count("<svg") >= 2 + 2 + 6
    failed = Result("clear.9.9", "policy_failed", "clear", "two", 9, 9, error="it <gave> up")
    assert "it &lt;gave&gt; up" in report(run.folder, [*run.results, failed])
    assert "Without scores" in report(run.folder, [failed])


def results(values: dict[str, float], group: str = "g") -> list[Result]:
    names = ("driving_score", "pdms", "success", "route_completion", "no_collision", "drivable_area")
    names += ("time_to_collision", "ego_progress", "comfort")
    return [
        Result(key, "done", key, group, 1, 0, scores=dict.fromkeys(names, value), digest=str(value))
        for key, value in values.items()
    ]


def test_a_comparison_pairs_worlds_and_says_what_it_leaves_out() -> None:
    a = results({f"w{k}": 0.1 * k for k in range(8)} | {"only": 0.5})
    b = results({f"w{k}": 0.1 * k + (0.1 if k else 0.0) for k in range(8)} | {"mine": 0.5})
    found = compare_results(a, b)
    assert (found.shared, found.only_a, found.only_b, found.same_drives) == (8, ["only"], ["mine"], 1)
    score = found.overall[0]
    assert (score.metric, score.better, score.worse) == ("driving_score", 7, 0)
    assert score.difference.mean == pytest.approx(0.0875)
    assert score.clear
    assert (
        score.difference.high - score.difference.low < 0.1
    )  # pairs: the spread between worlds plays no part
    assert not compare_results(a, a).overall[0].clear


def test_runs_that_share_nothing_cannot_be_compared(run: Evaluation, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.begin(json.loads((run.folder.path / "run.json").read_text()), resume=False)
    with pytest.raises(ResultsError, match="share rollouts"):
        compare(run.folder, other)
    write_comparison(tmp_path / "c.html", compare(run.folder, run.folder), "a", "b")
    assert "6 of them the same drive" in (tmp_path / "c.html").read_text()


def test_intervals_hold_the_mean_and_repeat() -> None:
    rng = np.random.default_rng(1)
    held = sum(i.low <= 0.5 <= i.high for i in (bootstrap(rng.uniform(size=40)) for _ in range(100)))
    assert 85 <= held <= 100
    values = rng.uniform(size=10)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap([0.3]).low == bootstrap([0.3]).high == pytest.approx(0.3)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


def test_the_order_of_results_is_that_of_the_suite(run: Evaluation) -> None:
    assert [r.scenario for r in run.folder.ordered()] == ["clear"] * 2 + ["blocked"] * 4


def test_pictures_in_the_log_are_readable_images(run: Evaluation) -> None:
    import cv2

    with run.folder.log_path(run.results[0].key).open("rb") as file:
        _, _, message = next(make_reader(file).iter_messages(topics=["/camera/front/image"]))
    image = CompressedImage.FromString(message.data)
    assert image.format == "png"
    assert cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR).shape == (8, 12, 3)
