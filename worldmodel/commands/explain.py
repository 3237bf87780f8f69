"""Errors on the command line: one line that says what was expected, instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..errors import EngineError


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a user can put right into `error: ...` on stderr and exit code 2; anything else stays a traceback."""
    try:
        yield
    except (EngineError, ValueError, KeyError, OSError) as error:
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        typer.echo(f"error: {words}", err=True)
        raise typer.Exit(2) from error
