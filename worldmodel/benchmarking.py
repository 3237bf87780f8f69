"""The envelope that all benchmarks share: on what, at which commit, with which settings, the results."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Scenarios are reported with this seed or a later one; choosing anything (thresholds, checkpoints) uses earlier ones.
HELD_OUT_SEED = 9000


def envelope(
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    model_digest: str = "",
    dtype: str = "float32",
    compiled: bool = False,
) -> dict[str, Any]:
    """The JSON document of a benchmark."""
    return {
        "hardware": hardware(dtype, compiled),
        "commit": commit(),
        "model_digest": model_digest,
        "config": dict(config),
        "results": dict(results),
    }


def hardware(dtype: str = "float32", compiled: bool = False) -> dict[str, Any]:
    """What the benchmark runs on."""
    cuda = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_name(),
        "cores": cores,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "torch": torch.__version__,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "compile": compiled,
    }


def commit() -> str:
    """The checkout's commit, with `+` when files differ from it; empty for an installed package."""
    folder = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()


def percentiles(times_ms: Sequence[float], prefix: str) -> dict[str, float]:
    """`{prefix}_ms_p50` and `{prefix}_ms_p99`."""
    p50, p99 = np.percentile(np.asarray(times_ms), [50, 99])
    return {f"{prefix}_ms_p50": float(p50), f"{prefix}_ms_p99": float(p99)}


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a benchmark's document, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
