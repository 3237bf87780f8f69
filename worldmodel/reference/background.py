"""Ground and sky of a view, with everything about a world and its weather that is made once and kept."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from worldmodel.scene.state import Atmosphere, SceneFrame
from worldmodel.scene.world import StaticWorld

from .ground import build_ground_view, ground_textures
from .lightmap import LightMap, build_light_map
from .looks import Look, look_of
from .shade import build_ground_shade, shade_ground
from .shadows import shadow_faces, shadow_map
from .sky import build_sky_view, panorama
from .snapshot import runs_of
from .view import View
from .weak_cache import WeakCache

URBAN_BUILDINGS = 16

_light_maps: WeakCache[LightMap] = WeakCache(keep=2)
_panoramas: WeakCache[Tensor] = WeakCache(keep=2)


class Background:
    """What lies behind all faces, for one view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.ground = build_ground_view(view)
        self.ground_shade = build_ground_shade(view, self.ground)
        self.sky = build_sky_view(view, self.ground.slot)

    def draw(
        self,
        worlds: Sequence[StaticWorld],
        atmospheres: Sequence[Atmosphere],
        frames: Sequence[SceneFrame],
        poses: Tensor,
    ) -> Tensor:
        """Colours of N snapshots, float32 [3, N, slots]. Each run of one scene uses that scene's textures."""
        canvas = torch.empty(3, len(frames), self.view.slots, device=self.view.device)
        looks = [look_of(atmosphere) for atmosphere in atmospheres]
        casting = [shadow_faces(frame, look) for frame, look in zip(frames, looks, strict=True)]
        shadow = shadow_map(self.view, casting, poses)
        for run in runs_of(worlds, atmospheres):
            atmosphere, look, part = atmospheres[run.rows.start], looks[run.rows.start], canvas[:, run.rows]
            ground = self._ground(run.world, atmosphere, look, poses[run.rows], shadow[run.rows])
            part.index_copy_(2, self.ground.slot, ground)
            sky = self.sky.sample(self._panorama(run.world, atmosphere, look), poses[run.rows])
            part.index_copy_(2, self.sky.slot, sky)
        return canvas

    def _ground(
        self, world: StaticWorld, atmosphere: Atmosphere, look: Look, pose: Tensor, shadow: Tensor
    ) -> Tensor:
        device = self.view.device
        light_map = _light_maps.get(
            world, (atmosphere, str(device)), lambda: build_light_map(world, look, device)
        )
        return shade_ground(
            self.ground,
            self.ground_shade,
            ground_textures(world, device).colour,
            light_map,
            look,
            pose,
            shadow.index_select(1, self.ground.slot),
        )

    def _panorama(self, world: StaticWorld, atmosphere: Atmosphere, look: Look) -> Tensor:
        def make() -> Tensor:
            urban = sum(s.kind == "building" for s in world.structures) >= URBAN_BUILDINGS
            seed = zlib.crc32(world.name.encode()) % 1000
            return torch.as_tensor(panorama(look, urban, seed), device=self.view.device)

        return _panoramas.get(world, (atmosphere, str(self.view.device)), make)
