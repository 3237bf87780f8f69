"""`roadloop bench xcache`: what the block cache saves and what it costs, beside full compute and the baselines."""

from pathlib import Path
from typing import Annotated, Any

import typer

CHUNKS, QUICK_CHUNKS = 24, 5
QUICK_GROUPS = ("urban_street", "highway")
MOTION_CHUNKS, QUICK_MOTION_CHUNKS = 8, 1
COLUMNS = {
    "skip": "skip",
    "speedup_dit": "DiT x",
    "speedup_chunk": "chunk x",
    "psnr_full": "full dB",
    "true_cost_db": "cost dB",
    "speed_error": "speed",
    "yaw_rate_error": "yaw",
    "motion_energy_ratio": "motion",
    "gate_overhead": "gate",
}


def bench_xcache(
    quick: Annotated[bool, typer.Option("--quick", help="Few chunks, scenes and methods.")] = False,
    model: Annotated[str, typer.Option(help="Model preset, or a checkpoint file.")] = "S",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Of a preset: speed only.")
    ] = False,
    cycle: Annotated[
        int | None, typer.Option(help="Chunks per KV cycle; the model's own if not given.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own if not given.")] = None,
    methods: Annotated[str, typer.Option(help="Names, separated by commas; full compute always runs.")] = "",
    groups: Annotated[str, typer.Option(help="Scenario groups, separated by commas.")] = "",
    chunks: Annotated[int | None, typer.Option(min=1, help="Chunks of every drive.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    png_file: Annotated[Path | None, typer.Option("--png", help="Where to draw the frontier.")] = None,
) -> None:
    """Race the tiers and the baselines over held-out scenes, free-running: each on its own state."""
    from rich.console import Console

    from ..benchmarking import HELD_OUT_SEED, envelope, write_json
    from ..diffusion.engine import fast_dtype
    from ..xcache_bench import GROUPS, METHODS, QUICK_METHODS, pareto

    chosen = _chosen(methods, METHODS, QUICK_METHODS if quick else tuple(METHODS), "methods")
    wanted = _chosen(groups, GROUPS, QUICK_GROUPS if quick else tuple(GROUPS), "groups")
    world_model = open_model(model, random_weights, cycle)
    scenarios = {group: GROUPS[group][: 1 if quick else None] for group in wanted}
    config = {
        "model": world_model.config.name,
        "weights": "random" if world_model.digest == "random" else "trained",
        "cycle": world_model.config.cycle,
        "steps": steps or world_model.config.steps,
        "quick": quick,
        "device": device,
        "chunks": chunks or (QUICK_CHUNKS if quick else CHUNKS),
        "seed": HELD_OUT_SEED,
        "scenarios": scenarios,
        "scenarios_chosen_on": [],  # the tiers' numbers are set by hand, not fitted
    }
    title = "roadloop bench xcache: {model}, {weights} weights, {steps} steps, KV cycle {cycle}".format_map(
        config
    )
    results = measure(world_model, ("exact", *(n for n in chosen if n != "exact")), config)
    if png_file is not None:
        pareto(results["methods"], title, png_file)
    results["pareto_png"] = None if png_file is None else str(png_file)
    Console().print(_table(results["methods"], title))
    if json_file is not None:
        import torch

        dtype = str(fast_dtype(torch.device(device))).removeprefix("torch.")
        write_json(envelope(results, config, world_model.digest, dtype), json_file)


def open_model(name: str, random_weights: bool, cycle: int | None) -> Any:
    """The model to measure; `cycle` stands in for its own."""
    from dataclasses import replace

    from ..model.config import load_model_config
    from ..model.world_model import load_world_model, random_world_model

    model = random_world_model(load_model_config(name)) if random_weights else load_world_model(name)
    return model if cycle is None else replace(model, config=replace(model.config, cycle=cycle))


def measure(model: Any, names: tuple[str, ...], config: dict[str, Any]) -> dict[str, Any]:
    """Race the methods over every scenario: `methods` and `per_chunk`."""
    from ..rig import load_rig
    from ..xcache_bench import METHODS, averages, race, record, score

    preset, device = model.config, config["device"]
    rig = load_rig(preset.rig)
    rig = (rig.subset(preset.cameras) if preset.cameras else rig).scaled(preset.height, preset.width)
    contestants = [METHODS[name] for name in names]
    rows, per_chunk = [], []
    for group, scenarios in config["scenarios"].items():
        for scenario in scenarios:
            drive = record(group, scenario, rig, config["chunks"], device)
            runs = race(model, contestants, drive, device, preset.rig, config["steps"])
            for method in contestants:
                label = {"name": method.name, "tier": method.tier, "group": group, "protocol": "free-running"}
                pairs = QUICK_MOTION_CHUNKS if config["quick"] else MOTION_CHUNKS
                row, curve = score(runs[method.name], runs["exact"], drive, pairs)
                rows.append({**label, "scenario": scenario, **row})
                per_chunk += [{**label, "scenario": scenario, **point} for point in curve]
    return {"methods": averages(rows), "scenarios": rows, "per_chunk": per_chunk}


def _chosen(text: str, valid: Any, default: tuple[str, ...], what: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip()) or default
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise typer.BadParameter(f"expected {what} of {', '.join(valid)}, got {unknown[0]!r}")
    return names


def _table(rows: list[dict[str, Any]], title: str) -> Any:
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
