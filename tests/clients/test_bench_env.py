import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from clients import bench_env
from clients.bench_env import import_time, rate, reset_times
from clients.commands import register_benches


def test_the_share_is_of_what_a_client_gets_that_looks_at_nothing(zero_url: str) -> None:
    row = rate(zero_url, 2, 8, {"rig": "front1", "image_size": (36, 64)})
    assert row["share_of_server_rate"] == pytest.approx(row["steps_per_s"] / row["bare_steps_per_s"])
    assert row["share_of_all_frames_rate"] == pytest.approx(
        row["steps_per_s"] / row["all_frames_steps_per_s"]
    )
    assert row["steps_per_s"] > 0
    assert row["cpu_ms"] > row["bare_cpu_ms"] > 0


def test_resets_are_timed_both_ways(zero_url: str) -> None:
    times = reset_times(zero_url, 2)
    assert min(times["open_ms"], times["restore_ms"]) > 0


def test_an_import_takes_some_time() -> None:
    assert 0 < import_time("json") < 5


def test_the_command_writes_the_keys_of_every_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "steps_per_s": 90.0,
        "bare_steps_per_s": 100.0,
        "share_of_server_rate": 0.9,
        "all_frames_steps_per_s": 60.0,
        "share_of_all_frames_rate": 1.5,
        "cpu_ms": 2.0,
        "bare_cpu_ms": 1.0,
    }
    results: dict[str, Any] = {
        "observed": {"surround7": row},
        "open_ms": 2.0,
        "restore_ms": 1.0,
        "import_s": 0.2,
        "gym_import_s": 0.4,
    }
    monkeypatch.setattr(bench_env, "measure", lambda *arguments: results)
    app = typer.Typer()
    register_benches(app)
    done = CliRunner().invoke(app, ["env", "--quick", "--json", str(tmp_path / "env.json")])
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "env.json").read_text())
    assert document["results"] == results
    assert {"cpu", "cores", "gpu", "torch", "dtype", "threads", "compile"} <= set(document["hardware"])
    assert document["config"]["sessions"] == 8
