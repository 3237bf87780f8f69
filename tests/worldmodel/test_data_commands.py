"""`roadloop data`, `doctor` and `render` as a user meets them."""

import re
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from worldmodel.commands import data, doctor
from worldmodel.commands.data import parse_size
from worldmodel.data.plan import BuildError
from worldmodel.data.selection import select_scenarios
from worldmodel.preset_files import PresetError
from worldmodel.scene.scenario import load_scenario, scenario_names
from worldmodel.video import read_mp4

BUILD = (
    "--scenarios u_turn --episodes 1 --seconds 1 --rig front1 --size 32x64 --perturbed 0 --workers 0 --seed 4"
)


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    torch.set_num_threads(1)
    made = typer.Typer()
    data.register(made)
    doctor.register(made)
    return made


def run(app: typer.Typer, command: str, *paths: Path):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, [*command.split(), *map(str, paths)])


# --- data -----------------------------------------------------------------------------------------------------------


def test_a_folder_is_built_and_shown(app: typer.Typer, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    built = run(app, f"data build {BUILD} --out", folder)
    assert built.exit_code == 0, built.output
    assert "1 episodes, 13 frames" in built.output
    shown = run(app, "data show", folder)
    assert shown.exit_code == 0, shown.output
    assert "u_turn" in shown.output
    assert (folder / "show.png").stat().st_size > 1000
    assert len(list(read_mp4(folder / "show.mp4"))) == 13
    again = run(app, f"data build {BUILD} --out", folder)  # the pictures shown do not disturb it
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("--scenarios moon", "expected one of the scenarios .*got 'moon'"),
        ("--split test", "expected a split of train, heldout, got 'test'"),
        ("--size 128", "expected a size as HEIGHTxWIDTH"),
        ("--codec gif", "expected a codec of png, jpeg, got 'gif'"),
        ("--rig roof", "expected one of the rigs .*got 'roof'"),
        ("--episodes 0", "expected episodes > 0, got 0"),
        ("--device cuda:9", "expected a device that is there, got 'cuda:9'"),
        ("--size 30x62", "expected a camera size that is a multiple of 4, got 30x62"),
    ],
)
def test_a_wrong_option_is_one_line_that_says_what_was_expected(
    app: typer.Typer, tmp_path: Path, change: str, words: str
) -> None:
    refused = run(app, f"data build {BUILD} {change} --out", tmp_path / "data")
    assert refused.exit_code == 2
    assert refused.exception is None or isinstance(refused.exception, SystemExit)
    assert re.search(words, " ".join(refused.stderr.split()))
    assert not (tmp_path / "data").exists()


def test_showing_what_is_no_data_folder_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    refused = run(app, "data show", tmp_path)
    assert refused.exit_code == 2
    assert "expected a data folder with dataset.json" in refused.stderr


def test_sizes_are_height_by_width() -> None:
    assert parse_size("128x224") == (128, 224)


def test_scenarios_are_chosen_by_split_group_and_name() -> None:
    every = {name: load_scenario(name) for name in scenario_names()}
    train = select_scenarios("all", "train")
    assert set(train) == {name for name, scenario in every.items() if scenario.split == "train"}
    highway = select_scenarios("highway", "train")
    assert set(highway) == {name for name in train if every[name].group == "highway"}
    assert select_scenarios("urban_cruise, urban_cruise", "heldout") == ("urban_cruise",)
    with pytest.raises(BuildError, match="expected scenarios of split train, got none"):
        select_scenarios("", "train")
    with pytest.raises(PresetError):
        select_scenarios("urban_cruise,moon", "train")


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_the_doctor_finds_this_environment_able_to_run(app: typer.Typer) -> None:
    result = run(app, "doctor")
    assert result.exit_code == 0, result.output
    for word in (
        "torch",
        "CUDA device",
        "vector units",
        "H.264",
        "OpenCV",
        "scenarios",
        "weights",
        "part server",
    ):
        assert word in result.output


def test_the_doctor_fails_when_something_needed_is_broken(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldmodel.video.H264_ENCODERS", ())
    result = run(app, "doctor")
    assert result.exit_code == 1
    assert "broken" in result.output
    assert "PyAV" in result.output


def test_the_doctor_names_weights_with_their_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "s.safetensors").write_bytes(b"abc")
    monkeypatch.setattr("worldmodel.preset_files.PACKAGE_DIR", tmp_path)
    (found,) = doctor.CHECKS["weights"]()
    assert found.state == "ok"
    assert "s.safetensors" in found.found
    assert "ba7816bf8f01cfea" in found.found  # SHA-256 of "abc"
