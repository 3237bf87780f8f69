"""Building data folders: the same bytes however often it is interrupted, and live clips by the same code."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldmodel.data.build import build
from worldmodel.data.dataset import EpisodeDataset
from worldmodel.data.drive import drive
from worldmodel.data.folder import Entry, EpisodeFolder
from worldmodel.data.live import LiveClips, live_loader
from worldmodel.data.plan import BuildSettings, plan_episode
from worldmodel.data.record import jittered_rig
from worldmodel.data.shard import Shard, ShardError
from worldmodel.data.tables import table_to_checks, tables_to_frames
from worldmodel.rig import load_rig
from worldmodel.scene.scenario import ScenarioError
from worldmodel.scene.state import pose_delta

SETTINGS = BuildSettings(  # with this seed all three episodes use the same map, which is made once
    scenarios=("u_turn",),
    episodes=3,
    seconds=0.4,
    rig="front1",
    height=32,
    width=64,
    seed=4,
    perturbed_share=0.0,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As the builder's workers do; pictures may differ in the last bit between numbers of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> EpisodeFolder:
    """A folder built without interruption."""
    torch.set_num_threads(1)
    folder = EpisodeFolder(tmp_path_factory.mktemp("built") / "data")
    build(folder.path, SETTINGS, workers=0)
    return folder


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_a_folder_holds_the_episodes_the_index_and_the_settings(built: EpisodeFolder) -> None:
    names = ["dataset.json", *(f"episode_{k:06d}.safetensors" for k in range(3)), "index.json"]
    assert sorted(contents(built.path)) == names
    assert built.settings() == SETTINGS
    assert [entry.frames for entry in built.entries()] == [5, 5, 5]


def test_the_same_drives_can_be_recorded_at_night(built: EpisodeFolder, tmp_path: Path) -> None:
    night = dataclasses.replace(SETTINGS, episodes=1, weather="fog", time_of_day="night")
    build(tmp_path / "night", night, workers=0)
    day, dark = (Shard(folder.shard_path(0)).load() for folder in (built, EpisodeFolder(tmp_path / "night")))
    assert (dark.info.atmosphere.weather, dark.info.atmosphere.time_of_day) == ("fog", "night")
    assert dark.frames.mean() < 0.75 * day.frames.mean()
    np.testing.assert_array_equal(dark.actions, day.actions)
    wrong = dataclasses.replace(SETTINGS, time_of_day="noon")
    with pytest.raises(ScenarioError, match="expected a time of day of day, dusk, night, got 'noon'"):
        build(tmp_path / "wrong", wrong, workers=0)
    assert not (tmp_path / "wrong").exists()


def test_an_episode_is_what_the_scene_did(built: EpisodeFolder) -> None:
    plan = plan_episode(SETTINGS, 1)
    driven = drive(plan.scenario, plan.seed, plan.driver, SETTINGS.seconds)
    episode = Shard(built.shard_path(1), verify=True).load()
    assert tables_to_frames(episode.tables) == driven.frames
    assert table_to_checks(episode.tables["checks"]) == driven.checks
    assert (episode.info.scenario, episode.info.seed, episode.info.driver) == (
        "u_turn",
        plan.seed,
        plan.driver,
    )
    assert episode.frames.shape == (1, 5, 32, 64, 3)
    assert episode.frames.std() > 10  # there is a picture
    assert episode.layouts is not None
    assert episode.layouts.shape == (1, 5, len(episode.info.layout_channels), 8, 16)
    assert episode.depth_m is not None
    assert episode.depth_m.shape == (1, 5, 8, 16)
    assert not episode.pose_deltas[0].any()
    np.testing.assert_allclose(
        episode.pose_deltas[3], pose_delta(driven.frames[2].ego, driven.frames[3].ego), atol=1e-6
    )
    assert np.abs(episode.actions[1:]).max() > 0


def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(built: EpisodeFolder, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(entry: Entry) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        build(tmp_path / "data", SETTINGS, workers=0, on_episode=stop)
    (tmp_path / "data" / "episode_000001.tmp77").write_bytes(b"half an episode")
    (tmp_path / "data" / "index.json").unlink()
    started: list[tuple[int, int]] = []
    build(tmp_path / "data", SETTINGS, workers=0, on_start=lambda done, total: started.append((done, total)))
    assert started == [(1, 3)]
    assert contents(tmp_path / "data") == contents(built.path)


@pytest.mark.slow
def test_a_build_killed_outright_goes_on_to_the_same_bytes(built: EpisodeFolder, tmp_path: Path) -> None:
    path = tmp_path / "data"
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from worldmodel.data.build import build\n"
        "from worldmodel.data.plan import BuildSettings\n"
        f"build({str(path)!r}, BuildSettings.from_dict({SETTINGS.to_dict()!r}), workers=0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while (
        not list(path.glob("episode_*.safetensors"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    build(path, SETTINGS, workers=0)
    assert contents(path) == contents(built.path)


@pytest.mark.slow
def test_worker_processes_build_the_same_bytes(built: EpisodeFolder, tmp_path: Path) -> None:
    seen: list[int] = []
    build(tmp_path / "data", SETTINGS, workers=1, on_episode=lambda entry: seen.append(entry.index))
    assert sorted(seen) == [0, 1, 2]
    assert contents(tmp_path / "data") == contents(built.path)


def test_a_folder_grows_without_touching_what_is_there(built: EpisodeFolder, tmp_path: Path) -> None:
    small = dataclasses.replace(SETTINGS, episodes=1)
    build(tmp_path / "data", small, workers=0)
    before = (tmp_path / "data" / "episode_000000.safetensors").stat().st_mtime_ns
    build(tmp_path / "data", SETTINGS, workers=0)
    assert (tmp_path / "data" / "episode_000000.safetensors").stat().st_mtime_ns == before
    assert contents(tmp_path / "data") == contents(built.path)


def test_a_truncated_episode_stops_the_build_and_is_named(built: EpisodeFolder, tmp_path: Path) -> None:
    folder = EpisodeFolder(tmp_path)
    for name, data in contents(built.path).items():
        (tmp_path / name).write_bytes(
            data[: len(data) // 2] if name == "episode_000001.safetensors" else data
        )
    with pytest.raises(ShardError, match=r"episode_000001\.safetensors"):
        build(folder.path, SETTINGS, workers=0)


def test_live_clips_are_those_of_the_built_episodes(built: EpisodeFolder) -> None:
    stream = iter(LiveClips(SETTINGS, clip_frames=4, clips_per_episode=3, pool=1))
    for k in range(3):
        clip = next(stream)
        shard = Shard(built.shard_path(0))
        assert clip.seed == shard.info.seed
        np.testing.assert_array_equal(clip.frames, shard.frames([0], clip.start, clip.start + 4))
        np.testing.assert_array_equal(clip.layouts, shard.layouts([0], clip.start, clip.start + 4))
        assert k < 3


def test_disk_and_live_clips_have_the_same_type(built: EpisodeFolder) -> None:
    disk = EpisodeDataset(built.path, clip_frames=4)[0]
    live = next(iter(LiveClips(SETTINGS, clip_frames=4)))
    for field in dataclasses.fields(disk):
        a, b = getattr(disk, field.name), getattr(live, field.name)
        assert type(a) is type(b)
        if isinstance(a, torch.Tensor):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert disk.layout_values().abs().max() <= 1.0


def test_workers_share_the_live_episodes_out_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle  # what a DataLoader does to hand a dataset to its workers

    clips = pickle.loads(pickle.dumps(LiveClips(SETTINGS, clip_frames=4, clips_per_episode=1, pool=1)))
    seeds = []
    for worker in range(2):
        there = SimpleNamespace(id=worker, num_workers=2)
        monkeypatch.setattr("worldmodel.data.live.get_worker_info", lambda there=there: there)
        seeds.append([clip.seed for clip in islice(clips, 1)])
    planned = [plan_episode(SETTINGS, k).seed for k in range(2)]
    assert seeds == [planned[:1], planned[1:]]
    assert live_loader(clips, workers=2).num_workers == 2


def test_jittered_cameras_are_near_the_rig_and_decided_by_the_seed() -> None:
    rig = load_rig("surround7")
    moved = jittered_rig(rig, 1.0, seed=5)
    assert moved == jittered_rig(rig, 1.0, seed=5)
    assert moved != jittered_rig(rig, 1.0, seed=6)
    assert jittered_rig(rig, 0.0, seed=5) == rig
    for a, b in zip(rig.cameras, moved.cameras, strict=True):
        assert 0 < np.linalg.norm(np.subtract(a.position_m, b.position_m)) < 0.6
        assert abs(a.yaw_rad - b.yaw_rad) < 0.15
