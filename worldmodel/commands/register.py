"""Gathers the sub-commands of this part. Each module is imported when `roadloop` starts, so they import lazily."""

import typer


def register(app: typer.Typer) -> None:
    """Add this part's commands to the `roadloop` application."""
