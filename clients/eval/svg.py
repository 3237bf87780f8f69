"""Small plots as inline SVG: no script, no library, the colours from the page's style sheet."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

import numpy as np

from .stats import Interval

WIDTH, ROW, LABEL, PAD = 960, 26, 190, 8


def intervals(rows: Mapping[str, Interval]) -> str:
    """A forest plot: one line per metric from 0 to 1, the mean as a dot, the interval as a bar."""
    span = WIDTH - LABEL - 170
    height = ROW * len(rows) + 24
    parts = [_axis(LABEL, span, height - 20)]
    for k, (name, value) in enumerate(rows.items()):
        y = ROW * k + ROW / 2
        low, high, mean = (
            LABEL + span * float(np.clip(v, 0, 1)) for v in (value.low, value.high, value.mean)
        )
        parts += [
            f'<text class="label" x="{LABEL - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>',
            f'<line class="bar" x1="{low:.1f}" x2="{max(high, low + 1):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="dot" cx="{mean:.1f}" cy="{y}" r="5"/>',
            f'<text class="value" x="{LABEL + span + 16}" y="{y + 4}">{value.mean:.2f}'
            f'<tspan class="dim"> {value.low:.2f} to {value.high:.2f}</tspan></text>',
        ]
    return _svg(WIDTH, height, parts)


def strips(rows: Mapping[str, Sequence[float]]) -> str:
    """One strip per name with a dot per value from 0 to 1; dots that would cover each other are stacked."""
    span = WIDTH - LABEL - 70
    height = ROW * len(rows) + 24
    parts = [_axis(LABEL, span, height - 20)]
    for k, (name, values) in enumerate(rows.items()):
        y = ROW * k + ROW / 2
        parts.append(
            f'<text class="label" x="{LABEL - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        )
        if not len(values):
            continue
        seen: dict[int, int] = {}
        for value in sorted(values):
            place = round(float(np.clip(value, 0, 1)) * span / 7)
            level = seen[place] = seen.get(place, -1) + 1
            parts.append(f'<circle class="point" cx="{LABEL + place * 7}" cy="{y - 4 * level}" r="3.5"/>')
        mean = float(np.mean(values))
        x = LABEL + span * mean
        parts.append(f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9}" y2="{y + 9}"/>')
        parts.append(f'<text class="value" x="{LABEL + span + 16}" y="{y + 4}">{mean:.2f}</text>')
    return _svg(WIDTH, height, parts)


def lines(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x_label: str,
    y_label: str,
    mark_x: float | None = None,
) -> str:
    """Curves over one axis, each named at the side; `mark_x` draws a dashed line."""
    width, height, left, bottom = 720, 180, 44, 30
    right, top = width - 110, 10
    xs, ys = (np.concatenate([pair[k] for pair in series.values()]) for k in (0, 1))
    x_end, y_end = max(float(xs.max()), 1e-9), _round_up(max(float(ys.max()), 1.0))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / x_end, height - bottom - (height - bottom - top) * max(
            y, 0.0
        ) / y_end

    parts = [
        f'<line class="axis" x1="{left}" x2="{right}" y1="{height - bottom}" y2="{height - bottom}"/>',
        f'<text class="tick" x="{right}" y="{height - bottom + 16}" text-anchor="end">{x_end:.0f} {escape(x_label)}</text>',
        f'<text class="tick" x="{left}" y="{height - bottom + 16}">0</text>',
        f'<text class="tick" x="{left - 6}" y="{top + 8}" text-anchor="end">{y_end:.0f}</text>',
        f'<text class="tick" x="{left + 4}" y="{top + 8}">{escape(y_label)}</text>',
    ]
    if mark_x is not None:
        x, _ = at(mark_x, 0)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}"/>')
    for k, (name, (x_values, y_values)) in enumerate(series.items()):
        points = " ".join(
            f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in zip(x_values, y_values, strict=True))
        )
        parts.append(f'<polyline class="curve c{k % 6}" points="{points}"/>')
        y = top + 12 + 18 * k
        parts.append(
            f'<line class="curve c{k % 6}" x1="{right + 10}" x2="{right + 26}" y1="{y - 4}" y2="{y - 4}"/>'
        )
        parts.append(f'<text class="value" x="{right + 32}" y="{y}">{escape(name)}</text>')
    return _svg(width, height, parts)


def path(xy: np.ndarray, bad: np.ndarray, size: int = 56) -> str:
    """A drive from above, uint [N, 2] metres, start as a ring; frames where something was wrong are marked."""
    low = xy.min(axis=0)
    extent = max(float((xy.max(axis=0) - low).max()), 1.0)
    scale = (size - 2 * PAD) / extent
    drawn = (xy - low) * scale + (size - (xy.max(axis=0) - low) * scale) / 2
    drawn[:, 1] = size - drawn[:, 1]
    step = max(1, len(drawn) // 60)
    kept = np.unique(np.append(np.arange(0, len(drawn), step), len(drawn) - 1))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn[kept])
    parts = [f'<polyline class="curve c0" points="{points}"/>']
    x, y = drawn[0]
    parts.append(f'<circle class="start" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    for index in _first_of_each(bad):
        x, y = drawn[index]
        parts.append(f'<circle class="bad" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    return _svg(size, size, parts)


def _first_of_each(flags: np.ndarray) -> list[int]:
    """The first frame of every stretch in which something holds."""
    starts = [k + 1 for k, (a, b) in enumerate(pairwise(flags.tolist())) if b and not a]
    return ([0] if len(flags) and flags[0] else []) + starts


def _axis(left: float, span: float, bottom: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + span * share
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 15}" text-anchor="middle">{share:g}</text>')
    return "".join(parts)


def _round_up(value: float) -> float:
    step = 10.0 ** np.floor(np.log10(value))
    return float(np.ceil(value / step) * step)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'
