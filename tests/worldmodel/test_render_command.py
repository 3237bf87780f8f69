"""`roadloop render`: a scenario as a video or a picture, through the engine contract."""

from pathlib import Path

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


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        (f"--scenario urban_cruise {RENDER}", "a.mp4", "expected {} in the file name of 2 scenarios"),
        (RENDER, "a.gif", "expected a file ending in .mp4 or .png, got 'a.gif'"),
        ("--scenario moon --out", "a.png", "got 'moon'"),
        (f"--policy chauffeur {RENDER}", "a.png", "got 'chauffeur'"),
        (f"--engine dream {RENDER}", "a.png", "expected an engine of reference, got 'dream'"),
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
