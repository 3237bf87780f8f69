"""The reference renderer: camera frames of a scene, exact and repeatable, on a CPU or a GPU.

One geometry pass per block of snapshots; a snapshot is one scene at one time, seen by all cameras. On a CPU a block is
one snapshot, so that it stays in the cache; on a GPU it is all of them. A frame never depends on its block.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldmodel.rig import Rig
from worldmodel.scene.state import Atmosphere, SceneFrame
from worldmodel.scene.world import StaticWorld

from . import faces
from .agent_faces import agent_faces
from .background import Background
from .gbuffer import geometry
from .light import light_of
from .looks import look_of
from .pairs import to_tensors
from .shade import blend_faces
from .snapshot import pose_tensor, standing_faces
from .view import build_view

CPU_BLOCK, GPU_BLOCK = 1, 64

Shot = tuple[StaticWorld, Atmosphere, Sequence[SceneFrame]]
Snapshot = tuple[StaticWorld, Atmosphere, SceneFrame]


class ReferenceRenderer:
    """Renders the cameras of one rig. The ego's own body is not drawn."""

    def __init__(self, rig: Rig, device: torch.device | str = "cpu", block: int | None = None) -> None:
        """`block` is how many snapshots are rendered at once; None suits the device."""
        self.rig = rig
        self.device = torch.device(device)
        self.block = block or (CPU_BLOCK if self.device.type == "cpu" else GPU_BLOCK)
        self.view = build_view(rig, device)
        self.background = Background(self.view)

    def render(self, world: StaticWorld, atmosphere: Atmosphere, frames: Sequence[SceneFrame]) -> np.ndarray:
        """All cameras at all frames of one scene: uint8 [V, F, H, W, 3] RGB."""
        return self.render_batch([(world, atmosphere, frames)])[0]

    @torch.inference_mode()
    def render_batch(self, shots: Sequence[Shot]) -> list[np.ndarray]:
        """Several scenes at once: for each uint8 [V, F, H, W, 3]."""
        snapshots = [(world, atmosphere, frame) for world, atmosphere, frames in shots for frame in frames]
        if not snapshots:
            raise ValueError("expected at least one frame to render, got none")
        starts = range(0, len(snapshots), self.block)
        images = torch.cat([self._render_block(snapshots[k : k + self.block]) for k in starts])
        ends = np.cumsum([len(frames) for _, _, frames in shots])[:-1]
        parts = np.split(images.cpu().numpy(), ends)
        return [np.ascontiguousarray(part.swapaxes(0, 1)) for part in parts]

    def _render_block(self, block: Sequence[Snapshot]) -> Tensor:
        """uint8 [N, V, H, W, 3]."""
        worlds, atmospheres, frames = zip(*block, strict=True)
        poses = pose_tensor([frame.ego for frame in frames], self.device)
        canvas = self.background.draw(worlds, atmospheres, frames, poses)
        standing = [
            faces.concat([standing_faces(world, frame), agent_faces(frame.agents)])
            for world, _, frame in block
        ]
        buffer = geometry(self.view, to_tensors(standing, poses), len(block))
        light = light_of([look_of(atmosphere) for atmosphere in atmospheres], poses)
        blend_faces(self.view, buffer, light, canvas.view(3, -1))
        pixels = canvas.add_(0.5).clamp_(0, 255).to(torch.uint8)
        return self.view.to_images(pixels).permute(1, 2, 3, 4, 0).contiguous()
