"""The page of a comparison."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from .comparison import Comparison, Difference
from .report import cell, page, table
from .stats import METRICS
from .trace import write_whole


def write_comparison(path: Path, found: Comparison, a: str, b: str) -> None:
    """Write the page of B less A."""
    sections = [
        f"<h1>{escape(Path(b).name)} against {escape(Path(a).name)}</h1>",
        f"<p class=dim>{found.shared} shared rollouts, {found.same_drives} of them the same drive bit for bit. Intervals hold the mean "
        "difference on the same worlds with 95 % (paired bootstrap, 2,000 resamples); those that leave zero out are in bold.</p>",
        f"<h2>Overall</h2>{_table(found.overall)}",
        *(f"<h2>{escape(name)}</h2>{_table(rows)}" for name, rows in found.groups.items()),
    ]
    write_whole(path, page("Comparison", sections).encode())


def _table(rows: Sequence[Difference]) -> str:
    return table(["metric", "A", "B", "B - A", "95 %", "better", "worse"], [_row(row) for row in rows])


def _row(row: Difference) -> list[str]:
    mean = f"{row.difference.mean:+.3f}"
    return [
        cell(METRICS[row.metric], "text"),
        cell(f"{row.a:.3f}"),
        cell(f"{row.b:.3f}"),
        f"<td><b>{mean}</b></td>" if row.clear else cell(mean),
        cell(f"{row.difference.low:+.3f} to {row.difference.high:+.3f}"),
        cell(row.better),
        cell(row.worse),
    ]
