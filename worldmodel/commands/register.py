"""Gathers the sub-commands of this part. They import torch and the renderer only when they run."""

import typer

from . import data, doctor, gallery, render, scenarios, train
from .bench_engine import bench_engine
from .bench_fidelity import bench_fidelity
from .bench_reference import bench_reference
from .bench_xcache import bench_xcache


def register(app: typer.Typer) -> None:
    """Add this part's commands to the `roadloop` application."""
    for part in (scenarios, render, gallery, data, train, doctor):
        part.register(app)


def register_benches(bench: typer.Typer) -> None:
    """Add this part's benchmarks to `roadloop bench`."""
    bench.command("engine")(bench_engine)
    bench.command("fidelity")(bench_fidelity)
    bench.command("reference")(bench_reference)
    bench.command("xcache")(bench_xcache)
