"""The reference renderer: camera frames of a scene, exact and repeatable, on a CPU or a GPU.

One geometry pass per block of snapshots; a snapshot is one scene at one time, seen by all cameras. On a CPU a block is
one snapshot, so that it stays in the cache; on a GPU it is all of them. A frame never depends on its block.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldmodel.rig import Rig
from worldmodel.scene.state import Atmosphere, EgoState, SceneFrame
from worldmodel.scene.world import StaticWorld

from . import faces
from .agent_faces import agent_faces
from .faces import Faces
from .gbuffer import FARTHEST_M, geometry, to_tensors
from .ground import build_ground_view, ground_textures
from .light import light_of
from .lightmap import LightMap, build_light_map
from .looks import Look, look_of
from .shade import blend_faces, build_ground_shade, shade_ground
from .shadows import shadow_faces, shadow_map
from .sky import build_sky_view, panorama
from .structure_faces import signal_faces, structure_faces
from .view import build_view
from .weak_cache import WeakCache

URBAN_BUILDINGS = 16

Shot = tuple[StaticWorld, Atmosphere, Sequence[SceneFrame]]

_static_faces: WeakCache[Faces] = WeakCache()
_light_maps: WeakCache[LightMap] = WeakCache(keep=2)
_panoramas: WeakCache[Tensor] = WeakCache(keep=2)


@dataclass(frozen=True)
class Snapshot:
    """One scene at one time."""

    world: StaticWorld
    atmosphere: Atmosphere
    frame: SceneFrame


class ReferenceRenderer:
    """Renders the cameras of one rig. The ego's own body is not drawn."""

    def __init__(self, rig: Rig, device: torch.device | str = "cpu", block: int | None = None) -> None:
        """`block` is how many snapshots are rendered at once; None suits the device."""
        self.rig = rig
        self.device = torch.device(device)
        self.block = block or (1 if self.device.type == "cpu" else 64)
        self.view = build_view(rig, device)
        self.ground = build_ground_view(self.view)
        self.ground_shade = build_ground_shade(self.view, self.ground)
        self.sky = build_sky_view(self.view, self.ground.slot)

    def render(self, world: StaticWorld, atmosphere: Atmosphere, frames: Sequence[SceneFrame]) -> np.ndarray:
        """All cameras at all frames of one scene: uint8 [V, F, H, W, 3] RGB."""
        return self.render_batch([(world, atmosphere, frames)])[0]

    @torch.inference_mode()
    def render_batch(self, shots: Sequence[Shot]) -> list[np.ndarray]:
        """Several scenes at once: for each uint8 [V, F, H, W, 3]."""
        snapshots = [
            Snapshot(world, atmosphere, frame) for world, atmosphere, frames in shots for frame in frames
        ]
        images = [self._render_block(block) for block in _blocks(snapshots, self.block)]
        rendered = torch.cat(images).cpu().numpy() if images else np.zeros((0, 0, 0, 0, 3), np.uint8)
        ends = np.cumsum([len(frames) for _, _, frames in shots])
        return [np.ascontiguousarray(part.swapaxes(0, 1)) for part in np.split(rendered, ends[:-1])]

    def _render_block(self, block: Sequence[Snapshot]) -> Tensor:
        """uint8 [N, V, H, W, 3]."""
        looks = [look_of(snapshot.atmosphere) for snapshot in block]
        poses = pose_tensor([snapshot.frame.ego for snapshot in block], self.device)
        canvas = self._background(block, looks, poses)
        solid = to_tensors([scene_faces(s.world, s.frame) for s in block], poses)
        buffer = geometry(self.view, solid, len(block))
        blend_faces(self.view, buffer, light_of(looks, poses), canvas.view(3, -1))
        pixels = canvas.add_(0.5).clamp_(0, 255).to(torch.uint8)
        return self.view.to_images(pixels).permute(1, 2, 3, 4, 0).contiguous()

    def _background(self, block: Sequence[Snapshot], looks: list[Look], poses: Tensor) -> Tensor:
        """Ground and sky, float32 [3, N, slots]; scene by scene, as each has textures of its own."""
        canvas = torch.empty(3, len(block), self.view.slots, device=self.device)
        casting = [
            shadow_faces(s.frame.agents, look, s.frame.ego.x_m, s.frame.ego.y_m)
            for s, look in zip(block, looks, strict=True)
        ]
        shadow = shadow_map(self.view, casting, poses)
        for run in _same_scene(block):
            first, look = block[run.start], looks[run.start]
            world, pose = first.world, poses[run]
            color = shade_ground(
                self.ground,
                self.ground_shade,
                ground_textures(world, self.device).colour,
                self._light_map(world, first.atmosphere, look),
                look,
                pose,
                shadow[run].index_select(1, self.ground.slot),
            )
            canvas[:, run].index_copy_(2, self.ground.slot, color)
            canvas[:, run].index_copy_(
                2, self.sky.slot, self.sky.sample(self._panorama(world, first.atmosphere, look), pose)
            )
        return canvas

    def _light_map(self, world: StaticWorld, atmosphere: Atmosphere, look: Look) -> LightMap:
        return _light_maps.get(
            world, (atmosphere, str(self.device)), lambda: build_light_map(world, look, self.device)
        )

    def _panorama(self, world: StaticWorld, atmosphere: Atmosphere, look: Look) -> Tensor:
        def make() -> Tensor:
            urban = sum(s.kind == "building" for s in world.structures) >= URBAN_BUILDINGS
            return torch.as_tensor(
                panorama(look, urban, zlib.crc32(world.name.encode()) % 1000), device=self.device
            )

        return _panoramas.get(world, (atmosphere, str(self.device)), make)


def scene_faces(world: StaticWorld, frame: SceneFrame) -> Faces:
    """Everything that stands near the ego at one time."""
    static = _static_faces.get(world, "faces", lambda: structure_faces(world))
    ego = np.array([frame.ego.x_m, frame.ego.y_m])
    offset = static.corners[:, :, :2] - ego.astype(np.float32)
    near = (np.abs(offset).min(axis=1) < FARTHEST_M).all(axis=1)
    parts = [static.select(near), signal_faces(world.lights, frame.lights), agent_faces(frame.agents)]
    return faces.concat(parts)


def pose_tensor(egos: Sequence[EgoState], device: torch.device) -> Tensor:
    """float32 [N, 4]: x, y, cos yaw, sin yaw."""
    rows = [[ego.x_m, ego.y_m, np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)] for ego in egos]
    return torch.tensor(np.array(rows).reshape(-1, 4), dtype=torch.float32, device=device)


def _blocks(snapshots: Sequence[Snapshot], size: int) -> Iterator[Sequence[Snapshot]]:
    for start in range(0, len(snapshots), size):
        yield snapshots[start : start + size]


def _same_scene(block: Sequence[Snapshot]) -> Iterator[slice]:
    """Runs of neighbouring snapshots with one world and one atmosphere."""
    start = 0
    for k in range(1, len(block) + 1):
        if (
            k == len(block)
            or block[k].world is not block[start].world
            or block[k].atmosphere != block[start].atmosphere
        ):
            yield slice(start, k)
            start = k
