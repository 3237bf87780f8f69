"""The cache benchmark on a small untrained model: every number is measured, full compute is its own reference."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import typer

from worldmodel.benchmarking import envelope
from worldmodel.commands import bench_xcache
from worldmodel.model.config import DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.world_model import WorldModel, random_world_model
from worldmodel.scene.scenario import load_scenario
from worldmodel.xcache_bench import (
    ABLATIONS,
    CHOICE_SCENARIOS,
    FULL_COMPUTE,
    GROUPS,
    METHODS,
    PROTOCOLS,
    Course,
    Settings,
    calibrated,
    drift_table,
    frontier,
    measure,
    model_rig,
    pareto,
    record,
    suggest,
    unmatched,
    write_page,
)
from worldmodel.xcache_bench.race import Run, race
from worldmodel.xcache_bench.scenes import Drive
from worldmodel.xcache_bench.work import skipped_work, stage_work, work_outside
from xcache_core import Reason

CONFIG = ModelConfig(
    name="test",
    rig="front1",
    height=64,
    width=96,
    steps=2,
    cycle=4,
    tokenizer=TokenizerConfig(channels=8, widths=(8, 8, 8), decoder_blocks=1),
    dit=DiTConfig(width=64, depth=3, window=2, trunk=(8, 16)),
)
CHUNKS = 3
SETTINGS = Settings({"turning": ["u_turn_change_rain"]}, CHUNKS, steps=2, quick=True)
CAMERAS = 1


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """Untrained, alive."""
    return random_world_model(CONFIG)


@pytest.fixture(scope="module")
def drive(model: WorldModel) -> Drive:
    """A cycle and a half."""
    return record("turning", "u_turn_change_rain", model_rig(model), 6, "cpu")


@pytest.fixture(scope="module")
def results(model: WorldModel) -> dict:
    """Full compute, a baseline and a tier at another number of steps, over one drive."""
    return measure(model, [METHODS["always"], METHODS["fast"].at(1)], SETTINGS)


def rows(results: dict, protocol: str = "free-running") -> dict[str, dict]:
    """By name."""
    return {row["name"]: row for row in results["methods"] if row["protocol"] == protocol}


def test_rows_have_the_keys_of_every_benchmark_of_the_cache(results: dict) -> None:
    keys = """name tier group protocol skip speedup_dit speedup_chunk chunk_ms_p50 chunk_ms_p99 psnr_full ssim_full
        true_cost_db speed_error yaw_rate_error motion_energy_ratio gate_overhead cache_mb"""
    assert set(rows(results)) == {"exact", "always", "exact@1", "fast@1"}
    for row in results["methods"]:
        assert set(keys.split()) <= set(row)
    assert len(results["per_chunk"]) == 2 * 4 * CHUNKS
    json.dumps(results)


def test_full_compute_equals_itself_and_others_are_measured_against_it(results: dict) -> None:
    full, always = rows(results)["exact"], rows(results)["always"]
    assert (full["skip"], full["psnr_full"], full["true_cost_db"]) == (0.0, 100.0, 0.0)
    assert (full["speedup_dit"], full["speedup_chunk"], full["cache_mb"]) == (1.0, 1.0, 0.0)
    assert always["skip"] == pytest.approx(2 / 3 * 2 / 3)  # all but the anchor, in two chunks of three
    assert always["psnr_full"] < 100.0
    assert always["cache_mb"] > 0.0


def test_other_step_counts_are_held_against_their_own_full_compute_and_against_the_first(
    results: dict,
) -> None:
    fewer, cached = rows(results)["exact@1"], rows(results)["fast@1"]
    assert (fewer["steps"], fewer["psnr_full"], fewer["speedup_cache"]) == (1, 100.0, 1.0)
    assert fewer["speedup_denoise"] > 1.2  # one pass instead of two
    assert fewer["true_cost_db"] != 0.0
    assert cached["psnr_full"] < 100.0


def test_the_speed_that_skipped_work_implies_counts_what_blocks_cost(model: WorldModel) -> None:
    work = stage_work(CONFIG, CAMERAS, apart=True)
    assert len(work) == 4  # of three blocks one attends across cameras
    assert sum(work) == sum(stage_work(CONFIG, CAMERAS, apart=False))
    reason = np.full((2, 4), Reason.SKIPPED, np.uint8)
    reason[:, 0] = Reason.ANCHOR
    run = Run([], caches=[{"reason": reason}, None])
    total = sum(work) + work_outside(CONFIG)
    assert skipped_work(run, CONFIG, CAMERAS) == pytest.approx((sum(work) - work[0]) / total / 2)
    assert 0.0 < work_outside(CONFIG) < 0.2 * total


def test_the_chunk_that_commits_is_exact_in_the_curve(results: dict) -> None:
    always = [
        point
        for point in results["per_chunk"]
        if (point["name"], point["protocol"]) == ("always", "free-running")
    ]
    assert [point["psnr_full"] == 100.0 for point in always] == [True, False, False]
    reusing = sum(point["psnr_full"] for point in always[1:]) / 2
    assert (
        rows(results)["always"]["psnr_full"] < reusing + 3.0
    )  # the exact chunk's 100 dB are not averaged in


def test_a_cache_that_never_commits_what_it_reused_is_one_rollout_under_both_protocols(
    model: WorldModel, drive: Drive
) -> None:
    unprotected = ABLATIONS["kv_unprotected_no_gate"]
    field = [FULL_COMPUTE, METHODS["always"], unprotected]
    free, held = (race(model, field, drive, Course("cpu", 2), protocol) for protocol in PROTOCOLS)
    same = {
        name: all(torch.equal(a, b) for a, b in zip(free[name].frames, held[name].frames, strict=True))
        for name in free
    }
    assert same == {"exact": True, "always": True, unprotected.name: False}


def test_a_rehearsal_leaves_nothing_behind(model: WorldModel, drive: Drive) -> None:
    field = [FULL_COMPUTE, METHODS["always"]]
    short, whole = (race(model, field, drive, Course("cpu", 2, rehearsed=n)) for n in (2, None))
    for name in short:
        assert len(whole[name].chunk_ms) == len(drive.actions)
        for a, b in zip(short[name].frames, whole[name].frames, strict=True):
            assert torch.equal(a, b)
    assert bench_xcache.settings_of("race", True, "", "", None, 1, "cpu").rehearsed == 2
    assert bench_xcache.settings_of("race", True, "", "", None, 1, "cpu", compiled=True).rehearsed is None


def test_a_tier_whose_commits_are_exact_at_so_many_steps_is_raced_once() -> None:
    assert METHODS["balanced"].stands_apart(2)
    assert not METHODS["balanced"].stands_apart(1)  # the last step is all there is
    assert not METHODS["balanced"].at(1).stands_apart(4)
    assert not METHODS["safe"].stands_apart(4)


def test_progress_is_told_up_to_the_last_chunk(model: WorldModel) -> None:
    told: list[tuple[int, int]] = []
    settings = replace(SETTINGS, chunks=2, protocols=PROTOCOLS)
    measure(model, [METHODS["safe"]], settings, lambda done, total: told.append((done, total)))
    assert told == [(2, 4), (4, 4)]  # one race: the other protocol gives the same


def test_evidence_says_where_and_why(results: dict) -> None:
    seen = results["evidence"]["always"]["turning"]
    assert np.array(seen["skip"]) == pytest.approx(np.array([[0, 2 / 3, 2 / 3]] * 2))
    assert seen["reasons"] == pytest.approx({"skipped": 4 / 9, "anchor": 2 / 9, "kv_update": 1 / 3})
    assert set(seen["cosine_by_age"]) == {1, 2}
    assert "exact" not in results["evidence"]


def test_a_table_is_calibrated_from_what_reuse_along_the_steps_costs(model: WorldModel, drive: Drive) -> None:
    drive, course = replace(drive, actions=drive.actions[:2]), Course("cpu", 2)
    drift = drift_table(model, [drive], course)
    assert drift[0] == [0.0] * 3  # nothing to reuse at step 0
    assert min(drift[1]) > 0.0
    made = race(model, [calibrated([[0.0] * 3, [0.0] * 3])], drive, course)["fixed_table"]
    assert (made.caches[1]["reason"][1] == Reason.SKIPPED).all()


def test_tiers_are_suggested_by_their_promises() -> None:
    def row(name: str, speed: float, full: float, cost: float, motion: float) -> dict:
        errors = {"speed_error": 0.1, "yaw_rate_error": 0.1, "motion_energy_ratio": motion}
        return {
            "name": name,
            "speedup_dit": speed,
            "psnr_full": full,
            "true_cost_db": cost,
            **errors,
        }

    table = [
        row("exact", 1.0, 100.0, 0.0, 1.0),
        row("good", 2.0, 45.0, 0.1, 0.99),
        row("frozen", 3.0, 35.0, 0.1, 0.5),
        row("wild", 4.0, 20.0, 3.0, 0.5),
    ]
    assert {tier: chosen["name"] for tier, chosen in suggest(table).items()} == {
        "safe": "good", "balanced": "good", "fast": "frozen"
    }  # fmt: skip
    assert [one["name"] for one in frontier(table)] == ["wild", "frozen", "exact"]
    assert suggest(table[:1])["balanced"]["name"] == "exact"


def test_what_is_above_ours_is_named() -> None:
    def row(name: str, speed: float, cost: float) -> dict:
        return {"name": name, "speedup_dit": speed, "true_cost_db": cost}

    ours = [row("exact", 1.0, 0.0), row("fast", 3.0, 0.1), row("fast@1", 9.0, 0.3)]
    others = [
        row("slower", 2.9, 0.1),
        row("as_good", 3.05, 0.09),
        row("cheaper", 2.5, 0.0),
        row("even", 3.0, 0.06),
        row("faster", 3.2, 0.1),
    ]
    assert [one["name"] for one in unmatched(ours + others, ("exact", "fast"))] == ["cheaper", "faster"]


def test_the_page_needs_nothing_else(results: dict, tmp_path: Path) -> None:
    config = {"model": "test", "weights": "random"}
    write_page(envelope(results, config), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    tags = [element.tag for element in ElementTree.fromstring(page.replace("<!doctype html>", "")).iter()]
    assert tags.count("svg") == 2 * 7 + 2  # both protocols, and where the caches skipped: neither measures
    assert tags.count("polyline") == 2 * 3 * 4
    assert not {"script", "link", "img"} & set(tags)
    assert "http" not in page.replace("https://", "")


def test_the_frontier_is_drawn(results: dict, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pareto(results["methods"], "a title", tmp_path / "plots" / "frontier.png")
    assert (tmp_path / "plots" / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_scenarios_are_held_out_and_names_are_checked() -> None:
    assert {load_scenario(name).split for names in GROUPS.values() for name in names} == {"heldout"}
    assert {load_scenario(name).split for names in CHOICE_SCENARIOS.values() for name in names} == {"train"}
    with pytest.raises(typer.BadParameter, match=r"expected methods of exact.*got 'warp'"):
        bench_xcache._chosen("safe, warp", METHODS, (), "methods")
    with pytest.raises(typer.BadParameter, match="expected numbers of steps"):
        bench_xcache._step_counts("4,two", None, False)


def test_another_cycle_can_be_measured_without_another_model() -> None:
    model = bench_xcache.open_model("tiny", random_weights=True, cycle=2)
    assert model.config == replace(model.config, cycle=2)
    assert model.digest == "random"
