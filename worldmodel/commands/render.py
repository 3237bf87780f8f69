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

SUFFIXES = (".mp4", ".png")
ENGINES = ("reference",)
MOSAIC_COLUMNS = 4  # seven cameras and the view from above make two rows


def register(app: typer.Typer) -> None:
    """Add `roadloop render`."""
    app.command("render")(render)


def render(
    scenario: Annotated[str, typer.Option(help="Preset or YAML file.")],
    out: Annotated[Path, typer.Option(help="FILE.mp4, or FILE.png for the last frame.")],
    seed: int = 0,
    seconds: Annotated[float, typer.Option(help="At most; the drive ends when its scenario does.")] = 10.0,
    engine: Annotated[str, typer.Option(help="reference.")] = "reference",
    rig: Annotated[str, typer.Option(help="Preset or YAML file.")] = "surround7",
    policy: Annotated[str, typer.Option(help="expert, perturbed, constant or brake.")] = "expert",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Write a mosaic of all cameras and a bird's-eye view, as a video or as the picture of its last frame."""
    from ..data.drive import drive
    from ..engine import FPS, OpenRequest
    from ..rig import load_rig
    from ..scene.scores import score_episode
    from ..video import write_mp4, write_png

    with explained():
        if out.suffix not in SUFFIXES:
            raise ValueError(f"expected a file ending in {' or '.join(SUFFIXES)}, got {out.name!r}")
        made = make_engine(engine, device)
        driven = drive(scenario, seed, policy, seconds)
        mosaics = mosaics_of(
            driven, play(made, OpenRequest(scenario, rig, seed), driven), load_rig(rig).names
        )
        if out.suffix == ".mp4":
            write_mp4(out, mosaics, FPS)
        else:
            *_, last = mosaics
            write_png(out, last)
    scores = score_episode(driven.record)
    ending = f"{driven.scene.outcome} {driven.scene.reason}".strip()
    typer.echo(
        f"{out}: {scores.duration_s:.1f} s, {ending}, route {scores.route_completion:.0%}, "
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


def mosaics_of(
    driven: "Drive", results: "Iterable[ChunkResult]", cameras: Sequence[str]
) -> "Iterator[np.ndarray]":
    """One picture per frame: the cameras under their names, then the scene from above, uint8 [H, W, 3]."""
    from ..reference.birdseye import BirdsEye
    from ..video import contact_sheet

    above: BirdsEye | None = None
    for result in results:
        if above is None:
            height, width = result.frames.shape[2:4]
            above = BirdsEye(driven.scene.world, driven.scene.path, height, width)
        for k, frame in enumerate(result.states):
            pictures = [*result.frames[:, k], above.draw(frame)]
            labels = [*cameras, f"{frame.time_s:.1f} s  {3.6 * frame.ego.speed_mps:.0f} km/h"]
            yield contact_sheet(pictures, labels, min(MOSAIC_COLUMNS, len(pictures)))
