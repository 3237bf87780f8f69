"""`roadloop bench xcache`: what the block cache saves and what it costs, beside full compute and the baselines."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

CHUNKS = {"race": 8, "ablation": 12, "tune": 8}  # of every drive
QUICK_CHUNKS = 5
SCENARIOS = 1  # of every group
SECONDS_BETWEEN = 10.0  # two words about progress
TABLE_WIDTH = 140  # where the output is no terminal
QUICK_GROUPS, ABLATION_GROUPS = ("urban_street", "highway"), ("urban_street", "turning")
STEPS = (4, 2, 1)
OURS = ("exact", "safe", "balanced", "fast")
FRONTIER = ("safe", "balanced", "fast", "always")  # raced at the other step counts too


def bench_xcache(
    quick: Annotated[bool, typer.Option("--quick", help="Few chunks, scenes and methods.")] = False,
    ablation: Annotated[bool, typer.Option("--ablation", help="The method with one piece changed.")] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Sweep thresholds on scenarios that are not reported.")
    ] = False,
    model: Annotated[str, typer.Option(help="Model preset, or a checkpoint file.")] = "S",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Of a preset: speed only.")
    ] = False,
    cycle: Annotated[
        int | None, typer.Option(help="Chunks per KV cycle; the model's own if not given.")
    ] = None,
    steps: Annotated[
        str, typer.Option(help="Denoising steps; the first is what everything is held against.")
    ] = "",
    methods: Annotated[str, typer.Option(help="Names, separated by commas; full compute always runs.")] = "",
    groups: Annotated[str, typer.Option(help="Scenario groups, separated by commas.")] = "",
    protocols: Annotated[str, typer.Option(help="free-running, context-synchronised, or both.")] = "",
    chunks: Annotated[int | None, typer.Option(min=1, help="Chunks of every drive.")] = None,
    scenarios: Annotated[int, typer.Option(min=1, help="Scenarios of every group, at most.")] = SCENARIOS,
    compile: Annotated[str, typer.Option(help="Mode of torch.compile; empty runs eagerly.")] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Where to write a page of them.")] = None,
    png_file: Annotated[Path | None, typer.Option("--png", help="Where to draw the frontier.")] = None,
) -> None:
    """Race the tiers and the baselines over held-out scenes; ablate the method; or choose the tiers' numbers."""
    from rich.console import Console

    from ..allocator import keep_freed_memory
    from ..benchmarking import envelope, write_json
    from ..xcache_bench import measure, overall, pareto, terminal_table, unmatched, write_page

    if ablation and tune:
        raise typer.BadParameter("expected --ablation or --tune, got both")
    keep_freed_memory()
    kind = "ablation" if ablation else "tune" if tune else "race"
    world_model = open_model(model, random_weights, cycle, compile)
    counts = _step_counts(steps, world_model, quick or kind != "race")
    settings = settings_of(
        kind, quick, groups, protocols, chunks, counts[0], device, scenarios, bool(compile)
    )
    contestants = contestants_of(kind, methods, quick, counts, world_model, settings)
    config = _config(kind, world_model, counts, settings) | {"compile": compile or "eager"}
    title = "X-Cache, {kind}: {model}, {weights} weights, {steps} steps, KV cycle {cycle}".format_map(config)
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    results = measure(world_model, contestants, settings, _progress())
    results["pareto_png"] = None if png_file is None else str(png_file)
    for protocol in settings.protocols:
        rows = [row for row in results["methods"] if row["protocol"] == protocol]
        console.print(terminal_table(rows, f"{title}, {protocol}"))
    if kind == "race":
        means = [row for row in overall(results["methods"]) if row["protocol"] == settings.protocols[0]]
        results["unmatched"] = [row["name"] for row in unmatched(means, OURS)]
        console.print(terminal_table(means, "mean over the groups"))
        console.print(f"as fast as no tier at its cost: {', '.join(results['unmatched']) or 'none'}")
    if tune:
        results["suggested"] = _print_choice(console, results["methods"])
    if png_file is not None:
        shown = [row for row in results["methods"] if row["protocol"] == settings.protocols[0]]
        pareto(shown, f"{title}, {settings.protocols[0]}", png_file)
    document = envelope(results, config, world_model.digest, _dtype(device))
    if json_file is not None:
        write_json(document, json_file)
    if html_file is not None:
        write_page(document, html_file)


def open_model(name: str, random_weights: bool, cycle: int | None, compile: str = "") -> Any:
    """The model to measure; `cycle` stands in for its own. All engines share what `compile` makes of it."""
    from dataclasses import replace

    from ..diffusion.compiled import compile_networks
    from ..model.config import load_model_config
    from ..model.world_model import load_world_model, random_world_model

    model = random_world_model(load_model_config(name)) if random_weights else load_world_model(name)
    if compile:
        compile_networks(model, compile)
    return model if cycle is None else replace(model, config=replace(model.config, cycle=cycle))


def _progress() -> Any:
    """Says now and then how long it has taken and about how long the rest will, on the error stream."""
    from rich.console import Console

    console, start, said = Console(stderr=True), time.monotonic(), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal said
        passed = time.monotonic() - start
        if passed < said + SECONDS_BETWEEN and done < total:
            return
        said = passed
        left = passed * (total - done) / done
        console.print(f"{done} of {total} chunks, {passed:.0f} s, about {left:.0f} s left", highlight=False)

    return tell


def settings_of(
    kind: str,
    quick: bool,
    groups: str,
    protocols: str,
    chunks: int | None,
    steps: int,
    device: str,
    scenarios: int = SCENARIOS,
    compiled: bool = False,
) -> Any:
    """Which scenarios, for how long, under which protocols. Compiled networks rehearse all of a drive."""
    from ..benchmarking import HELD_OUT_SEED
    from ..xcache_bench import CHOICE_SCENARIOS, CHOICE_SEED, GROUPS, PROTOCOLS, Settings

    choosing = kind == "tune"
    known: Mapping[str, Sequence[str]] = CHOICE_SCENARIOS if choosing else GROUPS
    usual = QUICK_GROUPS if quick else ABLATION_GROUPS if kind == "ablation" else tuple(known)
    wanted = _chosen(groups, known, usual, "groups")
    under = _chosen(protocols, PROTOCOLS, PROTOCOLS[:1] if choosing or quick else PROTOCOLS, "protocols")
    return Settings(
        scenarios={group: known[group][:scenarios] for group in wanted},
        chunks=chunks or (QUICK_CHUNKS if quick else CHUNKS[kind]),
        steps=steps,
        device=device,
        protocols=[protocol for protocol in PROTOCOLS if protocol in under],
        quick=quick,
        seed=CHOICE_SEED if choosing else HELD_OUT_SEED,
        rehearsed=None if compiled else 2,
    )


def contestants_of(
    kind: str, methods: str, quick: bool, counts: Sequence[int], model: Any, settings: Any
) -> list[Any]:
    """Who takes part: the first number of steps is the race's own, the tiers run with the others too."""
    from ..xcache_bench import ABLATIONS, FULL_COMPUTE, METHODS, PARTS, QUICK_METHODS, TABLE, candidates

    if kind == "tune":
        return candidates(quick)
    if kind == "ablation":
        return [ABLATIONS[name] for name in _chosen(methods, ABLATIONS, tuple(ABLATIONS), "rows")]
    usual = QUICK_METHODS if quick else [name for name in (*METHODS, TABLE) if name not in PARTS]
    names = _chosen(methods, (*METHODS, TABLE), usual, "methods")
    chosen = [METHODS[name] for name in names if name != TABLE]
    if TABLE in names:
        chosen.append(_with_table(model, settings))
    joint = [METHODS[name] for name in FRONTIER if name in names]
    return chosen + [one.at(other) for other in counts[1:] for one in (FULL_COMPUTE, *joint)]


def _with_table(model: Any, settings: Any) -> Any:
    """The method that rests on a table, with one measured on scenarios that are not reported."""
    from ..xcache_bench import (
        CHOICE_SCENARIOS,
        CHOICE_SEED,
        Course,
        calibrated,
        drift_table,
        model_rig,
        record,
    )

    rig, course = model_rig(model), Course(settings.device, settings.steps, CHOICE_SEED)
    names = [name for group in CHOICE_SCENARIOS.values() for name in group]
    drives = [record("choice", name, rig, QUICK_CHUNKS, settings.device, CHOICE_SEED) for name in names]
    return calibrated(drift_table(model, drives, course))


def _step_counts(text: str, model: Any, one: bool) -> tuple[int, ...]:
    """The numbers of steps to race; the model's own first unless given."""
    if text:
        if not all(part.strip().isdigit() for part in text.split(",")):
            raise typer.BadParameter(f"expected numbers of steps separated by commas, got {text!r}")
        return tuple(int(part) for part in text.split(","))
    own: int = model.config.steps
    return (own,) if one else (own, *(count for count in STEPS if count < own))


def _config(kind: str, model: Any, counts: Sequence[int], settings: Any) -> dict[str, Any]:
    from ..xcache_bench import CHOICE_SCENARIOS, CHOICE_SEED

    return {
        "kind": kind,
        "model": model.config.name,
        "weights": "random" if model.digest == "random" else "trained",
        "cycle": model.config.cycle,
        "steps": counts[0],
        "other_steps": list(counts[1:]),
        "quick": settings.quick,
        "device": settings.device,
        "chunks": settings.chunks,
        "seed": settings.seed,
        "scenarios": {group: list(names) for group, names in settings.scenarios.items()},
        "scenarios_chosen_on": [name for names in CHOICE_SCENARIOS.values() for name in names],
        "seed_chosen_on": CHOICE_SEED,
    }


def _print_choice(console: Any, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The frontier and the suggested tiers, from means over the groups."""
    from ..xcache_bench import frontier, overall, suggest, terminal_table

    means = overall(rows)
    console.print(terminal_table(frontier(means), "frontier, mean over the groups"))
    chosen = suggest(means)
    for tier, row in chosen.items():
        console.print(f"{tier}: {row['name']}: {row['about']}", highlight=False)
    return {tier: dict(row) for tier, row in chosen.items()}


def _chosen(text: str, valid: Any, default: Sequence[str], what: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip()) or tuple(default)
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise typer.BadParameter(f"expected {what} of {', '.join(valid)}, got {unknown[0]!r}")
    return names


def _dtype(device: str) -> str:
    import torch

    from ..model.precision import fast_dtype

    return str(fast_dtype(torch.device(device))).removeprefix("torch.")
