"""What faces look like, by kind: surface colour and own light. Colours are planar float32 [3, P], 0..255."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import street_surfaces, vehicle_surfaces
from .faces import Kind
from .gbuffer import Layer
from .light import Light
from .pairs import Pairs
from .samples import Samples

Surface = Callable[[Samples], tuple[Tensor, Tensor | None]]


def shade_layer(pairs: Pairs, layer: Layer, light: Light) -> tuple[Tensor, Tensor]:
    """Colour and own light, each [3, P], of all samples of a layer."""
    color = torch.empty(3, len(layer.pixel), device=layer.u.device)
    glow = torch.zeros_like(color)
    for kind, run in layer.kinds:
        at = light.at(pairs.snapshot, layer.pair[run])
        u, v, fu, fv = layer.u[run], layer.v[run], layer.footprint_u[run], layer.footprint_v[run]
        samples = Samples(pairs, layer.pair[run], u, v, fu, fv, at.lamps, at.horizon)
        color[:, run], own = _SURFACES[Kind(kind)](samples)
        if own is not None:
            glow[:, run] = own
    return color, glow


_SURFACES: dict[Kind, Surface] = {
    Kind.PAINT: vehicle_surfaces.paint,
    Kind.SIDE: vehicle_surfaces.side,
    Kind.FRONT: vehicle_surfaces.front,
    Kind.REAR: vehicle_surfaces.rear,
    Kind.GLASS_SIDE: vehicle_surfaces.glass_side,
    Kind.GLASS: vehicle_surfaces.glass,
    Kind.BUS_SIDE: vehicle_surfaces.bus_side,
    Kind.FACADE: street_surfaces.facade,
    Kind.ROOF: street_surfaces.roof,
    Kind.WALL: street_surfaces.wall,
    Kind.HEDGE: street_surfaces.hedge,
    Kind.LAMP_HEAD: street_surfaces.lamp_head,
    Kind.SIGNAL: street_surfaces.signal,
    Kind.SIGNAL_BACK: vehicle_surfaces.paint,
    Kind.POLE: vehicle_surfaces.paint,
    Kind.RAIL: street_surfaces.rail,
    Kind.POSTS: street_surfaces.posts,
    Kind.TREE: street_surfaces.tree,
    Kind.CONIFER: street_surfaces.tree,
    Kind.PEDESTRIAN: street_surfaces.person,
    Kind.CYCLIST: street_surfaces.person,
    Kind.SIGN: street_surfaces.sign,
}
