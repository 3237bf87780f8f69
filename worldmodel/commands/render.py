"""`roadloop render`: drive a scenario and write what the cameras see, through one engine or several beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .explain import explained

if TYPE_CHECKING:
    from .render_drive import Show

SUFFIXES = (".mp4", ".png")


def register(app: typer.Typer) -> None:
    """Add `roadloop render`."""
    app.command("render")(render)


def render(
    scenario: Annotated[list[str], typer.Option(help="Preset or YAML file; repeat it for several drives.")],
    out: Annotated[
        Path,
        typer.Option(help="FILE.mp4, or FILE.png for the last frame; {} becomes the scenario's name."),
    ],
    seed: int = 0,
    seconds: Annotated[float, typer.Option(help="At most; the drive ends when its scenario does.")] = 10.0,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="reference or worldmodel; repeat it to see both beside each other, driven alike."),
    ] = None,
    rig: Annotated[str, typer.Option(help="Preset or YAML file; the model's own if not given.")] = "",
    policy: Annotated[str, typer.Option(help="expert, perturbed, constant or brake.")] = "expert",
    model: Annotated[str, typer.Option(help="Of the world model: preset, or a checkpoint file.")] = "S",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Of a preset: the pictures are noise.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the model's own if not given.")] = None,
    layout: Annotated[bool, typer.Option(help="Tell the world model where things are.")] = True,
    first_images: Annotated[
        Path | None, typer.Option(help="Folder with CAMERA.png or .jpg: where the world model begins.")
    ] = None,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the frames.")] = "",
    sheet: Annotated[
        Path | None, typer.Option(help="Also FILE.png: one picture every two seconds, engines in columns.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Write a mosaic of all cameras and a bird's-eye view, as a video or as the picture of its last frame."""
    from ..allocator import keep_freed_memory
    from .render_drive import Look, make_shows, render_drive

    keep_freed_memory()
    with explained():
        files = output_files(scenario, out)
        sheets = output_files(scenario, sheet, (".png",)) if sheet is not None else {}
        look = Look(rig, model, random_weights, steps, layout, first_images, size, device)
        shows: list[Show] = make_shows(engine or ["reference"], look)
        for name, file in files.items():
            typer.echo(f"{file}: {render_drive(shows, name, seed, policy, seconds, file, sheets.get(name))}")


def output_files(scenarios: Sequence[str], out: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The file of each scenario. Raises ValueError for an unknown suffix, or one file for several scenarios."""
    if out.suffix not in suffixes:
        raise ValueError(f"expected a file ending in {' or '.join(suffixes)}, got {out.name!r}")
    if len(scenarios) > 1 and "{}" not in out.name:
        raise ValueError(f"expected {{}} in the file name of {len(scenarios)} scenarios, got {out.name!r}")
    return {name: out.with_name(out.name.replace("{}", Path(name).stem)) for name in scenarios}
