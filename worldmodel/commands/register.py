"""Gathers the sub-commands of this part. They import torch and the renderer only when they run."""

import typer


def register(app: typer.Typer) -> None:
    """Add this part's commands to the `roadloop` application."""


def register_benches(bench: typer.Typer) -> None:
    """Add this part's benchmarks to `roadloop bench`."""
