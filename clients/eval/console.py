"""What `roadloop eval` says on the terminal. Heavy imports wait until they are needed."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .comparison import Comparison, Difference
    from .harness import Evaluation


def show(evaluation: "Evaluation") -> None:
    """Write the page, and say in a few lines what came out."""
    from .report import write_report
    from .stats import METRICS, means

    page = write_report(evaluation.folder, evaluation.results)
    for name, interval in means(evaluation.results).items():
        typer.echo(f"{METRICS[name]:22} {interval}")
    counts = evaluation.summary["counts"]
    typer.echo(", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items()))
    for result in evaluation.failed:
        typer.echo(f"  {result.key}: {result.error}")
    if evaluation.cut_bytes:
        typer.echo(
            f"dropped a half-written last line of {evaluation.cut_bytes} bytes; its rollout was driven again"
        )
    if evaluation.busy.available_s:
        typer.echo(f"slots were busy {evaluation.busy.share:.1%} of the time")
    typer.echo(f"report: {page}")


def print_differences(found: "Comparison", a: str, b: str) -> None:
    """One table overall and one per group."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    for name, rows in {"overall": found.overall, **found.groups}.items():
        table = Table(box=SIMPLE, title=name, title_justify="left", pad_edge=False)
        for column in ("metric", "A", "B", "B - A", "95 %", "+ / -"):
            table.add_column(column, no_wrap=True, justify="left" if column == "metric" else "right")
        for row in rows:
            table.add_row(*_difference_cells(row))
        Console().print(table)
    typer.echo(
        f"A {a}\nB {b}\n{found.shared} shared rollouts, {found.same_drives} of them the same drive bit for bit"
    )
    for label, keys in (("only in A", found.only_a), ("only in B", found.only_b)):
        if keys:
            typer.echo(f"{len(keys)} {label}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}")


def _difference_cells(row: "Difference") -> tuple[str, ...]:
    from .stats import METRICS

    sign = "*" if row.clear else ""
    low, high = row.difference.low, row.difference.high
    return (
        METRICS[row.metric],
        f"{row.a:.3f}",
        f"{row.b:.3f}",
        f"{row.difference.mean:+.3f}{sign}",
        f"{low:+.3f} to {high:+.3f}",
        f"{row.better} / {row.worse}",
    )


@contextmanager
def progress() -> "Iterator[tuple[Any, Any]]":
    """A bar with the time that is left, where somebody looks."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("driving", total=None)

        def on_start(total: int, finished: int) -> None:
            bar.reset(task, total=total, completed=finished)

        def on_result(result: Any) -> None:
            bar.advance(task)
            if result.status.endswith("failed"):
                bar.console.print(f"{result.key}: {result.status.replace('_', ' ')}: {result.error}")

        yield on_start, on_result
