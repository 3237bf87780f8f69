"""`roadloop bench fidelity`: the gates of the world model, on scenarios held out from training."""

from pathlib import Path
from typing import Annotated

import typer

from .explain import explained

QUICK_SCENARIOS = ("side_street_out", "highway_night")
QUICK_HORIZONS = (1.0,)
QUICK_SHORT_S = 1.0


def bench_fidelity(
    quick: Annotated[bool, typer.Option("--quick", help="Two scenarios, one second.")] = False,
    model: Annotated[str, typer.Option(help="Model preset, or a checkpoint file.")] = "S",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Of a preset: every gate should fail.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own if not given.")] = None,
    cycle: Annotated[
        int | None, typer.Option(help="Chunks per KV cycle; the model's own if not given.")
    ] = None,
    size: Annotated[
        str, typer.Option(help="HEIGHTxWIDTH of the cameras; the model's own if not given.")
    ] = "",
    scenarios: Annotated[
        str,
        typer.Option(
            help="Names, separated by commas; all that are held out, and long_country_road, if not given."
        ),
    ] = "",
    longest: Annotated[float, typer.Option(min=1.0, help="Longest horizon in seconds.")] = 180.0,
    tiers: Annotated[bool, typer.Option(help="Also the X-Cache tiers.")] = True,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Where to write a page of them.")] = None,
) -> None:
    """Hold rollouts against the reference renderer under the same actions."""
    import torch
    from rich.console import Console

    from ..allocator import keep_freed_memory
    from ..benchmarking import HELD_OUT_SEED, envelope, write_json
    from ..chosen_model import chosen_model
    from ..data.selection import select_scenarios
    from ..diffusion.cache import OFF, XCACHE_TIERS
    from ..fidelity_bench import Settings, gate_table, gates, horizon_table, measure, write_page
    from ..fidelity_bench.drives import LONG
    from ..model.precision import fast_dtype

    keep_freed_memory()
    console = Console()
    with explained():
        world_model = chosen_model(model, random_weights, size, cycle)
        wanted = [name for name in scenarios.split(",") if name]
        presets = ",".join(name for name in wanted if name != LONG)
        names = select_scenarios(presets or "all", "heldout") if presets or not wanted else ()
        if not wanted:
            names = QUICK_SCENARIOS if quick else (*names, LONG)
        elif LONG in wanted:
            names = (*names, LONG)
        settings = Settings(
            names,
            QUICK_HORIZONS if quick else tuple(h for h in Settings.horizons_s if h <= longest),
            1 if quick else 2,
            QUICK_SHORT_S if quick else Settings.short_s,
            tiers=tuple(tier for tier in XCACHE_TIERS.tiers if tier != OFF) if tiers else (),
            variant_scenarios=1 if quick else Settings.variant_scenarios,
            device=device,
            own_steps=steps,
        )
        with console.status("") as status:
            results = measure(world_model, settings, status.update)
    config = {
        "model": world_model.config.name,
        "weights": "random" if world_model.digest == "random" else "trained",
        "cycle": world_model.config.cycle,
        "steps": steps or world_model.config.steps,
        "size": [world_model.config.height, world_model.config.width],
        "quick": quick,
        "device": device,
        "seed": HELD_OUT_SEED,
        "scenarios": list(names),
        "scenarios_chosen_on": [],  # checkpoints are chosen on training's own held-out episodes, of other seeds
    }
    pictures, claims = results.pop("pictures"), gates(results)
    results["gates"] = [claim._asdict() for claim in claims]
    title = "{model}, {weights} weights, {size[0]}x{size[1]}, {steps} steps, KV cycle {cycle}"
    console.print(horizon_table(results))
    console.print(gate_table(claims, title.format_map(config)))
    dtype = str(fast_dtype(torch.device(device))).removeprefix("torch.")
    document = envelope(results, config, world_model.digest, dtype)
    if json_file is not None:
        write_json(document, json_file)
    if html_file is not None:
        write_page(document, claims, pictures, html_file)
