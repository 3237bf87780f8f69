"""Road users as faces: a body, a cabin, wheels and lamps for vehicles; a shaped billboard for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodel.scene.state import AgentState

from . import faces
from .faces import Faces, Kind, placed, prism, upright

STRIDE_M = 1.5  # distance in which a person's legs swing through one cycle
PEDAL_M = 5.0


@dataclass(frozen=True)
class Part:
    """One tapered box of a vehicle, in shares of its length, width and height (x from -0.5 to 0.5)."""

    corners: np.ndarray  # [5, 4, 3]
    kinds: tuple[Kind, Kind, Kind, Kind, Kind]  # left, right, front, rear, top
    sides: tuple[float, ...]  # attributes of the sides after `flip`
    ends: tuple[float, float] = (0.0, 0.0)  # share of the front and of the rear that is glass
    tint: float = 1.0  # multiplies the vehicle's colour


_PLAIN = (Kind.PAINT,) * 5
_BODY = (Kind.SIDE, Kind.SIDE, Kind.FRONT, Kind.REAR, Kind.PAINT)
_CABIN = (Kind.GLASS_SIDE, Kind.GLASS_SIDE, Kind.GLASS, Kind.GLASS, Kind.PAINT)

_PARTS: dict[str, tuple[Part, ...]] = {
    "car": (
        Part(prism((-0.5, 0.5), (-0.485, 0.47), (0.0, 0.58), (0.5, 0.485)), _BODY, (0.33, 0.19, 0.80)),
        Part(prism((-0.46, 0.22), (-0.32, 0.04), (0.58, 1.0), (0.475, 0.39)), _CABIN, (0.06, 0.92, 2.0)),
    ),
    "van": (
        Part(prism((-0.5, 0.5), (-0.5, 0.48), (0.0, 0.46), (0.5, 0.49)), _BODY, (0.36, 0.17, 0.80)),
        Part(
            prism((-0.5, 0.38), (-0.49, 0.22), (0.46, 1.0), (0.49, 0.46)),
            (Kind.GLASS_SIDE, Kind.GLASS_SIDE, Kind.GLASS, Kind.GLASS, Kind.PAINT),
            (0.10, 0.38, 1.0),
        ),
    ),
    "truck": (
        Part(prism((-0.5, 0.28), (-0.5, 0.28), (0.0, 0.30), (0.46, 0.46)), (Kind.SIDE, Kind.SIDE, Kind.PAINT, Kind.REAR, Kind.PAINT), (0.5, 0.06, 0.82), tint=0.45),
        Part(prism((-0.5, 0.27), (-0.5, 0.27), (0.30, 1.0), (0.5, 0.5)), _PLAIN, ()),
        Part(prism((0.29, 0.5), (0.30, 0.49), (0.0, 0.84), (0.48, 0.46)), (Kind.SIDE, Kind.SIDE, Kind.FRONT, Kind.PAINT, Kind.PAINT), (0.5, 0.42, 9.0), (0.46, 0.0)),
    ),
    "bus": (
        Part(prism((-0.5, 0.5), (-0.5, 0.495), (0.0, 1.0), (0.5, 0.49)), (Kind.BUS_SIDE, Kind.BUS_SIDE, Kind.FRONT, Kind.REAR, Kind.PAINT), (0.48, 0.20, 0.74), (0.55, 0.40)),
    ),
}  # fmt: skip


def agent_faces(agents: Sequence[AgentState]) -> Faces:
    """All faces of all agents."""
    return faces.concat(
        _person(agent) if agent.kind in ("pedestrian", "cyclist") else _vehicle(agent) for agent in agents
    )


def agent_boxes(agents: Sequence[AgentState]) -> Faces:
    """The bounding boxes of agents, five faces each (left, right, front, rear, top), for the layout."""
    return faces.concat(
        faces.make(_solid(_UNIT_BOX, agent), Kind.PAINT, agent.color_rgb, owner=agent.id) for agent in agents
    )


_UNIT_BOX = prism((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), (0.5, 0.5))


def _solid(shares: np.ndarray, agent: AgentState) -> np.ndarray:
    scaled = shares * np.array([agent.length_m, agent.width_m, agent.height_m])
    return placed(scaled, agent.x_m, agent.y_m, agent.yaw_rad)


def _vehicle(agent: AgentState) -> Faces:
    braking = float(agent.braking)
    return faces.concat(
        faces.make(
            _solid(part.corners, agent),
            part.kinds,
            np.array(agent.color_rgb) * part.tint,
            np.array(
                [
                    _padded(1.0, *part.sides),
                    _padded(0.0, *part.sides),
                    _padded(part.ends[0], 0.0 if agent.parked else 1.0),
                    _padded(braking, part.ends[1], 0.0 if agent.parked else 1.0),
                    _padded(),
                ]
            ),
            owner=agent.id,
        )
        for part in _PARTS[agent.kind]
    )


def _padded(*values: float) -> list[float]:
    return [*values, *[0.0] * (faces.ATTRIBUTES - len(values))]


def _person(agent: AgentState) -> Faces:
    """A walker's legs follow the distance walked along the heading, so that they stop when the person stops."""
    walked = agent.x_m * np.cos(agent.yaw_rad) + agent.y_m * np.sin(agent.yaw_rad)
    cyclist = agent.kind == "cyclist"
    phase = 2 * np.pi * walked / (PEDAL_M if cyclist else STRIDE_M)
    width = max(agent.width_m, 0.7) if not cyclist else max(agent.width_m, 0.8)
    return faces.make(
        upright(agent.x_m, agent.y_m, width, 0.0, agent.height_m)[None],
        Kind.CYCLIST if cyclist else Kind.PEDESTRIAN,
        agent.color_rgb,
        (float(phase % (2 * np.pi)), float(agent.id % 97), agent.yaw_rad),
        billboard=True,
        owner=agent.id,
    )
