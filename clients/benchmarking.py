"""The envelope that the client's benchmarks share with all others: on what, at which commit, with which settings, the results."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def envelope(results: Mapping[str, Any], config: Mapping[str, Any], model_digest: str = "") -> dict[str, Any]:
    """The JSON document of a benchmark."""
    return {
        "hardware": hardware(),
        "commit": commit(),
        "model_digest": model_digest,
        "config": dict(config),
        "results": dict(results),
    }


def hardware() -> dict[str, Any]:
    """What the client runs on, and how busy that is; it has no torch and no GPU."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": None,
        "torch": None,
        "dtype": None,
        "threads": None,
        "compile": False,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def commit() -> str:
    """The checkout's commit, with `+` when files differ from it; empty for an installed package."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12"]
    folder = Path(__file__).resolve().parent
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return ran.stdout.strip()


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write a benchmark's document, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
