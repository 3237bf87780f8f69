"""Lessons: what a learner would see, and what the expert would do there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.data.build import build
from worldmodel.data.folder import EpisodeFolder
from worldmodel.data.lessons import COLUMNS, shard_lessons, write_lessons
from worldmodel.data.plan import BuildError, BuildSettings
from worldmodel.data.shard import Shard, ShardError, write_shard
from worldmodel.scene.clock import FRAMES_PER_CHUNK

SETTINGS = BuildSettings(
    scenarios=("highway_empty",),
    episodes=2,
    seconds=2.0,
    rig="front3",
    height=24,
    width=40,
    seed=4,
    perturbed_share=0.0,
    layout=False,
)
CAMERAS = ("side_front_left", "front_wide")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> EpisodeFolder:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("lessons") / "data"
    build(path, SETTINGS, workers=0)
    return EpisodeFolder(path)


@pytest.fixture
def shard(folder: EpisodeFolder) -> Shard:
    return Shard(folder.shard_path(0))


def test_where_the_expert_drove_its_answer_is_what_it_did(shard: Shard) -> None:
    lessons = shard_lessons(shard, CAMERAS)
    chunks = len(shard) // FRAMES_PER_CHUNK
    driven = shard.actions[1:].reshape(chunks, FRAMES_PER_CHUNK, 2)
    assert np.array_equal(lessons["expert"][:, 0], driven[:, FRAMES_PER_CHUNK // 2, 0])
    before = shard.tables["ego"][:-1:FRAMES_PER_CHUNK, 4]  # acceleration
    towards = np.sign(lessons["expert"][:, 1] - before)
    assert (towards * (driven[:, -1, 1] - before) >= 0).all()


def test_a_lesson_shows_the_first_and_the_last_frame_of_the_newest_chunk(shard: Shard) -> None:
    lessons = shard_lessons(shard, CAMERAS)
    left, wide = (shard.frames([shard.info.rig.names.index(name)], 0, len(shard))[0] for name in CAMERAS)
    assert np.array_equal(lessons["images"][0], [[left[0], left[0]], [wide[0], wide[0]]])
    assert np.array_equal(lessons["images"][2], [[left[5], left[8]], [wide[5], wide[8]]])
    speed = lessons["state"][:, COLUMNS.index("speed_mps")]
    assert np.allclose(speed, shard.tables["ego"][:-1:FRAMES_PER_CHUNK, 3])


def test_the_expert_answers_where_another_driver_is_about_to_do_wrong(shard: Shard, tmp_path: Path) -> None:
    episode = shard.load()
    wrong = episode.actions.copy()
    wrong[-FRAMES_PER_CHUNK:] = (0.3, -8.0)  # after the last lesson
    write_shard(tmp_path / "episode_000000.safetensors", replace(episode, actions=wrong))
    asked = shard_lessons(Shard(tmp_path / "episode_000000.safetensors"), CAMERAS)
    assert np.array_equal(asked["expert"], shard_lessons(shard, CAMERAS)["expert"])


def test_a_file_has_the_lessons_of_all_episodes(folder: EpisodeFolder, tmp_path: Path) -> None:
    done: list[int] = []
    count = write_lessons(folder.path, CAMERAS, tmp_path / "out.npz", lambda k, total: done.append(k))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert file["episode"].tolist() == [0] * (count // 2) + [1] * (count // 2)
        assert file["cameras"].tolist() == list(CAMERAS)
        assert file["columns"].tolist() == list(COLUMNS)
        assert file["state"].shape == (count, len(COLUMNS))
    assert done == [1, 2]


def test_a_scene_that_drives_differently_is_refused(shard: Shard, tmp_path: Path) -> None:
    episode = shard.load()
    other = replace(episode, info=replace(episode.info, seed=episode.info.seed + 1))
    write_shard(tmp_path / "other.safetensors", other)
    with pytest.raises(ShardError, match="build it again"):
        shard_lessons(Shard(tmp_path / "other.safetensors"), CAMERAS)


def test_cameras_that_there_are_not_are_refused(shard: Shard) -> None:
    with pytest.raises(ShardError, match=r"expected cameras of front_wide, .* got tail"):
        shard_lessons(shard, ("tail",))


def test_folders_without_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="expected a data folder"):
        write_lessons(tmp_path, CAMERAS, tmp_path / "out.npz")
