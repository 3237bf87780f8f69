"""Recorded drives, driven again on a server: the reference engine shows what was recorded."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from clients.errors import RoadloopError
from clients.learning.lessons import Lessons, LessonsError
from clients.learning.look import Recorded, look
from clients.learning.network import CAMERAS
from clients.local import local_server
from worldmodel.data.build import build
from worldmodel.data.lessons import write_lessons
from worldmodel.data.plan import BuildSettings

pytestmark = pytest.mark.slow  # renders two short drives, and starts a server
SETTINGS = BuildSettings(
    scenarios=("highway_empty", "highway_cruise"),
    episodes=2,
    seconds=1.4,
    rig="front2",
    height=96,
    width=160,
    seed=4,
    perturbed_share=0.0,
    layout=False,
)


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("look") / "drives"
    build(path, SETTINGS, workers=0)
    write_lessons(path, CAMERAS, path / "lessons.npz")
    return path


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_server("reference") as url:
        yield url


def test_the_reference_engine_shows_what_was_recorded(drives: Path, url: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    count = look(
        drives, drives / "lessons.npz", tmp_path / "seen.npz", url, on_episode=lambda *n: told.append(n)
    )
    recorded, seen = Lessons.load(drives / "lessons.npz"), Lessons.load(tmp_path / "seen.npz")
    assert (count, told) == (len(recorded), [(1, 2), (2, 2)])
    assert np.array_equal(seen.episode, recorded.episode)
    assert np.array_equal(seen.accelerations, recorded.accelerations)
    # Recorded at 96 x 160 and served as JPEG at 128 x 224: alike, not equal.
    errors = np.abs(seen.images.astype(float) - recorded.images).mean(axis=(1, 2, 3, 4, 5))
    assert errors.max() < 8
    others = np.abs(seen.images.astype(float) - recorded.images[::-1]).mean(axis=(1, 2, 3, 4, 5))
    assert errors.max() < others.min() / 2  # those of the other drive


def test_files_that_do_not_fit_are_refused(drives: Path, url: str, tmp_path: Path) -> None:
    with pytest.raises(LessonsError, match=r"expected lessons in .*none\.npz"):
        look(drives, tmp_path / "none.npz", tmp_path / "out.npz", url)
    with pytest.raises(LessonsError, match=r"expected an episode in .*episode_000000"):
        look(tmp_path, drives / "lessons.npz", tmp_path / "out.npz", url)
    (tmp_path / "episode_000001.safetensors").write_bytes(b"none")
    with pytest.raises(LessonsError, match="expected an episode"):
        Recorded.load(tmp_path / "episode_000001.safetensors")


def test_a_world_that_drives_otherwise_is_refused(drives: Path, url: str, tmp_path: Path) -> None:
    with np.load(drives / "lessons.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["state"][2:, list(arrays["columns"]).index("x_m")] += 1.0
    np.savez(tmp_path / "moved.npz", allow_pickle=False, **arrays)
    with pytest.raises(RoadloopError, match="expected the car of highway_"):
        look(drives, tmp_path / "moved.npz", tmp_path / "out.npz", url)
    assert not (tmp_path / "out.npz").exists()


def test_drives_by_other_actions_are_refused(drives: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    source, other = drives / "episode_000000.safetensors", tmp_path / "episode_000000.safetensors"
    with safe_open(source, "np") as file:
        about = file.metadata()["episode"].replace('"controls"', '"trajectory"')
    save_file(load_file(source), other, {"episode": about})
    with pytest.raises(LessonsError, match=r"expected controls in .*, got trajectory"):
        Recorded.load(other)
