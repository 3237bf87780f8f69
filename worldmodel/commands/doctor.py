"""`roadloop doctor`: what this machine and installation can do, and what is broken."""

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer

State = Literal["ok", "note", "broken"]  # a note is something absent that nothing needs

_MIN_TORCH = (2, 11)
_CPU_FLAGS = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512f", "avx2")
_PARTS = {
    "worldmodel": ("av", "cv2", "einops", "highway_env", "safetensors", "shapely", "torch"),
    "server": ("fastapi", "uvicorn", "zmq", "prometheus_client"),
    "rl": ("gymnasium",),
    "train": ("tensorboard", "matplotlib"),
}


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    what: str
    found: str
    state: State = "ok"


def register(app: typer.Typer) -> None:
    """Add `roadloop doctor`."""
    app.command("doctor")(doctor)


def doctor() -> None:
    """Show hardware, libraries, encoders, presets and weights. Exit code 1 when something needed is broken."""
    from rich.console import Console
    from rich.table import Table

    findings = list(examine())
    table = Table("", "what", "found", title="roadloop doctor", title_justify="left")
    marks = {"ok": "[green]ok[/]", "note": "[yellow]–[/]", "broken": "[red]broken[/]"}
    for finding in findings:
        table.add_row(marks[finding.state], finding.what, finding.found)
    Console().print(table)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """All findings. A check that raises is itself a finding: what it was to show is broken."""
    for what, check in CHECKS.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(what, f"{type(error).__name__}: {error}", "broken")


def _python() -> Iterator[Finding]:
    state: State = "ok" if sys.version_info >= (3, 11) else "broken"
    yield Finding("roadloop", _own_version())
    yield Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", state)


def _parts() -> Iterator[Finding]:
    for part, modules in _PARTS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            state: State = "broken" if part == "worldmodel" else "note"
            words = f"not installed, needs {', '.join(missing)}: pip install 'roadloop[{part}]'"
            yield Finding(f"part {part}", words, state)
        else:
            yield Finding(f"part {part}", "installed")


def _torch() -> Iterator[Finding]:
    import torch

    found = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    words = torch.__version__ if found >= _MIN_TORCH else f"{torch.__version__}, expected 2.11 or newer"
    yield Finding("torch", words, "ok" if found >= _MIN_TORCH else "broken")
    yield Finding("threads", f"{torch.get_num_threads()} in torch, {_cores()} cores usable")
    if torch.cuda.is_available():
        for k in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(k)
            yield Finding(f"CUDA device {k}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
    else:
        yield Finding("CUDA device", "none: everything runs on the CPU, smaller and slower", "note")


def _cpu() -> Iterator[Finding]:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    has = [flag for flag in _CPU_FLAGS if flag in fields.get("flags", "").split()]
    name = fields.get("model name") or platform.processor() or "unknown"
    yield Finding("CPU", f"{name}, {_cores()} cores usable")
    if "amx_bf16" in has:
        yield Finding("vector units", ", ".join(has))
    else:
        yield Finding(
            "vector units", f"{', '.join(has) or 'unknown'}; without AMX the world model is slower", "note"
        )


def _video() -> Iterator[Finding]:
    import av
    import numpy as np

    from ..video import H264_ENCODERS, read_mp4, write_mp4

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        write_mp4(path, np.zeros((3, 32, 32, 3), np.uint8), fps=12)
        frames = sum(1 for _ in read_mp4(path))
    there = [name for name in H264_ENCODERS if name in av.codecs_available]
    state: State = "ok" if frames == 3 else "broken"
    yield Finding(
        "video", f"PyAV {av.__version__}, H.264 by {', '.join(there)}; wrote 3 frames, read {frames}", state
    )


def _pictures() -> Iterator[Finding]:
    import cv2
    import numpy as np

    picture = np.full((16, 16, 3), 128, np.uint8)
    works = {suffix: cv2.imencode(suffix, picture)[0] for suffix in (".jpg", ".png", ".webp")}
    words = ", ".join(suffix[1:] for suffix, written in works.items() if written)
    yield Finding("pictures", f"OpenCV {cv2.__version__}: {words}", "ok" if all(works.values()) else "broken")


def _presets() -> Iterator[Finding]:
    from ..preset_files import preset_names, presets_dir
    from ..rig import load_rig
    from ..scene.scenario import load_scenario

    yield Finding("presets", str(presets_dir()))
    for kind, load in {"rigs": load_rig, "scenarios": load_scenario}.items():
        names = preset_names(kind)
        for name in names:
            load(name)  # raises what is wrong with it
        yield Finding(kind, f"{len(names)}, all readable" if names else "none", "ok" if names else "broken")


def _weights() -> Iterator[Finding]:
    from ..preset_files import PACKAGE_DIR

    files = sorted((PACKAGE_DIR / "weights").rglob("*.safetensors"))
    if not files:
        yield Finding("weights", "none shipped: the reference engine works, the world model does not", "note")
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.relative_to(PACKAGE_DIR / "weights")
        yield Finding("weights", f"{name}, {path.stat().st_size / 1e6:.1f} MB, sha256 {digest[:16]}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _own_version() -> str:
    try:
        return version("roadloop")
    except PackageNotFoundError:
        return "not installed: running from a checkout"


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": _python,
    "parts": _parts,
    "torch": _torch,
    "CPU": _cpu,
    "video": _video,
    "pictures": _pictures,
    "presets": _presets,
    "weights": _weights,
}
