"""Layout rasters from the geometry pass of the reference renderer, at a quarter of the camera's resolution.

Road users are their bounding boxes here; structures and the ground are what the renderer draws. What is hidden in the
picture is hidden in the layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.reference import faces
from worldmodel.reference.agent_faces import agent_boxes
from worldmodel.reference.gbuffer import GBuffer, geometry
from worldmodel.reference.ground import build_ground_view, ground_textures
from worldmodel.reference.paint import MARK_CHANNELS
from worldmodel.reference.pairs import to_tensors
from worldmodel.reference.snapshot import pose_tensor, runs_of, standing_faces
from worldmodel.reference.view import build_view
from worldmodel.rig import Rig
from worldmodel.scene.state import SceneFrame
from worldmodel.scene.world import StaticWorld

from .channels import CHANNELS, GRID_PERIOD_M, INDEX, INFINITY_M, NEAR_M, Layout
from .face_values import face_values

LayoutShot = tuple[StaticWorld, Sequence[SceneFrame]]


@dataclass(frozen=True)
class _Snapshot:
    world: StaticWorld
    frame: SceneFrame


class LayoutRenderer:
    """Layouts for the cameras of one rig."""

    def __init__(
        self, rig: Rig, stride: int = 4, device: torch.device | str = "cpu", block: int | None = None
    ) -> None:
        """`stride` is camera pixels per layout pixel; `block` is how many snapshots are done at once.

        Raises:
            ValueError: the camera size is not a multiple of the stride.
        """
        if rig.height % stride or rig.width % stride:
            raise ValueError(
                f"expected a camera size that is a multiple of {stride}, got {rig.height}x{rig.width}"
            )
        self.rig = rig.scaled(rig.height // stride, rig.width // stride)
        self.device = torch.device(device)
        self.block = block or (4 if self.device.type == "cpu" else 256)
        self.view = build_view(self.rig, device)
        self.ground = build_ground_view(self.view)
        self.ground_depth = torch.full((self.view.slots,), INFINITY_M, device=self.device)
        self.ground_depth[self.ground.slot] = self.ground.distance

    def render(self, world: StaticWorld, frames: Sequence[SceneFrame]) -> Layout:
        """Layouts of one scene."""
        return self.render_batch([(world, frames)])[0]

    @torch.inference_mode()
    def render_batch(self, shots: Sequence[LayoutShot]) -> list[Layout]:
        """Layouts of several scenes at once."""
        snapshots = [_Snapshot(world, frame) for world, frames in shots for frame in frames]
        blocks = [snapshots[k : k + self.block] for k in range(0, len(snapshots), self.block)]
        parts = [self._render_block(block) for block in blocks]
        rasters = torch.cat([rasters for rasters, _ in parts]).cpu().numpy()
        depth = torch.cat([depth for _, depth in parts]).cpu().numpy()
        ends = np.cumsum([len(frames) for _, frames in shots])[:-1]
        return [Layout(*pair) for pair in zip(np.split(rasters, ends), np.split(depth, ends), strict=True)]

    def _render_block(self, block: Sequence[_Snapshot]) -> tuple[Tensor, Tensor]:
        """float32 [N, V, C, h, w] and [N, V, h, w]."""
        poses = pose_tensor([snapshot.frame.ego for snapshot in block], self.device)
        face_sets = [
            faces.concat([standing_faces(s.world, s.frame), agent_boxes(s.frame.agents)]) for s in block
        ]
        buffer = geometry(self.view, to_tensors(face_sets, poses), len(block))
        rasters = self._ground_rasters(block, poses)
        depth = self.ground_depth.repeat(len(block))
        rasters[INDEX["inverse_depth"]] = (NEAR_M / depth).clamp(max=1.0).view(len(block), -1)
        flat = rasters.view(len(CHANNELS), -1)
        covered = torch.zeros_like(depth)
        for layer in buffer.layers:
            covered.index_add_(0, layer.pixel, layer.coverage)
        flat.mul_(1 - covered)
        for layer in buffer.layers:
            values = face_values(self.view, buffer.pairs, layer, poses)
            for name, value in values.items():
                flat[INDEX[name]].index_add_(0, layer.pixel, value * layer.coverage)
        depth = _nearest_depth(buffer, depth)
        return (
            self.view.to_images(rasters).permute(1, 2, 0, 3, 4).contiguous(),
            self.view.to_images(depth.view(len(block), -1)).contiguous(),
        )

    def _ground_rasters(self, block: Sequence[_Snapshot], poses: Tensor) -> Tensor:
        """float32 [C, N, slots]: marks, road and grid, as if nothing stood on the ground."""
        rasters = torch.zeros(len(CHANNELS), len(block), self.view.slots, device=self.device)
        slot = self.ground.slot
        for run in runs_of([snapshot.world for snapshot in block]):
            textures, pose = ground_textures(run.world, self.device), poses[run.rows]
            marks = self.ground.sample(textures.marks, pose).mul_(1 / 255)
            for name, mark in zip(MARK_CHANNELS, marks, strict=True):
                rasters[INDEX[name], run.rows].index_copy_(1, slot, mark)
            road = self.ground.sample(textures.colour, pose)[3].mul_(1 / 255)
            rasters[INDEX["road"], run.rows].index_copy_(1, slot, road)
        fade = (1 - self.ground.footprint_m * (2 / GRID_PERIOD_M)).clamp_min(0.0)
        for axis, position in zip("xy", self.ground.world(poses), strict=True):
            phase = position * (2 * np.pi / GRID_PERIOD_M)
            rasters[INDEX[f"ground_sin_{axis}"]].index_copy_(1, slot, phase.sin() * fade)
            rasters[INDEX[f"ground_cos_{axis}"]].index_copy_(1, slot, phase.cos() * fade)
        return rasters


def _nearest_depth(buffer: GBuffer, background: Tensor) -> Tensor:
    """Distance to what covers at least half of each pixel, counted from the front."""
    depth, covered = background.clone(), torch.zeros_like(background)
    for layer in buffer.layers:
        before = covered[layer.pixel]
        covered[layer.pixel] = before + layer.coverage
        decides = (before < 0.5) & (before + layer.coverage >= 0.5)
        depth[layer.pixel[decides]] = layer.distance[decides]
    return depth
