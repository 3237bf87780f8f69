"""`roadloop bench engine` writes the promised keys, and its numbers agree with each other."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from worldmodel.chosen_model import camera_size, chosen_model, rig_of
from worldmodel.commands import bench_engine
from worldmodel.engine_bench.work import count_flops
from worldmodel.model.config import ConfigError

MODEL = """
name: test
rig: front1
height: 32
width: 48
steps: 2
cycle: 2
tokenizer: {channels: 8, widths: [8, 8, 8], decoder_blocks: 1}
dit: {width: 64, depth: 2, window: 2, trunk: [8, 8]}
"""


@pytest.fixture
def app() -> typer.Typer:
    torch.set_num_threads(1)
    made = typer.Typer()
    made.command()(bench_engine.bench_engine)
    return made


def test_the_report_has_its_keys_and_its_numbers_agree(app, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_engine, "SCENARIOS", ("highway_empty",))
    monkeypatch.setattr(bench_engine, "QUICK_CHUNKS", 2)
    monkeypatch.setattr("worldmodel.engine_bench.work.PEAK_SIZE", 64)
    preset, file = tmp_path / "test.yaml", tmp_path / "out" / "bench.json"
    preset.write_text(MODEL)
    command = ["--quick", "--model", str(preset), "--random-weights", "--size", "16x32", "--json", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    results = report["results"]
    assert set(results["stage_ms"]) == {"scene", "condition", "denoise", "decode", "encode", "kv_update"}
    assert all(value >= 0 for value in results["stage_ms"].values())
    assert [row["size"] for row in results["batch"]] == [1, 2]
    assert results["realtime_factor"] == pytest.approx(1e3 / 3 / results["chunk_ms_mean"])
    stages = sum(results["stage_ms_mean"].values())
    assert 0.5 * results["chunk_ms_mean"] < stages < results["chunk_ms_mean"]
    assert results["flop_per_chunk"] > 0
    assert results["peak_memory_mb"] > 0
    assert (results["height"], results["width"], results["cameras"]) == (16, 32, 1)
    assert results["compiled"] is None
    assert report["config"]["weights"] == "random"
    assert report["model_digest"] == "random"


def test_a_wrong_model_is_one_line(app):
    result = CliRunner().invoke(app, ["--quick", "--model", "moon"])
    assert result.exit_code == 2
    assert "'moon'" in result.stderr


def test_operations_of_products_and_attention_are_counted():
    a, q = torch.ones(8, 16), torch.ones(2, 3, 4, 64, dtype=torch.bfloat16)
    assert count_flops(lambda: a @ a.T) == 2 * 8 * 8 * 16
    attention = torch.nn.functional.scaled_dot_product_attention
    assert count_flops(lambda: attention(q, q, q)) == 2 * (2 * 2 * 3 * 4 * 4 * 64)


def test_a_size_stands_in_for_the_models_own():
    model = chosen_model("tiny", random_weights=True, size="64x112", cycle=2)
    assert (model.config.height, model.config.width, model.config.cycle) == (64, 112, 2)
    assert (rig_of(model.config).height, len(rig_of(model.config))) == (64, 3)
    with pytest.raises(ConfigError, match="expected a size like 96x160, height first, got 'large'"):
        camera_size("large")
    with pytest.raises(ConfigError, match="height: expected a multiple of 16, got 90"):
        chosen_model("tiny", random_weights=True, size="90x160")
