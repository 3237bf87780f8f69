"""`roadloop render`: drive a scenario and write what the cameras see."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .explain import explained

if TYPE_CHECKING:
    import numpy as np

    from ..data.drive import Drive
    from ..engine import ChunkResult, OpenRequest, WorldEngine
    from ..rig import Rig

SUFFIXES = (".mp4", ".png")
ENGINES = ("reference",)


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
    engine: Annotated[str, typer.Option(help="reference.")] = "reference",
    rig: Annotated[str, typer.Option(help="Preset or YAML file.")] = "surround7",
    policy: Annotated[str, typer.Option(help="expert, perturbed, constant or brake.")] = "expert",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Write a mosaic of all cameras and a bird's-eye view, as a video or as the picture of its last frame."""
    from ..engine import OpenRequest

    with explained():
        files = output_files(scenario, out)
        made = make_engine(engine, device)
        for name, file in files.items():
            request = OpenRequest(name, rig, seed)
            typer.echo(f"{file}: {render_drive(made, request, policy, seconds, file)}")


def output_files(scenarios: Sequence[str], out: Path) -> dict[str, Path]:
    """The file of each scenario. Raises ValueError for an unknown suffix, or one file for several scenarios."""
    if out.suffix not in SUFFIXES:
        raise ValueError(f"expected a file ending in {' or '.join(SUFFIXES)}, got {out.name!r}")
    if len(scenarios) > 1 and "{}" not in out.name:
        raise ValueError(f"expected {{}} in the file name of {len(scenarios)} scenarios, got {out.name!r}")
    return {name: out.with_name(out.name.replace("{}", Path(name).stem)) for name in scenarios}


def render_drive(
    engine: "WorldEngine", request: "OpenRequest", policy: str, seconds: float, file: Path
) -> str:
    """Drive, show the drive to the engine, write the file. Returns how the drive went, in words."""
    from ..data.drive import drive
    from ..rig import load_rig
    from ..scene.clock import FPS
    from ..scene.scores import score_episode
    from ..video import write_mp4, write_png

    driven = drive(request.scenario, request.seed, policy, seconds)
    mosaics = mosaics_of(driven, play(engine, request, driven), load_rig(request.rig))
    if file.suffix == ".mp4":
        write_mp4(file, mosaics, FPS)
    else:
        *_, last = mosaics
        write_png(file, last)
    scores = score_episode(driven.record)
    ending = f"{driven.scene.outcome} {driven.scene.reason}".strip()
    return (
        f"{scores.duration_s:.1f} s, {ending}, route {scores.route_completion:.0%}, "
        f"driving score {scores.driving_score:.2f}, PDMS {scores.pdms:.2f}"
    )


def make_engine(name: str, device: str) -> "WorldEngine":
    """An engine by name. Raises ValueError for an unknown one; the message lists the valid names."""
    from ..reference.engine import ReferenceEngine

    if name not in ENGINES:
        raise ValueError(f"expected an engine of {', '.join(ENGINES)}, got {name!r}")
    return ReferenceEngine(device)


def play(engine: "WorldEngine", request: "OpenRequest", driven: "Drive") -> "Iterator[ChunkResult]":
    """The opening result, then one per chunk: a drive's actions given to an engine."""
    opened = engine.open(request)
    yield opened
    for action in driven.chunks():
        result = engine.step({opened.session: action})[opened.session]
        if isinstance(result, Exception):
            raise result
        yield result
    engine.close(opened.session)


def mosaics_of(driven: "Drive", results: "Iterable[ChunkResult]", rig: "Rig") -> "Iterator[np.ndarray]":
    """One captioned picture per frame, uint8 [H, W, 3]: the cameras as they sit on the car, and the scene from above."""
    from ..reference.birdseye import BirdsEye
    from ..reference.mosaic import rig_mosaic
    from ..video import captioned

    above: BirdsEye | None = None
    for result in results:
        if above is None:
            height, width = result.frames.shape[2:4]
            above = BirdsEye(driven.scene.world, driven.scene.path, height, width)
            rig = rig.scaled(height, width)
        for k, frame in enumerate(result.states):
            caption = (
                f"{driven.scene.scenario.name}  {frame.time_s:.1f} s  {3.6 * frame.ego.speed_mps:.0f} km/h"
            )
            yield captioned(rig_mosaic(result.frames[:, k], rig, above.draw(frame)), caption)
