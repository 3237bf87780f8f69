"""`roadloop gallery`: every scenario as seen by every camera, on one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from ..reference.renderer import ReferenceRenderer

_THUMBNAIL = (48, 84)  # rows, columns of one camera
_SECONDS = 6.0  # far enough into each scenario that something has happened


def register(app: typer.Typer) -> None:
    """Add `roadloop gallery`."""
    app.command("gallery")(gallery)


def gallery(
    out: Annotated[Path, typer.Option(help="picture to write: .jpg or .png")] = Path("scenarios.jpg"),
    rig: Annotated[str, typer.Option(help="rig preset or file")] = "surround7",
    seed: Annotated[int, typer.Option(help="seed of every scenario")] = 1,
    seconds: Annotated[float, typer.Option(help="how long the expert drives before the picture")] = _SECONDS,
    columns: Annotated[int, typer.Option(help="scenarios side by side")] = 2,
) -> None:
    """Draw all scenarios x all cameras, driven by the expert, on one sheet."""
    import cv2
    from rich.progress import track

    from ..preset_files import preset_names
    from ..reference.renderer import ReferenceRenderer
    from ..rig import load_rig
    from ..video import contact_sheet

    names = preset_names("scenarios")
    renderer = ReferenceRenderer(load_rig(rig))
    rows = [_row(renderer, name, seed, seconds) for name in track(names, "Driving")]
    sheet = contact_sheet(rows, list(names), columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(out), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85]):
        raise typer.BadParameter(f"expected a writable .jpg or .png path, got {out}")
    typer.echo(f"{out}: {len(names)} scenarios x {len(renderer.view.rig)} cameras")


def _row(renderer: "ReferenceRenderer", name: str, seed: int, seconds: float) -> "np.ndarray":
    """All cameras of one scenario side by side, uint8 [h, V * w, 3]."""
    import cv2
    import numpy as np

    from ..scene.clock import CHUNK_DT_S
    from ..scene.expert import Expert
    from ..scene.scenario import load_scenario
    from ..scene.scene import Scene

    scene = Scene(load_scenario(name), seed)
    expert = Expert(scene)
    for _ in range(round(seconds / CHUNK_DT_S)):
        if scene.outcome != "running":
            break
        scene.step(expert.act())
    pictures = renderer.render(scene.world, scene.atmosphere, [scene.frame])[:, 0]
    small = [cv2.resize(picture, _THUMBNAIL[::-1], interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.concatenate(small, axis=1)
