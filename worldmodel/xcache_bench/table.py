"""Results put together: means per method and group, and the frontier as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .frontier import base_name

LABELS = ("name", "tier", "group", "protocol", "scenario", "steps", "about")
HIGHEST = ("chunk_ms_p99", "cache_mb")
TOTAL = ("chunks",)
COLUMNS = {
    "skip": "skip",
    "speedup_denoise": "denoise x",
    "speedup_dit": "DiT x",
    "speedup_chunk": "chunk x",
    "speedup_implied": "implied x",
    "reached": "reached",
    "gate_overhead": "gate",
    "psnr_full": "full dB",
    "true_cost_db": "cost dB",
    "speed_error": "speed",
    "yaw_rate_error": "yaw",
    "motion_energy_ratio": "motion",
}
PANELS = {
    "true_cost_db": "true cost [dB]",
    "psnr_full": "PSNR to full compute [dB], at most 60",
    "motion_energy_ratio": "motion energy ratio",
}
HIGHEST_DB = 60.0  # drawn: full compute has 100 to itself
MARKERS = {4: "o", 2: "s", 1: "^", 8: "D"}  # by denoising steps


def averages(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per contestant, protocol and group from rows per scenario: means, but the largest p99 and size and all chunks."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["protocol"], row["group"]), []).append(row)
    return [_merged(members) for members in groups.values()]


def overall(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per contestant and protocol from rows per group: means over the groups."""
    everything = [{**row, "group": "all"} for row in rows]
    return averages(everything)


def _merged(members: list[dict[str, Any]]) -> dict[str, Any]:
    merged = {name: members[0][name] for name in LABELS if name in members[0] and name != "scenario"}
    for name in members[0]:
        if name not in LABELS:
            values = [member[name] for member in members]
            whole = sum(values)
            merged[name] = max(values) if name in HIGHEST else whole if name in TOTAL else whole / len(values)
    return merged


def pareto(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Speed-up of the network against true cost, likeness to full compute and motion, means over the groups.

    A colour per method, a mark per number of steps; those of one method are joined by a line.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods: dict[str, list[dict[str, Any]]] = {}
    for row in overall(rows):
        methods.setdefault(base_name(row), []).append(row)
    colours = pyplot.get_cmap("tab20").colors  # type: ignore[attr-defined]
    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(16, 5), layout="constrained")
    for panel, (key, label) in zip(panels, PANELS.items(), strict=True):
        for index, (name, members) in enumerate(methods.items()):
            colour = colours[index % len(colours)]
            speeds = [row["speedup_dit"] for row in members]
            values = [min(row[key], HIGHEST_DB) if key == "psnr_full" else row[key] for row in members]
            panel.plot(speeds, values, color=colour, linewidth=0.8, alpha=0.5, label=name)
            for row, speed, value in zip(members, speeds, values, strict=True):
                panel.scatter(speed, value, color=colour, marker=MARKERS.get(row["steps"], "v"))
        panel.set(xlabel="DiT speed-up", ylabel=label)
        panel.grid(alpha=0.3)
    for steps in sorted({row["steps"] for row in rows}, reverse=True):
        mark = MARKERS.get(steps, "v")
        panels[-1].scatter([], [], color="grey", marker=mark, label=f"{steps} steps")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def terminal_table(rows: Sequence[Mapping[str, Any]], title: str) -> Any:
    """The rows as a rich table, by group."""
    from rich import box
    from rich.table import Table

    table = Table("", *COLUMNS.values(), title=title, box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)
    for group in dict.fromkeys(row["group"] for row in rows):
        table.add_section()
        table.add_row(group, style="bold")
        for row in rows:
            if row["group"] == group:
                table.add_row(row["name"], *(f"{row[key]:.2f}" for key in COLUMNS))
    return table
