"""Results as tables for a terminal."""

from typing import Any

from rich import box
from rich.table import Table

from .timing import STAGES


def stage_table(results: dict[str, Any], title: str) -> Table:
    """Where the time of one session's chunk goes."""
    table = Table("stage", "p50 ms", "p99 ms", "mean ms", title=title, box=box.SIMPLE_HEAD)
    for stage in STAGES:
        keys = ("stage_ms", "stage_ms_p99", "stage_ms_mean")
        table.add_row(stage, *(f"{results[key][stage]:.1f}" for key in keys))
    keys = ("chunk_ms_p50", "chunk_ms_p99", "chunk_ms_mean")
    table.add_row("chunk", *(f"{results[key]:.1f}" for key in keys), style="bold")
    return table


def batch_table(results: dict[str, Any]) -> Table:
    """How a step's time grows with the sessions in it."""
    table = Table("", "sessions", "p50 ms", "p99 ms", "x real time", box=box.SIMPLE_HEAD)
    rows = [("eager", row) for row in results["batch"]]
    if results["compiled"] is not None:
        rows.append((f"compiled: {results['compiled']['mode']}", results["compiled"]))
    for name, row in rows:
        times = (f"{row[key]:.0f}" for key in ("chunk_ms_p50", "chunk_ms_p99"))
        table.add_row(name, str(row["size"]), *times, f"{row['realtime_factor']:.2f}")
    return table
