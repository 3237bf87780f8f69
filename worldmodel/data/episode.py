"""One recorded episode in memory: pictures, conditions, what happened, and where it comes from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..rig import Camera, Rig
from ..scene.state import Atmosphere

EPISODE_FORMAT = 1  # raised when a reader must know
LAYOUT_SCALE = 127  # of layouts stored as int8
LAYOUT_STRIDE = 4  # picture pixels per layout pixel


@dataclass(frozen=True)
class EpisodeInfo:
    """Where an episode comes from and how it went. Plain data in JSON, see docs/data.md."""

    index: int
    scenario: str
    group: str
    split: str
    seed: int
    driver: str
    action_space: str
    fps: int
    rig: Rig
    atmosphere: Atmosphere
    outcome: str
    reason: str
    layout_channels: tuple[str, ...] = ()
    layout_stride: int = 0  # picture pixels per layout pixel; 0 without layout
    scores: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, every value valid in JSON."""
        return {**asdict(self), "format": EPISODE_FORMAT}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "EpisodeInfo":
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            ValueError: another format.
        """
        values = dict(data)
        if (found := values.pop("format", None)) != EPISODE_FORMAT:
            raise ValueError(f"expected episode format {EPISODE_FORMAT}, got {found}")
        values["rig"] = rig_from_dict(values["rig"])
        values["atmosphere"] = Atmosphere(**values["atmosphere"])
        values["layout_channels"] = tuple(values["layout_channels"])
        return cls(**values)


@dataclass(frozen=True)
class Episode:
    """An episode of F frames seen by V cameras; frame 0 is the opening frame.

    Row k of `pose_deltas` and `actions` is what led from frame k - 1 to frame k; row 0 is zero.
    """

    info: EpisodeInfo
    frames: np.ndarray  # uint8 [V, F, H, W, 3] RGB
    pose_deltas: np.ndarray  # float32 [F, 3]: dx [m], dy [m], dyaw [rad], achieved
    actions: np.ndarray  # float32 [F, A], in `info.action_space`
    tables: Mapping[str, np.ndarray]  # see `tables`
    layouts: np.ndarray | None = None  # int8 [V, F, C, h, w], see `quantise_layout`
    depth_m: np.ndarray | None = None  # float16 [V, F, h, w], distance from the camera; 10 km for the sky

    def __len__(self) -> int:
        return int(self.frames.shape[1])


def quantise_layout(rasters: np.ndarray) -> np.ndarray:
    """Layout values in -1..1 as int8 -127..127: a quarter of the size, wrong by 0.004 at most."""
    return np.asarray(np.rint(np.clip(rasters, -1.0, 1.0) * LAYOUT_SCALE), dtype=np.int8)


def rig_from_dict(data: Mapping[str, Any]) -> Rig:
    """A rig from the plain data of `dataclasses.asdict`."""
    cameras = [
        Camera(**{**c, "position_m": tuple(c["position_m"]), "distortion": tuple(c["distortion"])})
        for c in data["cameras"]
    ]
    return Rig(data["name"], tuple(cameras))
