"""The world model behind the wire: a tiny network with random weights, from its file to the client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clients.client import Client, connect, watch
from clients.protocol import CacheTelemetry, ErrorCode, ProtocolError
from server import weights
from server.engines import EngineChoice, build_engine
from server.lineage import lineage
from server.replay import replay
from server.weights import NoWeightsError, choose_model
from worldmodel.model.checkpoint import save_checkpoint
from worldmodel.model.config import DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.world_model import build_world_model

SCENARIO, RIG = "urban_cruise", "front3"
CONFIG = ModelConfig(
    name="tiny-random",
    rig="front3",
    height=32,
    width=48,
    steps=2,
    tokenizer=TokenizerConfig(channels=8, widths=(8, 8, 8), decoder_blocks=1),
    dit=DiTConfig(width=64, depth=2, window=2, trunk=(8, 16)),
)


def write_weights(path: Path) -> Path:
    torch.manual_seed(0)
    model = build_world_model(CONFIG)
    tensors = {}
    for prefix, network in (("tokenizer.", model.tokenizer), ("dit.", model.dit)):
        for name, tensor in network.state_dict().items():
            shift = 0.05 * torch.randn_like(tensor) if tensor.is_floating_point() else 0
            tensors[prefix + name] = tensor + shift  # parts that begin at zero come alive
    save_checkpoint(path, CONFIG, tensors)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def url(run_server: Any, checkpoint: Path, records: Path) -> Iterator[str]:
    options = json.dumps({"model": str(checkpoint), "dtype": "float32"})
    with run_server(
        "--engine", "worldmodel", "--set", f"engine_options={options}", "--record-dir", str(records)
    ) as server:
        yield server.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with connect(url, encoding="raw") as client:
        yield client


def test_the_welcome_names_the_model_and_its_tiers(client: Client) -> None:
    server = client.server
    assert (server.engine, server.model) == ("worldmodel", "tiny-random")
    assert server.tiers == ["exact", "safe", "balanced", "fast"]
    assert len(server.model_digest) >= 32


def test_a_session_opens_and_steps_at_the_models_resolution(client: Client) -> None:
    opened = client.session.reset(SCENARIO, seed=1, rig=RIG)
    assert [image.shape for image in opened.images().values()] == [(1, 32, 48, 3)] * 3
    stepped = client.session.step([0.0, 0.5])
    assert [image.shape for image in stepped.images().values()] == [(4, 32, 48, 3)] * 3
    assert stepped.cache is None
    assert stepped.timing["denoise"] > 0


def test_a_restored_and_a_forked_session_continue_alike(client: Client) -> None:
    session = client.session
    session.reset(SCENARIO, seed=1, rig=RIG, options={"tier": "fast"})
    session.step([0.0, 0.5])
    handle = session.snapshot().handle
    (copy,) = session.fork()
    expected = [session.step([0.01, 0.5]).frames for _ in range(2)]
    assert [copy.step([0.01, 0.5]).frames for _ in range(2)] == expected
    session.restore(handle)
    assert [session.step([0.01, 0.5]).frames for _ in range(2)] == expected
    copy.close()


def test_a_tier_changes_between_two_chunks_and_the_world_goes_on(client: Client) -> None:
    session = client.session
    session.reset(SCENARIO, seed=1, rig=RIG)
    seen = [session.step([0.0, 0.5])]
    assert session.set_tier("fast").next_chunk == 1
    seen += [session.step([0.0, 0.5]) for _ in range(3)]
    session.set_tier("exact")
    seen.append(session.step([0.0, 0.5]))
    assert [result.chunk for result in seen] == list(range(5))
    assert [result.cache.tier if result.cache else None for result in seen] == [None, *["fast"] * 3, None]
    xs = [x for result in seen for x in result.ego_frames[:, 0]]
    assert np.all(np.diff(xs) > 0)
    with pytest.raises(ProtocolError, match="expected a tier of exact, safe, balanced, fast") as refused:
        session.set_tier("warp")
    assert refused.value.code is ErrorCode.BAD_REQUEST


def test_telemetry_of_the_cache_reaches_driver_and_viewer_in_full(client: Client, url: str) -> None:
    session = client.session
    session.reset(SCENARIO, seed=1, rig=RIG, options={"tier": "fast"})
    driven = [session.step([0.0, 0.5]) for _ in range(3)][-1].cache
    watched = next(iter(watch(url, session.name))).cache
    for cache in (driven, watched):
        assert isinstance(cache, CacheTelemetry)
        assert cache.reason.dtype == np.uint8
        assert cache.reason.shape[:2] == (CONFIG.steps, CONFIG.dit.depth)
        assert cache.reason.max() < len(cache.reasons)
        for matrix in (cache.cosine, cache.deviation, cache.age, cache.error):
            assert matrix is not None
            assert (matrix.dtype, matrix.shape) == (np.float32, cache.reason.shape)
        assert cache.skip == pytest.approx(cache.skipped.mean())
        assert cache.gate_us is not None
        assert cache.gate_us > 0
        assert cache.bytes is not None
        assert cache.bytes > 0


def test_a_recording_with_tiers_a_restore_and_a_fork_replays_to_the_same_bytes(
    client: Client, records: Path
) -> None:
    session = client.session
    session.reset(SCENARIO, seed=1, rig=RIG, record=True)
    session.step([0.0, 0.5])
    session.set_tier("fast")
    handle = session.snapshot().handle
    session.step([0.01, 0.5])
    (copy,) = session.fork()
    copy.step([-0.01, 0.5])
    session.restore(handle)
    session.step([0.02, 0.0])
    copy.close()
    paths = list(records.glob("*.rlrec"))
    assert len(paths) == 2
    for path in paths:
        kinds = {record["kind"] for record in lineage(path)}
        assert {"tier", "chunk"} <= kinds
        report = replay(path)  # builds the engine again, from the header alone
        assert (report.same, report.chunks) == (True, 3), report


# Without weights ------------------------------------------------------------------------------------------------------


def test_without_shipped_weights_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "shipped_weights", list)
    with pytest.raises(NoWeightsError, match=r"expected weights .* got none.*engine_options"):
        build_engine(EngineChoice("worldmodel"))


def test_the_default_model_is_taken_where_it_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "shipped_weights", lambda: ["A", weights.DEFAULT_MODEL])
    assert choose_model(None) == weights.DEFAULT_MODEL
    monkeypatch.setattr(weights, "shipped_weights", lambda: ["A", "B"])
    assert choose_model(None) == "A"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "nowhere/x.safetensors"}, "does not exist"),
        ({"model": "no-such"}, "expected one of the models"),
        ({"weights": "x"}, "expected engine options of model, dtype, compile, got weights"),
        ({"model": "S", "dtype": "int8"}, "float32 or bfloat16"),
    ],
    ids=["file", "name", "option", "dtype"],
)
def test_wrong_options_of_the_world_model_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_engine(EngineChoice("worldmodel", options=options))


def test_a_server_without_weights_ends_at_once_with_the_reason(tmp_path: Path) -> None:
    missing = json.dumps({"model": str(tmp_path / "none.safetensors")})
    command = [sys.executable, "-m", "server", "--engine", "worldmodel", "--set", f"engine_options={missing}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "expected a file of weights" in ended.stderr
    assert "Traceback" not in ended.stderr
