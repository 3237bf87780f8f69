from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from clients.commands import register
from clients.learning.network import CAMERAS, SIZE, VisionNetwork
from clients.learning.torch_network import TorchNetwork
from worldmodel.data.lessons import COLUMNS

run = CliRunner()
app = typer.Typer()
register(app)


@pytest.fixture
def lessons(tmp_path: Path) -> Path:
    count = 40
    path = tmp_path / "lessons.npz"
    np.savez(
        path,
        allow_pickle=False,
        images=np.zeros((count, len(CAMERAS), 2, *SIZE, 3), np.uint8),
        state=np.ones((count, len(COLUMNS)), np.float32),
        expert=np.zeros((count, 2), np.float32),
        episode=np.arange(count) // 4,
        cameras=np.array(CAMERAS),
        columns=np.array(COLUMNS),
    )
    return path


def test_clone_says_how_far_it_is_and_writes_weights(lessons: Path, tmp_path: Path) -> None:
    done = run.invoke(app, ["learn", "clone", str(lessons), "--out", str(tmp_path / "out"), "--epochs", "1"])
    assert done.exit_code == 0, done.output
    assert "40 lessons of 10 episodes" in done.output
    assert "100%  loss" in done.output
    assert VisionNetwork.load(tmp_path / "out" / "vision.safetensors").digest in done.output.replace("\n", "")


def test_ppo_drives_on_the_server_that_it_is_told(zero_url: str, tmp_path: Path) -> None:
    TorchNetwork().save(tmp_path / "start.safetensors")
    words = f"ppo --out {tmp_path / 'out'} --start {tmp_path / 'start.safetensors'} --steps 8 --worlds 2 --rollout 4"
    done = run.invoke(
        app, ["learn", *words.split(), "--set", f"url={zero_url}", "--set", "scenario=zero-short"]
    )
    assert done.exit_code == 0, done.output
    VisionNetwork.load(tmp_path / "out" / "vision.safetensors")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("clone {0}/missing.npz --out {0}/out", "expected lessons in"),
        ("ppo --out {0}/out --set scenario", "expected key=value"),
        ("ppo --out {0}/out --set nonsense=1", "expected options of"),
        ("ppo --out {0}/out --set url={1} --set scenario=zero --start {0}/missing", "expected weights in"),
        ("ppo --out {0}/out --set url=http://127.0.0.1:9", "expected a server"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    zero_url: str, tmp_path: Path, words: str, message: str
) -> None:
    done = run.invoke(app, ["learn", *words.format(tmp_path, zero_url).split()])
    assert done.exit_code == 2
    assert message in done.output
