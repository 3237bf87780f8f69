"""The viewer's modules under Node: their own unit tests, and their msgpack against the golden frames of the protocol."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.protocol import Step, parse_request
from clients.protocol.codec import unpack

HERE = Path(__file__).parent
NODE = shutil.which("node")
GOLDEN = sorted((HERE.parent / "clients" / "golden").glob("*.msgpack"))

needs_node = pytest.mark.skipif(NODE is None, reason="expected Node 20 or newer on the PATH, found no node")


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run(
        [NODE, *arguments], capture_output=True, text=True, timeout=60, cwd=HERE, check=False
    )


@needs_node
def test_the_modules_pass_their_own_tests() -> None:
    done = node("--test", "web")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "# pass 0\n" not in done.stdout


@needs_node
def test_the_browser_reads_every_golden_frame_as_python_does() -> None:
    assert GOLDEN
    done = node("web/decode.mjs", *map(str, GOLDEN))
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)["read"]
    for path in GOLDEN:
        assert read[str(path)] == plain(unpack(path.read_bytes())), path.name


@needs_node
def test_python_reads_what_the_browser_writes() -> None:
    step = parse_request(bytes.fromhex(json.loads(node("web/decode.mjs").stdout)["step"]))
    assert isinstance(step, Step)
    assert (step.id, step.session, step.chunk, step.space, step.deadline_ms) == (
        1 << 40,
        "s-1",
        300,
        "controls",
        1.5,
    )
    assert step.actions.tolist() == np.array([[0.1, -2], [0, 3.5]], np.float32).tolist()


def plain(value: Any) -> Any:
    """As web/decode.mjs prints it."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": list(value.shape), "values": value.ravel().tolist()}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
