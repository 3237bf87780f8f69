"""`roadloop bench fidelity` writes the promised keys; gates hold or fail as their numbers say."""

import json
import math

import pytest
import torch
import typer
from typer.testing import CliRunner

from worldmodel.commands import bench_fidelity
from worldmodel.fidelity_bench.counterfactual import LATERAL_MPS2, commands
from worldmodel.fidelity_bench.drives import LONG, marks, scenario_file
from worldmodel.fidelity_bench.gates import gates
from worldmodel.fidelity_bench.scores import summary
from worldmodel.scene.scenario import load_scenario
from worldmodel.scene.state import EGO_SHAPE, EgoState

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


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("bench")
    preset, file, html = folder / "test.yaml", folder / "out" / "a.json", folder / "out" / "a.html"
    preset.write_text(MODEL)
    app = typer.Typer()
    app.command()(bench_fidelity.bench_fidelity)
    command = ["--quick", "--model", str(preset), "--random-weights", "--scenarios", "side_street_out"]
    result = CliRunner().invoke(app, [*command, "--no-tiers", "--json", str(file), "--html", str(html)])
    assert result.exit_code == 0, result.output
    return json.loads(file.read_text()), html.read_text(), result.output


KEYS = (
    *("one_chunk_psnr", "rollout_psnr", "copy_last_frame_psnr", "bare_warp_psnr", "motion_energy_ratio"),
    *("speed_error", "yaw_rate_error", "cross_view_error_ratio", "latent_drift", "agents_present"),
)


def test_the_report_has_its_keys_with_and_without_layout(report):
    results = report[0]["results"]
    assert set(KEYS) | {"tokenizer_psnr", "counterfactual_correct", "steps", "layout_off"} <= set(results)
    assert set(KEYS) <= set(results["layout_off"])
    assert set(results["steps"]) == {"1", "2", "4", "8"}
    assert set(results["rollout_psnr"]) == {"1"}
    assert set(results["copy_last_frame_psnr"]) == {"chunk", "1"}
    assert report[0]["config"]["scenarios"] == ["side_street_out"]
    assert report[0]["config"]["weights"] == "random"


def test_random_weights_fail_and_the_baselines_do_not_depend_on_them(report):
    results = report[0]["results"]
    failed = {gate["name"] for gate in results["gates"] if gate["holds"] is False}
    assert {"tokeniser PSNR [dB]", "above the bare warp, least [dB]"} <= failed
    assert results["bare_warp_psnr"]["chunk"] > results["copy_last_frame_psnr"]["chunk"]
    assert results["layout_off"]["bare_warp_psnr"] == results["bare_warp_psnr"]


def test_the_page_stands_alone_and_shows_pictures(report):
    _, html, output = report
    assert html.startswith("<!doctype html>")
    assert html.count("data:image/jpeg;base64,") == 2  # the first chunk, and the one at a second
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "<svg" in html
    assert "fails" in output


def test_horizons_stand_on_the_last_chunks_before_them():
    assert marks((1, 5), 2) == {1: [1, 2], 5: [13, 14]}
    assert marks((1,), 9) == {1: [0, 1, 2]}


def test_the_long_drive_is_a_scenario_that_lasts_three_minutes():
    scenario = load_scenario(scenario_file(LONG))
    assert scenario.split == "heldout"
    assert scenario.duration_s > 180
    assert scenario_file("urban_cruise") == "urban_cruise"


@pytest.mark.parametrize("speed_mps", [5.0, 12.0, 30.0])
def test_commands_pull_sideways_alike_at_any_speed(speed_mps):
    made = commands(EgoState(0, 0, 0, speed_mps))
    steering = made["left"].values[0, 0]
    pull = speed_mps**2 * math.tan(steering) / EGO_SHAPE.wheelbase_m
    assert pull == pytest.approx(LATERAL_MPS2, rel=1e-3) or steering == pytest.approx(0.35)
    assert made["right"].values[0, 0] == -steering
    assert made["brake"].values[0, 1] < 0 < made["go"].values[0, 1]


def row(**changes):
    values = {
        "error": 100.0,
        "ssim": 0.8,
        "motion": 5.0,
        "true_motion": 5.0,
        "border": 4.0,
        "true_border": 4.0,
    }
    more = {"cross_view": 6.0, "latent_std": 1.0, "latent_mean": 0.0, "present": 3.0, "visible": 4.0}
    motion = {"forward": 1.0, "yaw": 0.02, "true_forward": 1.0, "true_yaw": 0.02}
    return values | more | motion | changes


CEILING = {"tokenizer": 50.0, "copy": 900.0, "warp": 300.0, "cross_view": 5.0, "latent_std": 1.0} | {
    "latent_mean": 0.0
}


def test_a_frozen_picture_is_told_from_a_moving_one():
    frozen = summary([row(motion=0.1, forward=0.0, yaw=0.0)] * 2, [CEILING] * 2)
    moving = summary([row()] * 2, [CEILING] * 2)
    assert frozen["psnr"] == moving["psnr"]
    assert (frozen["speed_error"], frozen["yaw_rate_error"]) == (1.0, 1.0)
    assert (moving["speed_error"], moving["motion_energy_ratio"]) == (0.0, 1.0)
    assert frozen["motion_energy_ratio"] == pytest.approx(0.02)


def test_a_rig_without_overlap_has_no_cross_view_ratio():
    alone = summary([row(cross_view=math.nan)], [CEILING | {"cross_view": math.nan}])
    assert alone["cross_view_error_ratio"] is None
    assert summary([row()], [CEILING])["cross_view_error_ratio"] == pytest.approx(1.2)
    assert alone["agents_present"] == 0.75


def test_what_was_not_measured_neither_holds_nor_fails(report):
    verdicts = {gate.name: gate.holds for gate in gates(report[0]["results"])}
    assert verdicts["PSNR after 60 s [dB]"] is None
    assert verdicts["tokeniser PSNR [dB]"] is False
