"""Small pictures as inline SVG: points, curves and heat maps. No library, no script, nothing to load."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite, log10

Points = Sequence[tuple[float, float]]

COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"),
    *("#17becf", "#393b79", "#637939", "#8c6d31", "#843c39", "#7b4173"),
)
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 280, 48, 36, 12
CELL = 22
TICKS = 5


def colour(index: int) -> str:
    """The colour of a series."""
    return COLOURS[index % len(COLOURS)]


def scatter(series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """Points of named series; each tells its name and numbers when pointed at."""

    def draw(place: Callable[[float, float], tuple[float, float]]) -> list[str]:
        return [
            f'<circle cx="{place(x, y)[0]:.1f}" cy="{place(x, y)[1]:.1f}" r="4" fill="{colour(i)}" fill-opacity="0.8">'
            f"<title>{escape(name)}: {x:.2f}, {y:.2f}</title></circle>"
            for i, (name, points) in enumerate(series.items())
            for x, y in points
        ]

    return _chart(series, x_label, y_label, draw)


def curves(series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """Named lines."""

    def draw(place: Callable[[float, float], tuple[float, float]]) -> list[str]:
        lines = []
        for i, (name, points) in enumerate(series.items()):
            path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
            lines.append(
                f'<polyline points="{path}" fill="none" stroke="{colour(i)}" stroke-width="1.5">'
                f"<title>{escape(name)}</title></polyline>"
            )
        return lines

    return _chart(series, x_label, y_label, draw)


def heat(values: Sequence[Sequence[float | None]], x_label: str, y_label: str) -> str:
    """A matrix of shares 0..1 as cells, first row on top; empty where there is no number."""
    rows, columns = len(values), len(values[0])
    cells = []
    for r, row in enumerate(values):
        for c, value in enumerate(row):
            shade = "#eee" if value is None else f"hsl(210 70% {95 - 65 * min(max(value, 0), 1):.0f}%)"
            told = "nothing" if value is None else f"{value:.3f}"
            cells.append(
                f'<rect x="{LEFT + c * CELL}" y="{TOP + r * CELL}" width="{CELL - 1}" height="{CELL - 1}" fill="{shade}">'
                f"<title>{escape(y_label)} {r}, {escape(x_label)} {c}: {told}</title></rect>"
            )
    bottom = TOP + rows * CELL
    labels = [
        *(_text(LEFT + (c + 0.5) * CELL, bottom + 12, str(c)) for c in range(columns)),
        *(_text(LEFT - 10, TOP + (r + 0.65) * CELL, str(r)) for r in range(rows)),
        _text(LEFT + columns * CELL / 2, bottom + 26, x_label),
        _text(14, TOP + rows * CELL / 2, y_label),
    ]
    return _svg(LEFT + columns * CELL + 8, bottom + 32, [*cells, *labels])


def legend(names: Sequence[str]) -> str:
    """Names beside their colours, as HTML."""
    entries = (
        f'<span><i style="background:{colour(i)}"></i>{escape(name)}</span>' for i, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(entries)}</p>'


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    raw = (high - low) / TICKS
    power = 10.0 ** floor(log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = ceil(low / step)
    return [k * step for k in range(first, floor(high / step + 1e-9) + 1)]


def _chart(
    series: Mapping[str, Points],
    x_label: str,
    y_label: str,
    draw: Callable[[Callable[[float, float], tuple[float, float]]], list[str]],
) -> str:
    """Axes around whatever `draw` makes of the function from numbers to places."""
    points = [point for one in series.values() for point in one if all(isfinite(value) for value in point)]
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points])
    wide, high = WIDTH - LEFT - 8, HEIGHT - BOTTOM - TOP

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x_low) / (x_high - x_low) * wide,
            TOP + (y_high - y) / (y_high - y_low) * high,
        )

    axes = []
    for x in ticks(x_low, x_high):
        at, _ = place(x, y_low)
        axes += [_line(at, TOP, at, TOP + high), _text(at, TOP + high + 13, f"{x:g}")]
    for y in ticks(y_low, y_high):
        _, at = place(x_low, y)
        axes += [_line(LEFT, at, LEFT + wide, at), _text(LEFT - 4, at + 3, f"{y:g}", "end")]
    names = [
        _text(LEFT + wide / 2, HEIGHT - 6, x_label),
        f'<text transform="translate(11 {TOP + high / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    return _svg(WIDTH, HEIGHT, [*axes, *draw(place), *names])


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img">'
        + "".join(parts)
        + "</svg>"
    )
