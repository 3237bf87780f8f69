"""The cache benchmark on a small untrained model: every number is measured, full compute is its own reference."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from worldmodel.commands import bench_xcache
from worldmodel.model.config import DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.world_model import random_world_model
from worldmodel.scene.scenario import load_scenario
from worldmodel.xcache_bench import GROUPS, METHODS, pareto

CONFIG = ModelConfig(
    name="test",
    rig="front1",
    height=64,
    width=96,
    steps=2,
    cycle=4,
    tokenizer=TokenizerConfig(channels=8, widths=(8, 8, 8), decoder_blocks=1),
    dit=DiTConfig(width=64, depth=3, window=2, stem_width=8),
)
SETTINGS = {
    "device": "cpu",
    "chunks": 3,
    "steps": 2,
    "quick": True,
    "scenarios": {"turning": ["u_turn_change_rain"]},
}


@pytest.fixture(scope="module")
def results() -> dict:
    """Full compute, a tier and a baseline over one drive."""
    model = random_world_model(CONFIG)
    return bench_xcache.measure(model, ("exact", "always", "taylor_step"), SETTINGS)


def test_rows_have_the_keys_of_every_benchmark_of_the_cache(results: dict) -> None:
    keys = """name tier group protocol skip speedup_dit speedup_chunk chunk_ms_p50 chunk_ms_p99 psnr_full ssim_full
        true_cost_db speed_error yaw_rate_error motion_energy_ratio gate_overhead cache_mb"""
    assert [row["name"] for row in results["methods"]] == ["exact", "always", "taylor_step"]
    for row in results["methods"]:
        assert set(keys.split()) <= set(row)
    assert len(results["per_chunk"]) == 3 * SETTINGS["chunks"]
    json.dumps(results)


def test_full_compute_equals_itself_and_others_are_measured_against_it(results: dict) -> None:
    full, always, _ = results["methods"]
    assert (full["skip"], full["psnr_full"], full["true_cost_db"]) == (0.0, 100.0, 0.0)
    assert (full["speedup_dit"], full["speedup_chunk"], full["cache_mb"]) == (1.0, 1.0, 0.0)
    assert always["skip"] == pytest.approx(2 / 3 * 2 / 3)  # all but the anchor, in two chunks of three
    assert always["psnr_full"] < 100.0
    assert always["cache_mb"] > 0.0


def test_the_chunk_that_commits_is_exact_in_the_curve(results: dict) -> None:
    always = [point for point in results["per_chunk"] if point["name"] == "always"]
    assert [point["psnr_full"] == 100.0 for point in always] == [True, False, False]
    reusing = sum(point["psnr_full"] for point in always[1:]) / 2
    assert results["methods"][1]["psnr_full"] < reusing + 3.0  # the exact chunk's 100 dB are not averaged in


def test_the_frontier_is_drawn(results: dict, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pareto(results["methods"], "a title", tmp_path / "plots" / "frontier.png")
    assert (tmp_path / "plots" / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_scenarios_are_held_out_and_names_are_checked() -> None:
    assert {load_scenario(name).split for names in GROUPS.values() for name in names} == {"heldout"}
    with pytest.raises(typer.BadParameter, match=r"expected methods of exact.*got 'warp'"):
        bench_xcache._chosen("safe, warp", METHODS, (), "methods")


def test_another_cycle_can_be_measured_without_another_model() -> None:
    model = bench_xcache.open_model("tiny", random_weights=True, cycle=2)
    assert model.config == replace(model.config, cycle=2)
    assert model.digest == "random"
