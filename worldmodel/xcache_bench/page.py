"""The results as one HTML page that needs nothing else: frontier, curves, heat maps, tables."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .svg import Points, curves, heat, legend, scatter
from .table import COLUMNS, overall

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1360px; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em } h2 { font-size: 1.15em; margin-top: 2em } h3 { font-size: 1em; margin: 1em 0 .2em }
svg { font: 10px system-ui, sans-serif; margin: 0 12px 12px 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5em 0 }
td, th { padding: 2px 8px; text-align: right; border-bottom: 1px solid #eee } td:first-child, th:first-child { text-align: left }
.legend span { margin-right: 14px; white-space: nowrap } .legend i { display: inline-block; width: 10px; height: 10px; margin-right: 4px }
.maps { display: flex; flex-wrap: wrap } figure { margin: 0 16px 8px 0 } figcaption { font-size: 12px; color: #555 }
"""
FRONTIERS = {
    "true_cost_db": "true cost [dB]",
    "psnr_full": "PSNR to full compute [dB]",
    "motion_energy_ratio": "motion energy ratio",
    "speed_error": "speed error",
}
CURVES = {
    "psnr_full": "PSNR to full compute [dB]",
    "psnr_reference": "PSNR to the truth [dB]",
    "skip": "skipped",
}
HEATS = {"skip": "skipped", "cosine": "smallest cosine", "error": "error of checked skips"}


def write_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a benchmark's document, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(document), encoding="utf-8")


def page(document: Mapping[str, Any]) -> str:
    """The page as text."""
    results, config = document["results"], document["config"]
    title = f"X-Cache: {config['model']}, {config['weights']} weights"
    protocols = list(dict.fromkeys(row["protocol"] for row in results["methods"]))
    parts = [_facts(document), *(_protocol(results, protocol) for protocol in protocols), _heats(results)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"/><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def _facts(document: Mapping[str, Any]) -> str:
    """What was measured, and on what."""
    hardware, config = document["hardware"], document["config"]
    facts = {
        "hardware": ", ".join(f"{name} {value}" for name, value in hardware.items()),
        "commit": document["commit"],
        "model digest": document["model_digest"],
        **{name: str(value) for name, value in config.items()},
    }
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<details><summary>What was measured</summary><table>{rows}</table></details>"


def _protocol(results: Mapping[str, Any], protocol: str) -> str:
    rows = [row for row in results["methods"] if row["protocol"] == protocol]
    points = [point for point in results["per_chunk"] if point["protocol"] == protocol]
    names = list(dict.fromkeys(row["name"] for row in rows))
    means = overall(rows)
    frontier = "".join(
        scatter({name: _pairs(means, name, key) for name in names}, "speed-up of the DiT", label)
        for key, label in FRONTIERS.items()
    )
    lines = "".join(
        curves({name: _curve(points, name, key) for name in names}, "chunk", label)
        for key, label in CURVES.items()
    )
    groups = dict.fromkeys(row["group"] for row in rows)
    tables = "".join(
        f"<h3>{escape(group)}</h3>{_table([row for row in rows if row['group'] == group])}"
        for group in groups
    )
    return (
        f"<h2>{escape(protocol)}: frontier</h2><p>A mark per contestant, means over the groups; @2 and @1 are fewer steps.</p>{legend(names)}{frontier}"
        f"<h2>{escape(protocol)}: by chunk</h2><p>Means over the scenarios.</p>{legend(names)}{lines}"
        f"<h2>{escape(protocol)}: tables</h2><h3>mean over the groups</h3>{_table(means)}{tables}"
    )


def _pairs(rows: Sequence[Mapping[str, Any]], name: str, key: str) -> Points:
    return [(row["speedup_dit"], row[key]) for row in rows if row["name"] == name]


def _curve(points: Sequence[Mapping[str, Any]], name: str, key: str) -> Points:
    """The mean over scenarios at every chunk."""
    by_chunk: dict[int, list[float]] = {}
    for point in points:
        if point["name"] == name:
            by_chunk.setdefault(point["chunk"], []).append(point[key])
    return [(chunk, sum(values) / len(values)) for chunk, values in sorted(by_chunk.items())]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for label in ("", *COLUMNS.values()))
    body = "".join(
        f'<tr><td title="{escape(row["about"])}">{escape(row["name"])}</td>'
        + "".join(f"<td>{row[key]:.2f}</td>" for key in COLUMNS)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _heats(results: Mapping[str, Any]) -> str:
    """Maps of (step, block) of every contestant and group that has them."""
    figures = []
    for name, groups in results["evidence"].items():
        maps = "".join(
            f"<figure><figcaption>{escape(group)}: {label}</figcaption>{heat(seen[key], 'block', 'step')}</figure>"
            for group, seen in groups.items()
            for key, label in HEATS.items()
            if any(value is not None for row in seen[key] for value in row)
        )
        figures.append(f'<details><summary>{escape(name)}</summary><div class="maps">{maps}</div></details>')
    return (
        f"<h2>By step and block</h2><p>Darker is more. Point at a cell for its number.</p>{''.join(figures)}"
    )
