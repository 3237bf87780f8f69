"""From geometry to colours: the ground and the sky first, then the faces over them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .gbuffer import GBuffer, Layer, rays_of
from .ground import GroundView
from .light import HEADLIGHT_RGB, LAMPS_ON, STREET_LAMP_RGB, Light, haze_share, headlight
from .lightmap import LightMap
from .looks import Look
from .pairs import Pairs
from .surfaces import shade_layer
from .texture import PagedTexture
from .view import PIXELS, View


@dataclass(frozen=True, eq=False)
class GroundShade:
    """Constants of the ground's light per pixel of a view."""

    headlight: Tensor  # float32 [P]
    mirror: Tensor  # float32 [P] share of the sky that a wet road mirrors


def build_ground_shade(view: View, ground: GroundView) -> GroundShade:
    """The ego's head lamps and the grazing angle are constants of the rig."""
    height = view.position[:, 2].repeat_interleave(view.tiles * PIXELS)[ground.slot]
    down = height / ground.distance
    return GroundShade(headlight(ground.x, ground.y, 0.0), 0.06 + 0.60 * (1 - down.clamp(0, 1)) ** 5)


def shade_ground(
    ground: GroundView,
    constants: GroundShade,
    texture: PagedTexture,
    light_map: LightMap,
    look: Look,
    pose: Tensor,
    shadow: Tensor,
) -> Tensor:
    """Colours float32 [3, N, P] of the ground.

    Args:
        ground: P pixels.
        constants: of the same view.
        texture: the world's colours.
        light_map: the world's static light under this look.
        look: one for all N snapshots.
        pose: [N, 4].
        shadow: darkness [N, P] thrown by road users.
    """
    sampled = ground.sample(texture, pose)
    color, paved = sampled[:3], sampled[3].mul_(1 / 255)
    sun, lamps = light_map.sample(*ground.world(pose))
    contact = sun.clamp(max=0.5).mul_(0.3).add_(0.85)  # 1 in the open, less beside structures and in shadow
    dark = (1 - shadow).mul_(1 - 0.32 * look.wet * paved)
    mirror = paved * (constants.mirror * look.wet)
    haze = haze_share(ground.distance, look.haze_per_m)
    for k in range(3):
        lit = contact * look.ambient[k]
        lit.add_(sun, alpha=look.sun[k] * look.sun_direction[2])
        if lamps is not None:
            lit.add_(lamps, alpha=0.85 * look.lamps * STREET_LAMP_RGB[k])
            lit.add_(constants.headlight * (0.95 * look.lamps * HEADLIGHT_RGB[k]))
        color[k].mul_(lit.mul_(dark))
        color[k].add_((look.horizon[k] * 0.92 - color[k]).mul_(mirror))
        color[k].add_((look.horizon[k] - color[k]).mul_(haze))
    return color


def blend_faces(view: View, buffer: GBuffer, light: Light, canvas: Tensor) -> None:
    """Draw all layers over the canvas [3, snapshots * slots], in place."""
    pairs = buffer.pairs
    on_pairs = light.at(pairs.snapshot).on_faces(pairs.normal, pairs.billboard)
    covered = torch.zeros_like(canvas[0])
    for layer in buffer.layers:
        covered.index_add_(0, layer.pixel, layer.coverage)
    canvas.mul_(1 - covered)
    for layer in buffer.layers:
        color = _layer_color(view, pairs, layer, light, on_pairs)
        canvas.index_add_(1, layer.pixel, color.mul_(layer.coverage))


def _layer_color(view: View, pairs: Pairs, layer: Layer, light: Light, on_pairs: Tensor) -> Tensor:
    """Lit and hazed colours [3, P]."""
    color, glow = shade_layer(pairs, layer, light)
    at = light.at(pairs.snapshot, layer.pair)
    lit = on_pairs.index_select(1, layer.pair)
    if bool((light.lamps > LAMPS_ON).any()):
        lit.add_(_headlights(view, layer, at))
    color.mul_(lit)
    color.mul_(1 - (glow.amax(0) * (0.9 / 255)).clamp_(0, 1)).add_(glow)
    return at.haze(color, layer.distance)


def _headlights(view: View, layer: Layer, light: Light) -> Tensor:
    """The ego's head lamps on faces, [3, P]."""
    ray, camera = rays_of(view, layer.slot), layer.slot // (view.tiles * PIXELS)
    x, y, z = (layer.distance * ray[k] + view.position[:, k].index_select(0, camera) for k in range(3))
    strength = headlight(x, y, z) * light.lamps * (light.lamps > LAMPS_ON)
    return strength.new_tensor(HEADLIGHT_RGB)[:, None] * strength
