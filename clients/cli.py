"""The `roadloop` command.

Every installed part adds its sub-commands through the entry-point group `roadloop.commands`, and its benchmarks
through `roadloop.benches`: each entry is a function that takes the typer application to add to.
"""

from importlib.metadata import entry_points

import typer

GROUPS = {
    "roadloop.commands": None,
    "roadloop.benches": "bench",
}  # entry-point group -> name of the sub-application


def build_app() -> typer.Typer:
    """The command-line application with the sub-commands of every part whose requirements are installed."""
    app = typer.Typer(
        name="roadloop",
        help="Real-time closed-loop driving simulator with a multi-camera world model and X-Cache.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_root)
    for group, name in GROUPS.items():
        target = app
        if name is not None:
            target = typer.Typer(
                name=name, help="Measure; the same keys in every JSON.", no_args_is_help=True
            )
            app.add_typer(target)
        _load_group(target, group)
    return app


def main() -> None:
    """Entry point of the console script."""
    build_app()()


def _root() -> None:
    """Keep `roadloop COMMAND` even while there is only one command."""


def _load_group(app: typer.Typer, group: str) -> None:
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            register = entry.load()
        except ModuleNotFoundError as missing:
            _explain_missing(app, entry.name, str(missing.name))
            continue
        register(app)


def _explain_missing(app: typer.Typer, part: str, module: str) -> None:
    """A part whose libraries are absent shows itself in the help, and says how to get it when called."""

    @app.command(part, help=f"[not installed: needs the Python module {module}]")
    def explain() -> None:
        typer.echo(
            f"error: the {part} commands need the module {module}: pip install 'roadloop[{part}]'", err=True
        )
        raise typer.Exit(2)
