"""Results as tables for a terminal. No PSNR without motion beside it."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from .gates import Gate

COLUMNS = {
    "psnr": "dB",
    "ssim": "SSIM",
    "tokenizer_psnr": "ceiling dB",
    "copy_last_frame_psnr": "copy dB",
    "bare_warp_psnr": "warp dB",
    "motion_energy_ratio": "motion",
    "border_motion_ratio": "border",
    "speed_error": "speed",
    "yaw_rate_error": "yaw",
    "cross_view_error_ratio": "views",
    "latent_std_ratio": "spread",
    "agents_present": "agents",
}
# What a terminal of 80 columns has room for, under short names; the page shows all.
NARROW = {"psnr": "dB", "ssim": "SSIM", "tokenizer_psnr": "ceil", "copy_last_frame_psnr": "copy"} | {
    "bare_warp_psnr": "warp",
    "motion_energy_ratio": "move",
    "speed_error": "speed",
    "yaw_rate_error": "yaw",
    "cross_view_error_ratio": "views",
    "agents_present": "seen",
}


def gate_table(claims: Sequence[Gate], title: str) -> Table:
    """Every gate, and whether it holds."""
    table = Table("gate", "measured", "wanted", "", title=title, box=box.SIMPLE_HEAD)
    for gate in claims:
        verdict = "not measured" if gate.holds is None else "holds" if gate.holds else "[red]fails[/red]"
        table.add_row(escape(gate.name), shown(gate.value), gate.wanted, verdict)
    return table


def horizon_table(results: dict[str, Any]) -> Table:
    """Every horizon with and without layout, step counts and cache tiers."""
    table = Table("", *NARROW.values(), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title, rows in sections(results).items():
        table.add_section()
        table.add_row(f"[bold]{title}")
        for name, row in rows.items():
            table.add_row(name, *(shown(row.get(key)) for key in NARROW))
    return table


def sections(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows under their titles."""
    found = {
        "layout on": {_after(h): row for h, row in results["horizons"].items()},
        "layout off": {_after(h): row for h, row in results["layout_off"]["horizons"].items()},
        "steps": results["steps"],
        "tiers": results["tiers"],
    }
    kept = {title: {n: row for n, row in rows.items() if row is not None} for title, rows in found.items()}
    return {title: rows for title, rows in kept.items() if rows}


def shown(value: float | None) -> str:
    """A number in a table; a dash for what was not measured."""
    return "-" if value is None else f"{value:.2f}"


def _after(horizon: str) -> str:
    return "one chunk" if horizon == "chunk" else f"{horizon} s"
