"""Clips on disk, ready to train on: one folder per clip with memory-mapped arrays and a small JSON.

A clip of T latent frames has 4 T + 1 images; image 0 is the opening one. Boundary k is image 4 k: the last image of latent
frame k - 1 and the one that latent frame k follows on.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..model.config import FRAMES
from ..model.rays import CameraTensors
from ..rig import Rig
from ..rig.camera import Camera
from ..scene.state import Atmosphere


class ClipError(ValueError):
    """A folder without usable clips."""


@dataclass(frozen=True)
class ClipArrays:
    """The arrays of one clip. h, w: raster size; hl, wl: latent size."""

    layout: np.ndarray  # int8 [4 T + 1, V, C, h, w], 127 is 1
    depth: np.ndarray  # float16 [4 T + 1, V, h, w] metres along the ray, may be infinite
    deltas: np.ndarray  # float32 [4 T, 3] achieved pose deltas
    boxes: np.ndarray  # float32 [4 T + 1, N, 7] road users, see `model/road_users.py`
    frames: np.ndarray | None = (
        None  # uint8 [4 T + 1, V, H, W, 3]; absent once encoded, except in held-out clips
    )
    latents: np.ndarray | None = None  # float16 [T, V, C, hl, wl]
    stills: np.ndarray | None = None  # float16 [T + 1, V, C, hl, wl]: image 4 k, four times
    history: np.ndarray | None = None  # uint8 [T + 1, V, 3, H, W]: boundary images after the tokeniser


class Clip:
    """One stored clip; arrays are mapped, not read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = json.loads((folder / "clip.json").read_text())

    @cached_property
    def arrays(self) -> ClipArrays:
        """All arrays that the folder has."""
        found = {path.stem: np.load(path, mmap_mode="r") for path in self.folder.glob("*.npy")}
        return ClipArrays(**found)

    @property
    def truth(self) -> ClipArrays:
        """The arrays that are to be predicted; a rolled-out clip has others than its own."""
        return self.arrays

    @cached_property
    def rig(self) -> Rig:
        """The cameras of this clip."""
        return Rig(self.meta["rig"]["name"], tuple(_camera(spec) for spec in self.meta["rig"]["cameras"]))

    @cached_property
    def cameras(self) -> CameraTensors:
        """The rig as tensors."""
        return CameraTensors.from_rig(self.rig)

    @property
    def atmosphere(self) -> Atmosphere:
        """Weather and light."""
        return Atmosphere(**self.meta["atmosphere"])

    @property
    def latents(self) -> int:
        """T."""
        return len(self.arrays.deltas) // FRAMES

    @property
    def encoded(self) -> bool:
        """Whether a tokeniser has been over it."""
        return (self.folder / "latents.npy").exists()


def write_clip(
    folder: Path, arrays: ClipArrays, rig: Rig, atmosphere: Atmosphere, notes: dict[str, object]
) -> Clip:
    """Store a clip; the folder appears complete or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, array in vars(arrays).items():
        if array is not None:
            np.save(partial / f"{name}.npy", array)
    meta = {
        "rig": {"name": rig.name, "cameras": [asdict(camera) for camera in rig.cameras]},
        "atmosphere": asdict(atmosphere),
        **notes,
    }
    (partial / "clip.json").write_text(json.dumps(meta))
    os.replace(partial, folder)
    return Clip(folder)


def open_clips(folder: str | Path, encoded: bool = False) -> list[Clip]:
    """All clips below a folder, by name.

    Raises:
        ClipError: none there.
    """
    paths = sorted(path.parent for path in Path(folder).expanduser().rglob("clip.json"))
    clips = [clip for clip in map(Clip, paths) if clip.encoded or not encoded]
    if not clips:
        raise ClipError(f"expected {'encoded ' if encoded else ''}clips in {folder}, got none")
    return clips


def _camera(spec: dict[str, Any]) -> Camera:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in spec.items()}
    return Camera(**fields)
