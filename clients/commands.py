"""The commands that the client brings to `roadloop`: learn, and benchmarks. Everything heavy is imported only when one of them runs."""

import typer

from .bench_env import env_bench
from .learning.commands import register as register_learning
from .ranking.bench import ranking_bench


def register(app: typer.Typer) -> None:
    """Add this part's commands to the `roadloop` application."""
    register_learning(app)


def register_benches(bench: typer.Typer) -> None:
    """Add this part's benchmarks to `roadloop bench`."""
    bench.command("env")(env_bench)
    bench.command("ranking")(ranking_bench)
