"""`roadloop render`: a scenario as a video or a picture, through the engine contract."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from worldmodel.commands import render
from worldmodel.video import read_mp4

RENDER = "--scenario u_turn --rig front1 --seconds 1 --out"


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    torch.set_num_threads(1)
    made = typer.Typer()
    made.callback()(lambda: None)
    render.register(made)
    return made


def run(app: typer.Typer, command: str, out: Path):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, ["render", *command.split(), str(out)])


def test_a_drive_becomes_a_video_with_a_frame_for_every_frame_driven(
    app: typer.Typer, tmp_path: Path
) -> None:
    result = run(app, RENDER, tmp_path / "a.mp4")
    assert result.exit_code == 0, result.output
    assert "1.0 s, running" in result.output
    frames = list(read_mp4(tmp_path / "a.mp4"))
    assert len(frames) == 13
    assert frames[0].shape[1] > 224  # the camera and, beside it, the view from above
    assert abs(frames[12].astype(int) - frames[0].astype(int)).mean() > 0.5


def test_a_picture_is_the_last_frame_of_the_drive(app: typer.Typer, tmp_path: Path) -> None:
    result = run(app, f"--policy brake {RENDER}", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_several_scenarios_become_files_of_their_names(app: typer.Typer, tmp_path: Path) -> None:
    command = "--scenario highway_empty --policy brake --rig front1 --seconds 0.4 --scenario u_turn --out"
    result = run(app, command, tmp_path / "{}.png")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["highway_empty.png", "u_turn.png"]


MODEL = """
name: test
rig: front3
cameras: [front_wide, side_front_left]
height: 32
width: 48
steps: 1
cycle: 2
tokenizer: {channels: 8, widths: [8, 8, 8], decoder_blocks: 1}
dit: {width: 64, depth: 2, window: 2, trunk: [8, 8]}
"""
BOTH = "--scenario highway_empty --engine reference --engine worldmodel --random-weights --model"


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    file = tmp_path / "test.yaml"
    file.write_text(MODEL)
    return file


def test_two_engines_stand_beside_each_other_and_drive_alike(
    app: typer.Typer, tmp_path: Path, preset: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    result = run(app, f"{BOTH} {preset} --seconds 2.4 --sheet {sheet} --out", tmp_path / "a.mp4")
    assert result.exit_code == 0, result.output
    frames = list(read_mp4(tmp_path / "a.mp4"))
    assert len(frames) == 29
    height, width = frames[0].shape[:2]
    left, right = (frames[0][:, part].astype(int) for part in (slice(width // 2), slice(width // 2, width)))
    assert abs(left[14:] - right[14:]).mean() < 8  # both begin on the true first frame
    left, right = (frames[-1][:, part].astype(int) for part in (slice(width // 2), slice(width // 2, width)))
    assert abs(left[14:] - right[14:]).mean() > 8  # and random weights know nothing else
    picture = cv2.imread(str(sheet))
    assert picture.shape == (2 * (height + 16), width + 4, 3)  # at 0 and at 2 seconds


def test_a_world_model_begins_on_ones_own_images(app: typer.Typer, tmp_path: Path, preset: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    command = f"--scenario highway_empty --engine worldmodel --random-weights --model {preset} --seconds 0.3"
    missing = run(app, f"{command} --first-images {folder} --out", tmp_path / "a.mp4")
    assert missing.exit_code == 2
    assert "expected a picture front_wide.png or front_wide.jpg" in " ".join(missing.stderr.split())
    for name in ("front_wide", "side_front_left"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((128, 224, 3), (0, 0, 250), np.uint8))
    result = run(app, f"{command} --size 64x96 --first-images {folder} --out", tmp_path / "a.mp4")
    assert result.exit_code == 0, result.output
    first, *_ = read_mp4(tmp_path / "a.mp4")
    assert ((first[..., 0] > 200) & (first[..., 1] < 60)).sum() > 2 * 64 * 96 * 0.9


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        (f"--scenario urban_cruise {RENDER}", "a.mp4", "expected {} in the file name of 2 scenarios"),
        (RENDER, "a.gif", "expected a file ending in .mp4 or .png, got 'a.gif'"),
        ("--scenario moon --out", "a.png", "got 'moon'"),
        (f"--policy chauffeur {RENDER}", "a.png", "got 'chauffeur'"),
        (f"--engine dream {RENDER}", "a.png", "expected an engine of reference, worldmodel, got 'dream'"),
        ("--scenario u_turn --rig roof --out", "a.png", "got 'roof'"),
    ],
)
def test_a_wrong_option_is_one_line(
    app: typer.Typer, tmp_path: Path, command: str, name: str, words: str
) -> None:
    refused = run(app, command, tmp_path / name)
    assert refused.exit_code == 2
    assert words in " ".join(refused.stderr.split())
    assert not (tmp_path / name).exists()
