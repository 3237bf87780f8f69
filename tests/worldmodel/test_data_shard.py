"""Shards and folders: exact round trips, equal bytes, damage found and named, deterministic clips."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.data.clip import episode_clip, shard_clip
from worldmodel.data.dataset import EpisodeDataset, iter_clips
from worldmodel.data.episode import Episode, EpisodeInfo
from worldmodel.data.folder import EpisodeFolder
from worldmodel.data.plan import BuildError, BuildSettings, plan_episode
from worldmodel.data.shard import Shard, ShardError, write_shard
from worldmodel.data.tables import checks_to_table, frames_to_tables, table_to_checks, tables_to_frames
from worldmodel.rig import load_rig
from worldmodel.scene.checks import FrameChecks
from worldmodel.scene.state import AgentState, Atmosphere, EgoState, SceneFrame

VIEWS, FRAMES = 3, 9
SETTINGS = BuildSettings(scenarios=("a", "b"), episodes=4, rig="front3")


def scene_frames(seed: int) -> list[SceneFrame]:
    draw = np.random.default_rng(seed)

    def agent(id: int) -> AgentState:
        x, y, yaw, speed = draw.normal(size=4).tolist()
        return AgentState(id, "bus", x, y, yaw, speed, 11.0, 2.5, 3.1, (1, 2, 250), braking=True)

    return [
        SceneFrame(
            k,
            k / 12,
            EgoState(*draw.normal(size=7).tolist()),
            tuple(map(agent, range(k % 3))),
            ("red", "green"),
        )
        for k in range(FRAMES)
    ]


def scene_checks() -> list[FrameChecks]:
    fine = FrameChecks(None, False, False, True, False, float("inf"), 0.25, -0.1, 12.5, 0.3, 13.9)
    return [fine, dataclasses.replace(fine, collision_with=-1, collision_at_fault=True, ttc_s=0.0)] + [
        fine
    ] * 7


def episode(index: int = 0, frames: int = FRAMES, layout: bool = True) -> Episode:
    draw = np.random.default_rng(index)
    info = EpisodeInfo(
        index=index,
        scenario="ab"[index % 2],
        group="highway",
        split="train",
        seed=index,
        driver="expert",
        action_space="controls",
        fps=12,
        rig=load_rig("front3").scaled(32, 48),
        atmosphere=Atmosphere("rain", "dusk"),
        outcome="success",
        reason="goal",
        layout_channels=("lanes", "boxes") if layout else (),
        layout_stride=4 if layout else 0,
        scores={"pdms": 0.5},
    )
    return Episode(
        info=info,
        frames=draw.integers(0, 256, (VIEWS, frames, 32, 48, 3), np.uint8),
        pose_deltas=draw.normal(size=(frames, 3)).astype(np.float32),
        actions=draw.normal(size=(frames, 2)).astype(np.float32),
        tables={**frames_to_tables(scene_frames(index)), "checks": checks_to_table(scene_checks())},
        layouts=draw.integers(-127, 128, (VIEWS, frames, 2, 8, 12), np.int8) if layout else None,
        depth_m=draw.uniform(1, 99, (VIEWS, frames, 8, 12)).astype(np.float16) if layout else None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> EpisodeFolder:
    """A folder with four short episodes."""
    made = EpisodeFolder(tmp_path / "data")
    made.begin(SETTINGS)
    for k in range(4):
        write_shard(made.shard_path(k), episode(k))
    made.write_index()
    return made


def same(a: Episode, b: Episode) -> bool:
    arrays = all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("frames", "pose_deltas", "actions", "layouts", "depth_m")
    )
    tables = a.tables.keys() == b.tables.keys() and all(
        np.array_equal(a.tables[k], b.tables[k], equal_nan=a.tables[k].dtype.kind == "f") for k in a.tables
    )
    return arrays and tables and a.info == b.info


# --- one shard ------------------------------------------------------------------------------------------------------


def test_what_happened_survives_the_tables_exactly() -> None:
    frames = scene_frames(0)
    assert tables_to_frames(frames_to_tables(frames)) == frames
    assert table_to_checks(checks_to_table(scene_checks())) == scene_checks()


def test_an_episode_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.safetensors", episode())
    assert same(Shard(tmp_path / "a.safetensors", verify=True).load(), episode())


def test_jpeg_episodes_are_smaller_and_close(tmp_path: Path) -> None:
    smooth = np.tile(
        np.linspace(0, 255, 48, dtype=np.uint8)[None, None, None, :, None], (VIEWS, FRAMES, 32, 1, 3)
    )
    made = dataclasses.replace(episode(), frames=smooth)
    write_shard(tmp_path / "a.safetensors", made, "jpeg")
    back = Shard(tmp_path / "a.safetensors").load().frames
    assert 0 < np.abs(back.astype(int) - smooth.astype(int)).max() < 8


def test_equal_episodes_give_equal_bytes_and_no_partial_file_stays(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}.safetensors", episode())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_shard_without_layout_says_so(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.safetensors", episode(layout=False))
    shard = Shard(tmp_path / "a.safetensors")
    assert not shard.has_layout
    with pytest.raises(ShardError, match=r"expected an episode with layouts, got .*a\.safetensors"):
        shard.layouts([0], 0, 1)
    assert shard_clip(shard, 0, 2).layouts is None


@pytest.mark.parametrize("keep", [0, 7, 600, -1000, -1])
def test_a_truncated_shard_is_refused_by_name(folder: EpisodeFolder, keep: int) -> None:
    path = folder.shard_path(2)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ShardError, match=r"expected a complete episode in .*episode_000002\.safetensors, got"
    ):
        Shard(path)
    with pytest.raises(ShardError, match="episode_000002"):
        EpisodeDataset(folder.path, clip_frames=4)


def test_a_flipped_bit_is_found_by_the_digest(folder: EpisodeFolder) -> None:
    path = folder.shard_path(1)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match=r"episode_000001.* to have digest .* damaged, remove it"):
        Shard(path, verify=True)
    with pytest.raises(ShardError, match="episode_000001"):
        [EpisodeDataset(folder.path, clip_frames=4)[k] for k in range(40)]


def test_a_safetensors_file_that_is_no_episode_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ShardError, match=r"expected a complete episode in .*a\.safetensors"):
        Shard(tmp_path / "a.safetensors")


# --- clips ----------------------------------------------------------------------------------------------------------


def test_a_clip_from_disk_equals_the_clip_from_memory(folder: EpisodeFolder) -> None:
    cameras = list(reversed(load_rig("front3").names))[:2]
    disk = shard_clip(Shard(folder.shard_path(0)), 3, 4, cameras)
    memory = episode_clip(episode(0), 3, 4, cameras)
    assert disk.rig.names == tuple(cameras)
    for field in dataclasses.fields(disk):
        a, b = getattr(disk, field.name), getattr(memory, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    np.testing.assert_array_equal(disk.frames[0], episode(0).frames[2, 3:7])


@pytest.mark.parametrize(("start", "frames"), [(-1, 2), (6, 4), (0, 0)])
def test_a_clip_beyond_the_episode_is_refused(folder: EpisodeFolder, start: int, frames: int) -> None:
    for refused in (
        lambda: shard_clip(Shard(folder.shard_path(0)), start, frames),
        lambda: episode_clip(episode(0), start, frames),
    ):
        with pytest.raises(IndexError, match=r"expected frames within 0\.\.9"):
            refused()


def test_an_unknown_camera_is_refused_with_the_valid_names(folder: EpisodeFolder) -> None:
    with pytest.raises(KeyError, match=r"front_wide.*'roof'"):
        EpisodeDataset(folder.path, 4, cameras=["roof"])[0]


def test_clips_are_a_function_of_seed_and_index(folder: EpisodeFolder) -> None:
    def signature(seed: int) -> list[tuple[int, int]]:
        dataset = EpisodeDataset(folder.path, 4, seed=seed)
        return [(dataset[k].seed, dataset[k].start) for k in range(20)]

    assert signature(1) == signature(1)
    assert signature(1) != signature(2)
    assert len({seed for seed, _ in signature(1)}) == 4  # from all episodes


def test_clips_are_drawn_alike_in_worker_processes(folder: EpisodeFolder) -> None:
    import pickle  # what a DataLoader does to hand a dataset to its workers

    dataset = EpisodeDataset(folder.path, 4)
    first = dataset[5]
    again = pickle.loads(pickle.dumps(dataset))[5]
    assert torch.equal(first.frames, again.frames)


def test_short_episodes_are_left_out_and_none_at_all_is_an_error(folder: EpisodeFolder) -> None:
    write_shard(folder.shard_path(4), episode(4, frames=9))
    assert len(EpisodeDataset(folder.path, 9)) == 5
    with pytest.raises(BuildError, match="at least 10 frames"):
        EpisodeDataset(folder.path, 10)


def test_episodes_written_later_are_found_without_the_index(folder: EpisodeFolder) -> None:
    dataset = EpisodeDataset(folder.path, 4)
    assert len(dataset) == 4 * 6
    stream = iter_clips(dataset)
    next(stream)
    write_shard(folder.shard_path(4), episode(4))
    assert dataset.refresh() == 5
    assert {next(stream).seed for _ in range(60)} == {0, 1, 2, 3, 4}


# --- folders and plans ----------------------------------------------------------------------------------------------


def test_the_index_is_rebuilt_from_the_shards(folder: EpisodeFolder) -> None:
    before = (folder.path / "index.json").read_text()
    (folder.path / "index.json").write_text("{ half")
    assert [entry.index for entry in folder.entries()] == [0, 1, 2, 3]
    folder.write_index()
    assert (folder.path / "index.json").read_text() == before


def test_a_folder_is_continued_only_with_its_own_settings(folder: EpisodeFolder) -> None:
    partial = folder.path / "episode_000009.tmp123"
    partial.write_bytes(b"half")
    folder.begin(dataclasses.replace(SETTINGS, episodes=9))
    assert not partial.exists()
    with pytest.raises(BuildError, match=r"begun with: seed 0, got 5; codec 'png', got 'jpeg'"):
        folder.begin(dataclasses.replace(SETTINGS, seed=5, codec="jpeg"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(BuildError, match="expected an empty folder"):
        EpisodeFolder(tmp_path).begin(SETTINGS)
    with pytest.raises(BuildError, match=r"expected a data folder with dataset\.json"):
        EpisodeFolder(tmp_path).settings()


def test_settings_survive_json_and_refuse_unknown_keys() -> None:
    assert BuildSettings.from_dict(json.loads(json.dumps(SETTINGS.to_dict()))) == SETTINGS
    older = {k: v for k, v in SETTINGS.to_dict().items() if k not in ("weather", "time_of_day")}
    assert BuildSettings.from_dict(older) == SETTINGS
    with pytest.raises(BuildError, match=r"expected settings .*seconds"):
        BuildSettings.from_dict({k: v for k, v in older.items() if k != "seconds"})
    with pytest.raises(BuildError, match=r"got .*colour"):
        BuildSettings.from_dict({**SETTINGS.to_dict(), "colour": 1})


@pytest.mark.parametrize(
    "wrong", [{"scenarios": ()}, {"episodes": 0}, {"codec": "gif"}, {"perturbed_share": 2.0}, {"height": -1}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BuildError, match=r"expected .*, got"):
        dataclasses.replace(SETTINGS, **wrong)  # type: ignore[arg-type]


def test_plans_take_scenarios_in_turn_and_never_share_seeds_between_splits() -> None:
    plans = [plan_episode(SETTINGS, k) for k in range(40)]
    heldout = [plan_episode(dataclasses.replace(SETTINGS, split="heldout"), k) for k in range(40)]
    assert [plan.scenario for plan in plans[:4]] == ["a", "b", "a", "b"]
    assert {plan.driver for plan in plans} == {"expert", "perturbed"}
    assert not {plan.seed for plan in plans} & {plan.seed for plan in heldout}
    assert plans == [plan_episode(SETTINGS, k) for k in range(40)]
