"""The ranking as one HTML file without scripts: a plot per tier, a table, and who swaps."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .judge import REFERENCE, shown

SIZE, MARGIN = 360, 44
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #d8dee4 }
td:first-child, th:first-child { text-align: left } figure { display: inline-block; margin: 0 1rem 1rem 0 } figcaption { max-width: 22rem }
.looks { fill: #0969da; stroke: #0969da } .told { fill: #8c959f; stroke: #8c959f } .axis { stroke: #afb8c1 } text { font-size: 11px }
"""


def write_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a benchmark's document, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(document), encoding="utf-8")


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    results, config = document["results"], document["config"]
    rows, by_metric = results["policies"], results["by_metric"]
    (metric, by_tier), *_ = by_metric.items()
    quick = "<p><b>A quick run: it shows the path and proves nothing.</b></p>" if config["quick"] else ""
    plots = "".join(
        _plot(rows, name, tier, found) for name, tiers in by_metric.items() for tier, found in tiers.items()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Ranking of policies</title>
<style>{STYLE}</style>
<h1>Does the world model rank policies as the reference does?</h1>
{quick}<p>{len(rows)} policies, each in the same {len(results["worlds"])} worlds; means with 95 % intervals over worlds.
Blue: policies that look at pictures; the correlations are theirs. Grey: policies that are told the scene, or see nothing, whose scores cannot differ.</p>
{plots}
{_table(rows, metric, tuple(by_tier))}
<h2>Swapped pairs</h2>
{"".join(_swaps(tier, found["looking"]["swaps"]) for tier, found in by_tier.items())}
<p>Commit {escape(document["commit"] or "unknown")}, model {escape(document["model_digest"][:16] or "unknown")},
{escape(str(document["hardware"]["cpu"]))}, {document["hardware"]["cores"]} cores.</p>
</html>
"""


def _plot(rows: Sequence[Mapping[str, Any]], metric: str, tier: str, found: Mapping[str, Any]) -> str:
    """Scores in the world model over those in the reference; the diagonal is agreement."""
    low, high = MARGIN, SIZE - 8
    ticks = "".join(
        f'<text x="{_x(v):.0f}" y="{SIZE - MARGIN + 16}" text-anchor="middle">{v:g}</text>'
        f'<text x="{MARGIN - 6}" y="{_y(v) + 4:.0f}" text-anchor="end">{v:g}</text>'
        for v in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    looking = found["looking"]
    caption = (
        f"{escape(metric)}, tier {escape(tier)}: Spearman {shown(looking, 'spearman')}, Kendall {shown(looking, 'kendall')} "
        f"of the {looking['count']} that look."
    )
    return f"""<figure><svg width="{SIZE}" height="{SIZE}" role="img" aria-label="{escape(metric)}, tier {escape(tier)}">
<line class="axis" x1="{low}" y1="{_y(0):.0f}" x2="{high}" y2="{_y(0):.0f}"/><line class="axis" x1="{low}" y1="{_y(0):.0f}" x2="{low}" y2="8"/>
<line class="axis" stroke-dasharray="4" x1="{_x(0):.0f}" y1="{_y(0):.0f}" x2="{_x(1):.0f}" y2="{_y(1):.0f}"/>{ticks}
{"".join(_point(row, metric, tier) for row in rows)}
<text x="{SIZE / 2:.0f}" y="{SIZE - 8}" text-anchor="middle">reference</text>
<text transform="translate(12 {SIZE / 2:.0f}) rotate(-90)" text-anchor="middle">world model, {escape(tier)}</text></svg>
<figcaption>{caption}</figcaption></figure>
"""


def _point(row: Mapping[str, Any], metric: str, tier: str) -> str:
    there, here = row[REFERENCE][metric], row[tier][metric]
    x, y = _x(there["mean"]), _y(here["mean"])
    return (
        f'<g class="{"looks" if row["looks"] else "told"}"><title>{escape(row["name"])}</title>'
        f'<line x1="{_x(there["low"]):.1f}" y1="{y:.1f}" x2="{_x(there["high"]):.1f}" y2="{y:.1f}"/>'
        f'<line x1="{x:.1f}" y1="{_y(here["low"]):.1f}" x2="{x:.1f}" y2="{_y(here["high"]):.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
    )


def _table(rows: Sequence[Mapping[str, Any]], metric: str, tiers: Sequence[str]) -> str:
    arms = (REFERENCE, *tiers)
    head = "".join(f"<th>{escape(arm)}</th>" for arm in arms)
    ordered = sorted(rows, key=lambda row: -row[REFERENCE][metric]["mean"])
    body = "".join(
        f"<tr><td>{escape(row['name'])}</td><td>{'yes' if row['looks'] else ''}</td>"
        + "".join(f"<td>{_interval(row[arm][metric])}</td>" for arm in arms)
        + "</tr>"
        for row in ordered
    )
    return f"<table><caption>{escape(metric)}</caption><tr><th>policy</th><th>looks</th>{head}</tr>{body}</table>"


def _swaps(tier: str, swaps: Sequence[Mapping[str, Any]]) -> str:
    if not swaps:
        return f"<p>Tier {escape(tier)}: none.</p>"
    rows = "".join(
        f"<tr><td>{escape(s['better'])}</td><td>{escape(s['worse'])}</td><td>{s['reference_gap']:+.3f}</td><td>{s['gap']:+.3f}</td>"
        f"<td>{'yes' if s['sure'] else 'no'}</td></tr>"
        for s in swaps
    )
    head = (
        "<tr><th>better in the reference</th><th>than</th><th>by</th><th>here</th><th>beyond chance</th></tr>"
    )
    return f"<p>Tier {escape(tier)}:</p><table>{head}{rows}</table>"


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _x(value: float) -> float:
    return MARGIN + value * (SIZE - MARGIN - 12)


def _y(value: float) -> float:
    return SIZE - MARGIN - value * (SIZE - MARGIN - 12)
