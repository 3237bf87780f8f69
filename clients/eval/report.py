"""One self-contained HTML page of a run: means with intervals, groups, scenarios, branches, rollouts, failures, and what was run."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from . import svg
from .results import Result, RunFolder
from .stats import METRICS, Interval, by, means, scored, values_of
from .trace import NOBODY, Trace, TraceError, write_whole

SHORT = {
    "driving_score": "DS",
    "pdms": "PDMS",
    "success": "success",
    "route_completion": "route",
    "no_collision": "NC",
    "drivable_area": "DAC",
    "time_to_collision": "TTC",
    "ego_progress": "EP",
    "comfort": "C",
}
NOTES = """Intervals hold the mean with 95 % (percentile bootstrap over rollouts, 2,000 resamples). PDM score = NC · DAC · (5 TTC + 5 EP + 2 C) / 12.
Driving score = route completion · (1 - share of the distance off the road or against the traffic) · infraction penalty. NC: no collision at fault. DAC: never off the
road. TTC: never within 1 s of a collision. EP: progress over that of {progress}. C: within nuPlan's comfort bounds throughout. Rollouts without scores are listed
apart and count nowhere."""


def write_report(folder: RunFolder, results: Sequence[Result], path: Path | None = None) -> Path:
    """Write the page; by default `report.html` in the folder. Returns its path."""
    path = path or folder.path / "report.html"
    write_whole(path, report(folder, results).encode())
    return path


def report(folder: RunFolder, results: Sequence[Result]) -> str:
    """The page."""
    about, traces = folder.about(), _traces(folder, results)
    done = scored(results)
    title = f"{about['suite']['name']} · {about['policy']['name']}"
    sections = [
        _head(title, about, results),
        *([_overall(done)] if done else []),
        *([_groups(done)] if done else []),
        *([_branches(done, traces)] if any(result.branch for result in done) else []),
        *([_rollouts(folder, done, traces)] if done else []),
        _failures([result for result in results if result.scores is None]),
        _timing(done),
        _provenance(about, done),
    ]
    return page(title, sections)


def page(title: str, sections: Iterable[str]) -> str:
    """A whole HTML document with the style sheet inside."""
    style = (resources.files(__package__) / "report.css").read_text(encoding="utf-8")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f"<!doctype html><html lang='en'><head>{head}<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Rows of finished cells (`cell`) under column names; the first columns are text."""
    names = "".join(
        f"<th{' class=text' if k < text_columns else ''}>{escape(n)}</th>" for k, n in enumerate(head)
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"


def cell(text: object, kind: str = "") -> str:
    """One cell of plain text."""
    return f"<td{f' class={kind}' if kind else ''}>{escape(str(text))}</td>"


def mean_cell(value: Interval) -> str:
    """A mean with its interval, shaded by the mean."""
    return (
        f'<td class=shade style="--v:{np.clip(value.mean, 0, 1):.2f}">{value.mean:.2f}'
        f"<small>{value.low:.2f}-{value.high:.2f}</small></td>"
    )


def _head(title: str, about: dict[str, Any], results: Sequence[Result]) -> str:
    suite, server, done = about["suite"], about["server"], scored(results)
    failed = [result for result in results if result.status.endswith("failed")]
    means_of = means(results)
    tiles = [
        (f"{means_of[name].mean:.2f}", METRICS[name])
        for name in ("driving_score", "pdms", "success")
        if means_of
    ]
    hours = sum((result.scores or {})["duration_s"] for result in done)
    tiles += [
        (str(len(done)), "rollouts with scores"),
        (str(len(failed)), "failed"),
        (f"{hours / 60:.1f} min", "driven"),
    ]
    words = (
        suite.get("title"),
        f"{server['engine']} engine",
        f"model {server['model']}",
        server["determinism"],
    )
    boxes = "".join(
        f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in tiles
    )
    return f"<h1>{escape(title)}</h1><p class=dim>{escape(' · '.join(filter(None, words)))}</p><div class=tiles>{boxes}</div>"


def _overall(done: Sequence[Result]) -> str:
    rows = {METRICS[name]: value for name, value in means(done).items()}
    return f"<h2>Overall</h2>{svg.intervals(rows)}"


def _groups(done: Sequence[Result]) -> str:
    head = ["group", "rollouts", *(SHORT[name] for name in METRICS)]
    rows = [
        [cell(name, "text"), cell(len(group)), *(mean_cell(value) for value in means(group).values())]
        for name, group in by(done, "group").items()
    ]
    strips = {
        name: values_of(rows_, "driving_score").tolist() for name, rows_ in by(done, "scenario").items()
    }
    return (
        f"<h2>Groups</h2>{table(head, rows)}<h2>Scenarios</h2>"
        f"<p class=dim>Driving score of every rollout; the bar is the mean.</p>{svg.strips(strips)}"
    )


def _branches(done: Sequence[Result], traces: dict[str, Trace]) -> str:
    """Worlds that were driven in several ways from one moment on."""
    parts = ["<h2>What would have happened</h2>"]
    overall = {name: rows for name, rows in by(done, "branch").items() if name}
    head = ["branch", "rollouts", *(SHORT[name] for name in METRICS)]
    parts.append(
        table(
            head,
            [
                [cell(n, "text"), cell(len(r)), *(mean_cell(v) for v in means(r).values())]
                for n, r in overall.items()
            ],
        )
    )
    for world, rows in by([result for result in done if result.branch], "world").items():
        drawn = {r.branch: traces[r.key] for r in rows if r.key in traces}
        if not drawn:
            continue
        first = next(iter(drawn.values()))
        mark = first.about["decided_at_chunk"] * first.about["frames_per_chunk"] * first.dt_s
        series = {n: (np.arange(len(t.ego)) * t.dt_s, t.ego_column("speed_mps")) for n, t in drawn.items()}
        parts.append(f"<h3>{escape(world)}</h3>{svg.lines(series, 's', 'speed [m/s]', mark)}")
        parts.append(
            table(
                ["branch", "ended", "DS", "PDMS", "contacts at fault", "least TTC [s]", "distance [m]"],
                [_branch_row(result) for result in rows],
            )
        )
    return "".join(parts)


def _branch_row(result: Result) -> list[str]:
    scores = result.scores or {}
    least = scores["min_ttc_s"]
    return [
        cell(result.branch, "text"),
        cell(_ended(result)),
        cell(f"{scores['driving_score']:.2f}"),
        cell(f"{scores['pdms']:.2f}"),
        cell(scores["contacts_at_fault"]),
        cell("never" if least is None else f"{least:.1f}"),
        cell(f"{scores['distance_m']:.0f}"),
    ]


def _rollouts(folder: RunFolder, done: Sequence[Result], traces: dict[str, Trace]) -> str:
    far = any((result.scores or {}).get("ade_m") is not None for result in done)
    head = ["rollout", "", "ended", *SHORT.values(), "km/h", *(["ADE [m]"] if far else []), ""]
    rows = []
    for result in done:
        scores, trace = result.scores or {}, traces.get(result.key)
        links = [
            f'<a href="{escape(str(file.relative_to(folder.path)))}">{name}</a>'
            for name, file in (("video", folder.video_path(result.key)), ("log", folder.log_path(result.key)))
            if file.exists()
        ]
        drawn = "" if trace is None else svg.path(trace.ego[:, :2].copy(), _wrong(trace))
        values = [cell(f"{float(scores[name]):.2f}") for name in SHORT]
        rows.append(
            [
                f"<td class=text>{escape(result.scenario)}<small>{escape(result.branch)} seed {result.seed}</small></td>",
                f"<td>{drawn}</td>",
                cell(_ended(result)),
                *values,
                cell(f"{scores['mean_speed_mps'] * 3.6:.0f}"),
                *([cell(f"{scores['ade_m']:.1f}")] if far else []),
                f"<td>{' '.join(links)}</td>",
            ]
        )
    return (
        "<h2>Rollouts</h2><p class=dim>The drive from above: the ring is the start, red dots are contacts, red lights and "
        f"wheels off the road.</p>{table(head, rows)}"
    )


def _failures(rest: Sequence[Result]) -> str:
    if not rest:
        return ""
    names = {
        "policy_failed": "policy failed",
        "infrastructure_failed": "infrastructure failed",
        "not_reached": "decision not reached",
    }
    rows = [
        [cell(r.key, "text"), cell(names[r.status], "text"), cell(r.attempts), cell(r.error, "long")]
        for r in rest
    ]
    return f"<h2>Without scores</h2>{table(['rollout', 'why', 'attempts', 'what was said'], rows, 2)}"


def _timing(done: Sequence[Result]) -> str:
    names = {"policy_ms": "policy", "step_ms": "server, from request to reply"}
    rows = [
        [
            cell(label, "text"),
            *(cell(f"{np.median([r.timing[f'{name}_{p}'] for r in timed]):.1f}") for p in ("p50", "p95")),
        ]
        for name, label in names.items()
        if (timed := [r for r in done if f"{name}_p50" in r.timing])
    ]
    return (
        f"<h2>Time per chunk</h2>{table(['[ms], median over rollouts', 'p50', 'p95'], rows)}" if rows else ""
    )


def _provenance(about: dict[str, Any], done: Sequence[Result]) -> str:
    reference = any((result.scores or {}).get("ade_m") is not None for result in done)
    progress = "the reference drive" if reference else "a free drive on an empty road with green lights"
    text = escape(
        json.dumps({key: about[key] for key in ("policy", "server", "settings", "suite")}, indent=1)
    )
    return (
        f"<h2>How to read this</h2><p>{escape(NOTES.format(progress=progress))}</p>"
        f"<details><summary>What was run</summary><pre>{text}</pre></details>"
    )


def _ended(result: Result) -> str:
    if result.outcome == "running":
        return "cut"
    return result.outcome if result.reason in ("goal", "time_limit") else f"{result.outcome}: {result.reason}"


def _wrong(trace: Trace) -> np.ndarray:
    """Frames with a contact, a red light, or a wheel off the road: bool [N]."""
    return np.asarray(
        (trace.collision_with != NOBODY) | trace.frames["red_light"] | trace.frames["off_road"], bool
    )


def _traces(folder: RunFolder, results: Iterable[Result]) -> dict[str, Trace]:
    """Those that can be read: a report is still a report without them."""
    found = {}
    for result in scored(results):
        try:
            found[result.key] = folder.trace(result.key)
        except TraceError:
            continue
    return found
