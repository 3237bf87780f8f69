"""`roadloop bench engine`: chunks of the world model, stage by stage, batch by batch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .explain import explained

# Held out from training by their seed; their layouts differ much in what there is to draw.
SCENARIOS = ("urban_cruise", "highway_cruise", "roundabout_straight", "urban_rain_night")
CHUNKS, QUICK_CHUNKS = 24, 4
SIZES, QUICK_SIZES = (1, 2, 4, 8), (1, 2)


def bench_engine(
    quick: Annotated[bool, typer.Option("--quick", help="Few chunks, small batches.")] = False,
    model: Annotated[str, typer.Option(help="Model preset, or a checkpoint file.")] = "S",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Of a preset: speed only.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own if not given.")] = None,
    cycle: Annotated[
        int | None, typer.Option(help="Chunks per KV cycle; the model's own if not given.")
    ] = None,
    size: Annotated[
        str, typer.Option(help="HEIGHTxWIDTH of the cameras; the model's own if not given.")
    ] = "",
    compile_mode: Annotated[
        str, typer.Option("--compile", help="Also compiled, in this mode of torch.compile.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
) -> None:
    """Time one session stage by stage, then batches of them."""
    from rich.console import Console

    from ..allocator import keep_freed_memory
    from ..benchmarking import HELD_OUT_SEED, envelope, write_json
    from ..chosen_model import chosen_model
    from ..engine_bench import Settings, measure
    from ..model.precision import fast_dtype

    keep_freed_memory()
    with explained():
        world_model = chosen_model(model, random_weights, size, cycle)
        settings = Settings(
            SCENARIOS,
            steps or world_model.config.steps,
            device,
            QUICK_SIZES if quick else SIZES,
            world_model.config.cycle,
            QUICK_CHUNKS if quick else CHUNKS,
            compile_mode,
        )
        results = measure(world_model, settings)
    config = {
        "model": world_model.config.name,
        "weights": "random" if world_model.digest == "random" else "trained",
        "cycle": world_model.config.cycle,
        "steps": settings.steps,
        "size": [world_model.config.height, world_model.config.width],
        "quick": quick,
        "device": device,
        "chunks": settings.chunks,
        "seed": HELD_OUT_SEED,
        "scenarios": list(SCENARIOS),
        "scenarios_chosen_on": [],
    }
    _show(Console(), results, config)
    if json_file is not None:
        import torch

        dtype = str(fast_dtype(torch.device(device))).removeprefix("torch.")
        write_json(envelope(results, config, world_model.digest, dtype, bool(compile_mode)), json_file)


def _show(console: Any, results: dict[str, Any], config: dict[str, Any]) -> None:
    from ..engine_bench import batch_table, stage_table

    title = "{model}, {weights} weights, {size[0]}x{size[1]}, {steps} steps, KV cycle {cycle}"
    console.print(stage_table(results, title.format_map(config)))
    console.print(batch_table(results))
    console.print(
        f"{results['realtime_factor']:.2f} x real time with one session; {results['sessions_realtime']} at once in "
        f"real time; {results['peak_memory_mb']:.0f} MB; {results['flop_per_chunk'] / 1e9:.0f} GFLOP a chunk, "
        f"{results['utilisation']:.0%} of what a large matrix product reaches here"
    )
