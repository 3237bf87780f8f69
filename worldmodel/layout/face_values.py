"""What a face writes into the layout, channel by channel."""

import torch
from torch import Tensor

from worldmodel.reference.faces import STATIC_OWNER, Kind
from worldmodel.reference.gbuffer import Layer, edge_pixels
from worldmodel.reference.pairs import Pairs
from worldmodel.reference.view import View

from .channels import NEAR_M

EDGE_PIXELS = 1.5  # a line of about one pixel along every edge


def face_values(view: View, pairs: Pairs, layer: Layer, poses: Tensor) -> dict[str, Tensor]:
    """Values [P] of one layer's pixels by channel name; channels that faces never write are absent.

    What depends on the face alone is worked out per pair and then looked up.
    """
    edge = (EDGE_PIXELS - edge_pixels(view, pairs, layer)).clamp_(0.0, 1.0)
    inverse = (NEAR_M / layer.distance).clamp_(max=1.0)
    static = (pairs.owner == STATIC_OWNER).float()
    constant = _agent(pairs, poses, 1 - static) | _structure(pairs, static) | _signal(pairs) | _color(pairs)
    values = {name: value.index_select(0, layer.pair) for name, value in constant.items()}
    for name in ("vehicle_edge", "pedestrian_edge"):
        values[name].mul_(edge)
    filled = values.pop("filled")
    values["static_edge"].mul_(torch.maximum(edge, filled))
    values["agent_depth"].mul_(inverse)
    return values | {"inverse_depth": inverse} | _facade(pairs, layer)


def _agent(pairs: Pairs, poses: Tensor, agent: Tensor) -> dict[str, Tensor]:
    """Attributes of a box: heading in the world, braking, person (see `agent_boxes`)."""
    heading, braking, person = pairs.attributes[:3]
    ego_cos, ego_sin = poses[pairs.snapshot, 2], poses[pairs.snapshot, 3]
    cos, sin = torch.cos(heading), torch.sin(heading)
    return {
        "vehicle_edge": agent * (1 - person),
        "pedestrian_edge": agent * person,
        "agent_depth": agent,
        "braking": agent * braking,
        "heading_cos": agent * (cos * ego_cos + sin * ego_sin),
        "heading_sin": agent * (sin * ego_cos - cos * ego_sin),
    }


def _structure(pairs: Pairs, static: Tensor) -> dict[str, Tensor]:
    """Thin and shaped things are drawn whole and have no orientation."""
    flat = static * ~pairs.billboard
    return {
        "static_edge": static,
        "filled": (pairs.shaped | pairs.billboard).float(),
        "static_nx": flat * pairs.normal[0],
        "static_ny": flat * pairs.normal[1],
    }


def _signal(pairs: Pairs) -> dict[str, Tensor]:
    """0 red, 1 yellow, 2 green; yellow is both."""
    head, state = (pairs.kind == Kind.SIGNAL).float(), pairs.attributes[0]
    return {"light_red": head * (state < 1.5), "light_green": head * (state > 0.5)}


def _color(pairs: Pairs) -> dict[str, Tensor]:
    """A new car comes into sight in its own colour, a house keeps the one it has."""
    red, green, blue = pairs.color / 255
    return {"color_red": red, "color_green": green, "color_blue": blue}


def _facade(pairs: Pairs, layer: Layer) -> dict[str, Tensor]:
    """Phase of the windows, faded where a window is less than two pixels wide."""
    values = {name: torch.zeros_like(layer.u) for name in ("facade_sin", "facade_cos")}
    for kind, run in layer.kinds:
        if kind == Kind.FACADE:
            pitch = pairs.attributes[1].index_select(0, layer.pair[run])
            fade = (1 - layer.footprint_u[run] * 2 / pitch).clamp_min_(0.0)
            phase = layer.u[run] * (2 * torch.pi / pitch)
            values["facade_sin"][run], values["facade_cos"][run] = fade * phase.sin(), fade * phase.cos()
    return values
