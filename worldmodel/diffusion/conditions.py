"""From scene states to what the network reads: layout, motion, carried pictures, rays, weather."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..layout import CHANNELS, LayoutRenderer
from ..layout.air import Air
from ..model.conditioning import Conditions, appearance_vector, group_indices, motion_vector
from ..model.config import ConfigError, ModelConfig
from ..model.depth import DepthNet
from ..model.foresight import Foresight, foreseen
from ..model.history import History, Moment, carry
from ..model.rays import CameraTensors, ground_depth, plucker
from ..model.retouch import retouch
from ..model.road_users import user_boxes
from ..rig import Rig
from ..scene.state import Atmosphere, EgoState, SceneFrame, pose_delta
from ..scene.world import StaticWorld
from .memory import Memory


@dataclass(frozen=True)
class Request:
    """One session's part of a batch."""

    world: StaticWorld
    atmosphere: Atmosphere
    rig: Rig  # at the model's resolution
    frames: Sequence[SceneFrame]  # the four to come
    memory: Memory
    ahead: int  # latent frames since the last commit


@dataclass(frozen=True)
class Survey:
    """What the scene looks like to the cameras, before anything is generated."""

    layout: Tensor | None  # [B, V, F, C, h, w]
    depth: Tensor  # [B, V, F, h, w] metres along the rays
    boxes: Tensor  # [B, F, N, 7] road users, see `model/road_users.py`; where the layout is off, nobody
    along: Tensor | None = (
        None  # bool [B, V, F, h, w]: what moves along with the ego, where the layout is off
    )


class ConditionBuilder:
    """Builds conditions; keeps per-rig geometry.

    Args:
        config: of the model.
        encode: carried pictures -> latents [B, V, C, h, w].
        depth: estimates distances where there is no layout.
        device: where the conditions go.
        dtype: of the carried pictures.

    Raises:
        ConfigError: a model that reads other layouts than are drawn.
    """

    def __init__(
        self,
        config: ModelConfig,
        encode: Callable[[History], Tensor],
        depth: DepthNet,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        reads = config.dit.layout_channels, config.tokenizer.guide_channels
        if any(channels not in (0, len(CHANNELS)) for channels in reads):
            raise ConfigError(
                f"{config.name}: expected a model for layouts of {len(CHANNELS)} channels, got one for {reads[0]} in the "
                f"network and {reads[1]} in the decoder; `roadloop train widen` adds those that came later"
            )
        self._config, self._encode, self._depth = config, encode, depth
        self._device, self._dtype = device, dtype
        self._renderers: dict[Rig, LayoutRenderer] = {}
        self._cameras: dict[Rig, CameraTensors] = {}

    def cameras(self, rig: Rig) -> CameraTensors:
        """Geometry of a rig."""
        if rig not in self._cameras:
            self._cameras[rig] = CameraTensors.from_rig(rig).to(self._device)
        return self._cameras[rig]

    def survey(self, requests: Sequence[Request], layout: bool) -> Survey:
        """Draw sessions with equally many cameras. Without layout, depth is what the last committed frames let foresee."""
        seen = [r.frames if layout else [replace(f, agents=()) for f in r.frames] for r in requests]
        boxes = self._tensor([[user_boxes(frame) for frame in frames] for frames in seen])
        if not layout:
            ahead = self._foreseen(requests)
            return Survey(None, ahead.depth, boxes, ahead.along)
        return Survey(*self._draw(requests), boxes)

    def history(self, requests: Sequence[Request], survey: Survey) -> History:
        """What the last committed frames show of the coming ones; axes [B, V, F, ...]."""
        memories = [request.memory for request in requests]
        moment = Moment(
            torch.stack([memory.source for memory in memories]).float() / 255,
            torch.stack([memory.source_depth for memory in memories]),
            torch.stack([memory.boxes for memory in memories]),
        )
        cameras = self.stacked(requests)
        history = carry(moment, survey.depth, self._poses(requests), cameras, survey.boxes, survey.along)
        history = replace(history, pictures=history.pictures.to(self._dtype))
        if survey.layout is None:
            return history
        air = Air.of([request.atmosphere for request in requests], self._device)
        return retouch(history, survey.layout, survey.depth, air)

    def build(self, requests: Sequence[Request], survey: Survey, history: History) -> Conditions:
        """Conditions of the sessions that were surveyed."""
        cameras = self.stacked(requests)
        carried = self._encode(history)[:, :, None] if self._config.dit.carried else None
        return Conditions(
            motion=torch.stack([self._motion(request) for request in requests])[:, None],
            rays=plucker(cameras),
            groups=torch.stack([group_indices([c.group for c in r.rig.cameras]) for r in requests]).to(
                self._device
            ),
            neighbours=cameras.neighbours,
            appearance=torch.stack([appearance_vector(r.atmosphere) for r in requests]).to(self._device),
            layout=None if survey.layout is None else survey.layout[:, :, None],
            history=history.raster[:, :, None],
            carried=carried,
        )

    def stacked(self, requests: Sequence[Request]) -> CameraTensors:
        """Geometry of the sessions' rigs, side by side."""
        return CameraTensors.stack([self.cameras(request.rig) for request in requests])

    def _draw(self, requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
        """Layouts [B, V, F, C, h, w] and depth [B, V, F, h, w], sessions of one rig together."""
        rasters: dict[int, Tensor] = {}
        depth: dict[int, Tensor] = {}
        for rig in dict.fromkeys(request.rig for request in requests):
            chosen = [i for i, request in enumerate(requests) if request.rig == rig]
            drawn = self._renderer(rig).render_batch(
                [(requests[i].world, requests[i].frames) for i in chosen]
            )
            for i, one in zip(chosen, drawn, strict=True):
                rasters[i] = torch.from_numpy(one.rasters).transpose(0, 1).to(self._device)
                depth[i] = torch.from_numpy(one.depth_m).transpose(0, 1).to(self._device)
        order = range(len(requests))
        return torch.stack([rasters[i] for i in order]), torch.stack([depth[i] for i in order])

    def ground(self, rig: Rig) -> Tensor:
        """Distance to flat ground, [V, h, w]: what is known of a session's depth before anything is seen."""
        return ground_depth(self.cameras(rig))

    def estimated(self, images: Tensor, rigs: Sequence[Rig]) -> Tensor:
        """Depth of images uint8 [B, V, 3, H, W] by what they look like: [B, V, h, w] metres."""
        cameras = CameraTensors.stack([self.cameras(rig) for rig in rigs])
        return self._depth.estimate(images.to(self._dtype) / 255, cameras)

    def _foreseen(self, requests: Sequence[Request]) -> Foresight:
        known = torch.stack([request.memory.source_depth for request in requests])
        return foreseen(known, self._poses(requests), self.stacked(requests))

    def _poses(self, requests: Sequence[Request]) -> Tensor:
        """Coming ego poses in the frame of the last commit, [B, F, 3]."""
        return self._tensor([poses_from(r.memory.anchor, r.frames) for r in requests])

    def _motion(self, request: Request) -> Tensor:
        memory = request.memory
        egos = [memory.last, *(frame.ego for frame in request.frames)]
        deltas = self._tensor([pose_delta(a, b) for a, b in pairwise(egos)])
        since = self._tensor(pose_delta(memory.anchor, memory.last))
        return motion_vector(deltas, since, torch.tensor(request.ahead, device=self._device))

    def _renderer(self, rig: Rig) -> LayoutRenderer:
        if rig not in self._renderers:
            self._renderers[rig] = LayoutRenderer(rig, device=self._device)
        return self._renderers[rig]

    def _tensor(self, values: Sequence[Any] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(values, np.float32)).to(self._device)


def poses_from(anchor: EgoState, frames: Sequence[SceneFrame]) -> np.ndarray:
    """Ego poses at some frames in the frame of another moment, float64 [F, 3]."""
    return np.stack([pose_delta(anchor, frame.ego) for frame in frames])
