from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.learning.clone import CloneConfig, clone, disturbed
from clients.learning.lessons import Lessons, LessonsError
from clients.learning.network import CAMERAS, SIZE, VisionNetwork
from clients.pictures import shrink
from worldmodel.data.lessons import COLUMNS

CONFIG = CloneConfig(
    epochs=8.0, batch=8, learning_rate=4e-3, untold_share=0.0, haste_weight=1.0, stages=(0.5,)
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def written(path: Path, **changes: np.ndarray) -> Path:
    """Lessons in which a bright far camera says brake, and the offset says steer back."""
    rng = np.random.default_rng(0)
    count = 120
    bright, offset = rng.random(count) < 0.5, rng.uniform(-1, 1, count)
    images = rng.integers(0, 40, (count, len(CAMERAS), 2, *SIZE, 3), dtype=np.uint8)
    images[bright, 1] += 150
    state = np.zeros((count, len(COLUMNS)), np.float32)
    for name, values in (("speed_mps", 10.0), ("speed_limit_mps", 12.0), ("lane_offset_m", offset)):
        state[:, COLUMNS.index(name)] = values
    expert = np.stack([-0.04 * offset, np.where(bright, -3.0, 1.0)], axis=1).astype(np.float32)
    arrays = {
        "images": images,
        "state": state,
        "expert": expert,
        "episode": np.arange(count) // 6,
        "cameras": np.array(CAMERAS),
        "columns": np.array(COLUMNS),
    }
    np.savez(path, allow_pickle=False, **arrays | changes)
    return path


def test_the_network_learns_from_what_it_sees_and_where_it_is(tmp_path: Path) -> None:
    lessons = Lessons.load(written(tmp_path / "lessons.npz"))
    _, tested = lessons.split()
    untrained = clone(lessons, tmp_path / "none", replace(CONFIG, epochs=0.01, stages=()))
    progress = clone(lessons, tmp_path / "out", CONFIG)
    assert progress.along_mps2 < 0.5 < untrained.along_mps2
    assert progress.across_mps2 < 0.5 * np.abs(tested.accelerations[:, 0]).mean()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "vision-050.safetensors",
        "vision.safetensors",
    ]
    VisionNetwork.load(tmp_path / "out" / "vision-050.safetensors")


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    lessons, config = Lessons.load(written(tmp_path / "lessons.npz")), replace(CONFIG, epochs=0.5, stages=())
    for name in ("a", "b"):
        clone(lessons, tmp_path / name, config)
    a, b = (VisionNetwork.load(tmp_path / name / "vision.safetensors") for name in ("a", "b"))
    assert a.digest == b.digest


def test_no_episode_is_learnt_from_and_tested_on(tmp_path: Path) -> None:
    learnt, tested = Lessons.load(written(tmp_path / "lessons.npz")).split()
    assert not set(learnt.episode) & set(tested.episode)
    assert len(tested) == 12


def test_several_files_are_one_after_the_other(tmp_path: Path) -> None:
    one, two = (Lessons.load(written(tmp_path / f"{name}.npz")) for name in "ab")
    both = Lessons.load(tmp_path / "a.npz", tmp_path / "b.npz")
    assert len(both) == len(one) + len(two)
    assert len(set(both.episode)) == 40
    assert np.array_equal(both.images[len(one) :], two.images)
    assert np.array_equal(both.episode[len(one) :], two.episode + 20)


def test_larger_pictures_are_learnt_from_as_driving_shrinks_them(tmp_path: Path) -> None:
    large = np.random.default_rng(1).integers(0, 256, (120, len(CAMERAS), 2, 96, 160, 3), dtype=np.uint8)
    seen = Lessons.load(written(tmp_path / "large.npz", images=large)).images
    assert seen.shape == (120, len(CAMERAS), 2, *SIZE, 3)
    assert np.abs(seen[7, 1, 0].astype(int) - shrink(large[7, 1, 0], SIZE)).max() <= 1  # halves are rounded


def test_it_goes_on_with_weights_that_there_are(tmp_path: Path) -> None:
    lessons = Lessons.load(written(tmp_path / "lessons.npz"))
    clone(lessons, tmp_path / "first", CONFIG)
    barely = replace(CONFIG, epochs=0.01, stages=())
    further = clone(lessons, tmp_path / "second", barely, tmp_path / "first" / "vision.safetensors")
    assert further.along_mps2 < 0.5 < clone(lessons, tmp_path / "none", barely).along_mps2


def test_in_doubt_it_brakes(tmp_path: Path) -> None:
    grey = np.full((120, len(CAMERAS), 2, *SIZE, 3), 90, np.uint8)  # shows nothing of why the expert brakes
    lessons = Lessons.load(written(tmp_path / "lessons.npz", images=grey))
    answers = []
    for haste_weight in (1.0, 8.0):
        clone(lessons, tmp_path / "out", replace(CONFIG, haste_weight=haste_weight, braking_weight=1.0))
        network = VisionNetwork.load(tmp_path / "out" / "vision.safetensors")
        answers.append(network(grey[0], np.array([10.0, 0.0, 0.0, 12.0], np.float32))[1])
    assert answers[1] < answers[0] - 0.5


def test_disturbed_pictures_keep_what_they_show() -> None:
    images = torch.zeros((16, 2, 2, *SIZE, 3), dtype=torch.uint8)
    images[..., 40:, :] = 200
    out = disturbed(images, torch.Generator().manual_seed(0))
    assert out.shape == images.shape
    left, right = (part.flatten(1).mean(dim=1) for part in (out[..., :40, :], out[..., 40:, :]))
    assert (right > left + 80).all()
    assert right.std() > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": np.array(["front_wide", "rear"])}, "expected cameras"),
        ({"images": np.zeros((120, 2, 2, 8, 8, 3), np.uint8)}, r"expected cameras .* of \(48, 80\)"),
        ({"images": np.zeros((120, 2, 2, 96, 80, 3), np.uint8)}, r"whole times as large, .* of \(96, 80\)"),
        ({"columns": np.array(["x"] * len(COLUMNS))}, "expected columns speed_mps"),
    ],
)
def test_lessons_for_another_policy_are_refused(tmp_path: Path, changes, message) -> None:
    with pytest.raises(LessonsError, match=message):
        Lessons.load(written(tmp_path / "lessons.npz", **changes))


def test_files_without_lessons_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no lessons")
    for name in ("missing.npz", "text.npz"):
        with pytest.raises(LessonsError, match=f"expected lessons in .*{name}"):
            Lessons.load(tmp_path / name)
