import json

import pytest
import typer
from typer.testing import CliRunner

from worldmodel.benchmarking import envelope, percentiles
from worldmodel.commands import bench_reference


def test_the_report_has_the_keys_that_every_benchmark_has(tmp_path, monkeypatch):
    one = {"scenarios": ("u_turn",), "rigs": ("front1",)}
    monkeypatch.setattr("worldmodel.preset_files.preset_names", one.__getitem__)
    monkeypatch.setattr(bench_reference, "QUICK_CHUNKS", 2)
    app, file = typer.Typer(), tmp_path / "out" / "bench.json"
    app.command()(bench_reference.bench_reference)
    result = CliRunner().invoke(app, ["--quick", "--rig", "front1", "--json", str(file)])
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert {"hardware", "commit", "model_digest", "config", "results"} == set(report)
    assert {"cpu", "cores", "gpu", "torch", "dtype", "threads", "compile"} == set(report["hardware"])
    wanted = ["chunk_ms_p50", "chunk_ms_p99", "realtime_factor", "frames_per_s", "cameras", "height", "width"]
    assert set(wanted) <= set(report["results"])
    assert report["results"]["cameras"] == 1
    assert report["results"]["frames_per_s"] * report["results"]["chunk_ms_p50"] == pytest.approx(4e3)
    assert report["config"]["scenarios"] == ["u_turn"]


def test_percentiles_are_named_after_what_they_measure():
    assert percentiles([1.0, 2.0, 3.0], "chunk")["chunk_ms_p50"] == 2.0


def test_an_envelope_names_the_model():
    assert envelope({}, {}, model_digest="abc", dtype="bfloat16")["hardware"]["dtype"] == "bfloat16"
