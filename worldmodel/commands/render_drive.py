"""One drive shown to some engines: the same actions, their pictures beside each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..chosen_model import camera_size, chosen_model, rig_of
from ..data.drive import Drive, drive
from ..diffusion import DiffusionEngine
from ..engine import ChunkResult, OpenRequest, SessionOptions, WorldEngine
from ..reference.birdseye import BirdsEye
from ..reference.engine import ReferenceEngine
from ..reference.mosaic import rig_mosaic
from ..rig import Rig, load_rig
from ..scene.clock import FPS
from ..scene.scores import score_episode
from ..video import captioned, contact_sheet, write_mp4, write_png

ENGINES = ("reference", "worldmodel")
DEFAULT_RIG = "surround7"
SHEET_EVERY_S = 2.0


@dataclass(frozen=True)
class Look:
    """How engines are made and opened; empty and None are their own ways."""

    rig: str = ""
    model: str = "S"
    random_weights: bool = False
    steps: int | None = None
    layout: bool = True
    first_images: Path | None = None
    size: str = ""
    device: str = "cpu"


@dataclass(frozen=True)
class Show:
    """One engine, and how its sessions are opened."""

    engine: WorldEngine
    request: OpenRequest  # of any scenario
    rig: Rig  # its cameras

    @property
    def label(self) -> str:
        """What its pictures are called."""
        return self.engine.name


def make_shows(names: Sequence[str], look: Look) -> list[Show]:
    """Engines by name. Beside a world model the reference renders the model's cameras at the model's size.

    Raises:
        ValueError: an unknown engine; the message lists those that there are.
    """
    for name in names:
        if name not in ENGINES:
            raise ValueError(f"expected an engine of {', '.join(ENGINES)}, got {name!r}")
    size = camera_size(look.size) if look.size else None
    if "worldmodel" not in names:
        rig = look.rig or DEFAULT_RIG
        request = OpenRequest("", rig, options=SessionOptions(size=size))
        return [Show(ReferenceEngine(look.device), request, load_rig(rig))]
    model = chosen_model(look.model, look.random_weights)
    config = model.config
    rig, cameras = (look.rig, None) if look.rig else (config.rig, config.cameras or None)
    shown = load_rig(rig) if look.rig else rig_of(config)
    options = SessionOptions(cameras=cameras, size=size or (config.height, config.width))
    request = OpenRequest("", rig, options=options)
    made = replace(
        request,
        options=replace(options, steps=look.steps, layout=look.layout),
        images=None if look.first_images is None else read_images(look.first_images, shown.names),
    )
    return [
        Show(DiffusionEngine(model, look.device), made, shown)
        if name == "worldmodel"
        else Show(ReferenceEngine(look.device), request, shown)
        for name in names
    ]


def read_images(folder: Path, cameras: Sequence[str]) -> Mapping[str, np.ndarray]:
    """First images by camera, uint8 RGB. Raises ValueError for one that is missing or unreadable."""
    images = {}
    for camera in cameras:
        files = [folder / f"{camera}{suffix}" for suffix in (".png", ".jpg", ".jpeg")]
        read = next((cv2.imread(str(file)) for file in files if file.is_file()), None)
        if read is None:
            raise ValueError(f"expected a picture {camera}.png or {camera}.jpg in {folder}, got none")
        images[camera] = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
    return images


def render_drive(
    shows: Sequence[Show],
    scenario: str,
    seed: int,
    policy: str,
    seconds: float,
    file: Path,
    sheet: Path | None,
) -> str:
    """Drive, show the drive to the engines, write the file. Returns how the drive went, in words."""
    driven = drive(scenario, seed, policy, seconds)
    streams = [_mosaics(show, scenario, seed, driven, named=len(shows) > 1) for show in shows]
    kept: list[tuple[np.ndarray, ...]] = []
    pictures = (np.concatenate(row, axis=1) for row in _keeping(zip(*streams, strict=True), kept))
    if file.suffix == ".mp4":
        write_mp4(file, pictures, FPS)
    else:
        *_, last = pictures
        write_png(file, last)
    if sheet is not None:
        write_png(sheet, _sheet(kept, shows))
    scores = score_episode(driven.record)
    ending = f"{driven.scene.outcome} {driven.scene.reason}".strip()
    return (
        f"{scores.duration_s:.1f} s, {ending}, route {scores.route_completion:.0%}, "
        f"driving score {scores.driving_score:.2f}, PDMS {scores.pdms:.2f}"
    )


def play(engine: WorldEngine, request: OpenRequest, driven: Drive) -> Iterator[ChunkResult]:
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
    driven: Drive, results: Iterable[ChunkResult], rig: Rig, label: str = ""
) -> Iterator[np.ndarray]:
    """One captioned picture per frame, uint8 [H, W, 3]: the cameras as they sit on the car, and the scene from above."""
    above: BirdsEye | None = None
    for result in results:
        if above is None:
            height, width = result.frames.shape[2:4]
            above = BirdsEye(driven.scene.world, driven.scene.path, height, width)
            rig = rig.scaled(height, width)
        for k, frame in enumerate(result.states):
            told = (
                label,
                driven.scene.scenario.name,
                f"{frame.time_s:.1f} s",
                f"{3.6 * frame.ego.speed_mps:.0f} km/h",
            )
            yield captioned(
                rig_mosaic(result.frames[:, k], rig, above.draw(frame)), "  ".join(filter(None, told))
            )


def _mosaics(show: Show, scenario: str, seed: int, driven: Drive, named: bool) -> Iterator[np.ndarray]:
    request = replace(show.request, scenario=scenario, seed=seed)
    return mosaics_of(driven, play(show.engine, request, driven), show.rig, show.label if named else "")


def _keeping(
    rows: Iterable[tuple[np.ndarray, ...]], kept: list[tuple[np.ndarray, ...]]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Pass rows on, keeping those of the sheet."""
    for k, row in enumerate(rows):
        if k % round(SHEET_EVERY_S * FPS) == 0:
            kept.append(row)
        yield row


def _sheet(rows: Sequence[tuple[np.ndarray, ...]], shows: Sequence[Show]) -> np.ndarray:
    """One row per moment, one column per engine."""
    pictures = [picture for row in rows for picture in row]
    labels = [f"{show.label}  {k * SHEET_EVERY_S:.0f} s" for k in range(len(rows)) for show in shows]
    return contact_sheet(pictures, labels, len(shows))
