"""A rig: the cameras of one vehicle, in a fixed order, all of one size."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .camera import Camera

OVERLAP_DISTANCE_M = 30.0
OVERLAP_SHARE = 0.02


@dataclass(frozen=True)
class Rig:
    """Cameras with distinct names and one common size (an engine returns one array for all of them)."""

    name: str
    cameras: tuple[Camera, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Camera names in rig order."""
        return tuple(camera.name for camera in self.cameras)

    @property
    def height(self) -> int:
        """Rows of every camera."""
        return self.cameras[0].height

    @property
    def width(self) -> int:
        """Columns of every camera."""
        return self.cameras[0].width

    def __len__(self) -> int:
        return len(self.cameras)

    def camera(self, name: str) -> Camera:
        """One camera by name.

        Raises:
            KeyError: no such camera; the message lists those there are.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"expected one of the cameras {', '.join(self.names)}, got {name!r}")

    def scaled(self, height: int, width: int) -> "Rig":
        """All cameras at another resolution."""
        return replace(self, cameras=tuple(camera.scaled(height, width) for camera in self.cameras))

    def to_dict(self) -> dict[str, Any]:
        """The rig as plain data."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Rig":
        """A rig from what `to_dict` gave, also after a detour through JSON or msgpack (tuples became lists)."""
        return Rig(values["name"], tuple(_camera(camera) for camera in values["cameras"]))

    def subset(self, names: Sequence[str]) -> "Rig":
        """Only the named cameras, in the order named. Raises KeyError for an unknown one."""
        return replace(self, cameras=tuple(self.camera(name) for name in names))

    def neighbours(self) -> dict[str, tuple[str, ...]]:
        """For each camera the others that see part of what it sees, the largest overlap first.

        Overlap is the share of the camera's pixels whose point 30 m away lies in the other's image; less than 2 %
        counts as none.
        """
        share = self.overlap
        ranked = np.argsort(-share, axis=1, kind="stable")
        return {
            name: tuple(self.names[j] for j in ranked[i] if j != i and share[i, j] >= OVERLAP_SHARE)
            for i, name in enumerate(self.names)
        }

    @cached_property
    def overlap(self) -> np.ndarray:
        """float64 [V, V]: share of camera i's pixels that camera j sees as well, made symmetric by the larger."""
        share = np.eye(len(self))
        for i, seen in enumerate(self.cameras):
            grid = seen.scaled(18, 32)
            points = np.array(seen.position_m) + OVERLAP_DISTANCE_M * grid.rays().reshape(-1, 3)
            for j, other in enumerate(self.cameras):
                if i != j:
                    share[i, j] = other.project(points)[2].mean()
        return np.maximum(share, share.T)


def _camera(values: Mapping[str, Any]) -> Camera:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Camera(**fields)
