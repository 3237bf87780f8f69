"""`roadloop bench reference`: how fast the reference engine makes chunks, over the catalogue of scenarios."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

CHUNKS, QUICK_CHUNKS = 12, 4
QUICK_STRIDE = 5  # every fifth scenario


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every chunk of one scenario, and of its first frame (textures painted on the way)."""

    scenario: str
    opening_ms: float
    scene_ms: list[float]
    render_ms: list[float]


def bench_reference(
    quick: Annotated[bool, typer.Option("--quick", help="A few scenarios, within a minute.")] = False,
    rig: Annotated[str, typer.Option(help="Rig preset or file.")] = "surround7",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
) -> None:
    """Time chunks of all cameras: scene step and rendering, one session."""
    from rich.console import Console
    from rich.table import Table

    from ..allocator import keep_freed_memory
    from ..benchmarking import envelope, write_json
    from ..preset_files import preset_names

    keep_freed_memory()
    names = preset_names("scenarios")[:: QUICK_STRIDE if quick else 1]
    timings = [time_scenario(name, rig, device, QUICK_CHUNKS if quick else CHUNKS) for name in names]
    results = summary(timings, rig)
    config = {"rig": rig, "device": device, "quick": quick, "scenarios": list(names)}
    table = Table("scenario", "chunk ms", "render ms", "opening ms", title="roadloop bench reference")
    for row in results["scenarios"]:
        values = (row["chunk_ms_p50"], row["render_ms_p50"], row["opening_ms"])
        table.add_row(row["name"], *(f"{value:.0f}" for value in values))
    console = Console()
    console.print(table)
    console.print(
        f"median {results['chunk_ms_p50']:.0f} ms, p99 {results['chunk_ms_p99']:.0f} ms per chunk: "
        f"{results['realtime_factor']:.2f} x real time, {results['frames_per_s']:.0f} frames/s"
    )
    if json_file is not None:
        write_json(envelope(results, config), json_file)


def time_scenario(name: str, rig: str, device: str, chunks: int) -> Timing:
    """Let the expert drive one scenario and render every chunk."""
    import torch

    from ..benchmarking import HELD_OUT_SEED
    from ..data.drivers import make_driver
    from ..reference.renderer import ReferenceRenderer
    from ..rig import load_rig
    from ..scene.scenario import load_scenario
    from ..scene.scene import Scene

    scene = Scene(load_scenario(name), HELD_OUT_SEED)
    renderer, driver = ReferenceRenderer(load_rig(rig), device), make_driver("expert", scene, HELD_OUT_SEED)

    def drawn(frames: Sequence[Any]) -> float:
        start = time.perf_counter()
        renderer.render(scene.world, scene.atmosphere, frames)
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    opening = drawn([scene.frame])
    scene_ms, render_ms = [], []
    for _ in range(chunks):
        action = driver.act()
        start = time.perf_counter()
        frames = scene.step(action)
        scene_ms.append((time.perf_counter() - start) * 1e3)
        render_ms.append(drawn(frames))
        if scene.outcome != "running":
            break
    return Timing(name, opening, scene_ms, render_ms)


def summary(timings: Sequence[Timing], rig_name: str) -> dict[str, Any]:
    """The keys of `reference`: percentiles over all chunks, and the median of every scenario."""
    from ..benchmarking import percentiles
    from ..engine import CHUNK_DT_S, FRAMES_PER_CHUNK
    from ..rig import load_rig

    rig = load_rig(rig_name)
    chunk_ms = [s + r for timing in timings for s, r in zip(timing.scene_ms, timing.render_ms, strict=True)]
    p50 = percentiles(chunk_ms, "chunk")
    return {
        **p50,
        **percentiles([ms for timing in timings for ms in timing.render_ms], "render"),
        **percentiles([ms for timing in timings for ms in timing.scene_ms], "scene"),
        "realtime_factor": CHUNK_DT_S * 1e3 / p50["chunk_ms_p50"],
        "frames_per_s": len(rig) * FRAMES_PER_CHUNK * 1e3 / p50["chunk_ms_p50"],
        "cameras": len(rig),
        "height": rig.height,
        "width": rig.width,
        "scenarios": [_row(timing) for timing in timings],
    }


def _row(timing: Timing) -> dict[str, Any]:
    from ..benchmarking import percentiles

    both = [s + r for s, r in zip(timing.scene_ms, timing.render_ms, strict=True)]
    return {
        "name": timing.scenario,
        "opening_ms": timing.opening_ms,
        **percentiles(both, "chunk"),
        **percentiles(timing.render_ms, "render"),
    }
