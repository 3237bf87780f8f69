"""Road users as faces: a body, a cabin, wheels and lamps for vehicles; a shaped billboard for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldmodel.scene.state import AgentState

from . import faces
from .faces import Faces, Kind, placed, prism, upright

STRIDE_M = 1.5  # distance in which a person's legs swing through one cycle
PEDAL_M = 5.0
PERSON_WIDTH_M = 0.75  # of the billboard: room for arms and legs
PEOPLE = ("pedestrian", "cyclist")


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

_TRUCK_BED = (Kind.SIDE, Kind.SIDE, Kind.PAINT, Kind.REAR, Kind.PAINT)
_TRUCK_CAB = (Kind.SIDE, Kind.SIDE, Kind.FRONT, Kind.PAINT, Kind.PAINT)
_BUS = (Kind.BUS_SIDE, Kind.BUS_SIDE, Kind.FRONT, Kind.REAR, Kind.PAINT)

_PARTS: dict[str, tuple[Part, ...]] = {
    "car": (
        Part(prism((-0.5, 0.5), (-0.485, 0.47), (0.0, 0.58), (0.5, 0.485), (0.22, 0.47)), _BODY, (0.33, 0.19, 0.80)),
        Part(prism((-0.485, 0.22), (-0.33, 0.04), (0.58, 1.0), (0.485, 0.39)), _CABIN, (0.06, 0.92, 2.0)),
    ),
    "van": (
        Part(prism((-0.5, 0.5), (-0.5, 0.48), (0.0, 0.46), (0.5, 0.49), (0.38, 0.48)), _BODY, (0.36, 0.17, 0.80)),
        Part(prism((-0.5, 0.38), (-0.49, 0.22), (0.46, 1.0), (0.49, 0.46)), _CABIN, (0.10, 0.38, 1.0)),
    ),
    "truck": (
        Part(prism((-0.5, 0.28), (-0.5, 0.28), (0.0, 0.30), (0.46, 0.46), (0.27, 0.28)), _TRUCK_BED, (0.5, 0.06, 0.82), tint=0.45),
        Part(prism((-0.5, 0.27), (-0.5, 0.27), (0.30, 1.0), (0.5, 0.5)), _PLAIN, ()),
        Part(prism((0.29, 0.5), (0.30, 0.49), (0.0, 0.84), (0.48, 0.46)), _TRUCK_CAB, (0.5, 0.42, 9.0), (0.46, 0.0)),
    ),
    "bus": (
        Part(prism((-0.5, 0.5), (-0.5, 0.495), (0.0, 1.0), (0.5, 0.49)), _BUS, (0.48, 0.20, 0.74), (0.55, 0.40)),
    ),
}  # fmt: skip


def agent_faces(agents: Sequence[AgentState]) -> Faces:
    """All faces of all agents, kind by kind."""
    kinds = sorted({agent.kind for agent in agents})
    groups = ([agent for agent in agents if agent.kind == kind] for kind in kinds)
    return faces.concat(_people(group) if group[0].kind in PEOPLE else _vehicles(group) for group in groups)


def agent_boxes(agents: Sequence[AgentState]) -> Faces:
    """The bounding boxes of agents, five faces each (left, right, front, rear, top), for the layout.

    Attributes: heading in the world, braking, person.
    """
    if not agents:
        return faces.empty()
    values = [[agent.yaw_rad, agent.braking, agent.kind in PEOPLE] for agent in agents]
    return _repeated(agents, _UNIT_BOX, Kind.PAINT, _colors(agents), np.array(values, dtype=np.float32))


_UNIT_BOX = prism((-0.5, 0.5), (-0.5, 0.5), (0.0, 1.0), (0.5, 0.5))


def _vehicles(agents: Sequence[AgentState]) -> Faces:
    """Vehicles of one kind."""
    on = np.array([not agent.parked for agent in agents], dtype=np.float32)
    braking = np.array([agent.braking for agent in agents], dtype=np.float32)
    return faces.concat(_part(part, agents, braking, on) for part in _PARTS[agents[0].kind])


def _part(part: Part, agents: Sequence[AgentState], braking: np.ndarray, on: np.ndarray) -> Faces:
    """One tapered box of every vehicle: attributes float32 [A, 5 faces, 5] as `Kind` lists them."""
    values = np.zeros((len(agents), 5, faces.ATTRIBUTES), np.float32)
    values[:, 0, 0] = 1.0
    values[:, :2, 1 : 1 + len(part.sides)] = part.sides
    values[:, 2, 0], values[:, 2, 1] = part.ends[0], on
    values[:, 3, 0], values[:, 3, 1], values[:, 3, 2] = braking, part.ends[1], on
    return _repeated(agents, part.corners, part.kinds, _colors(agents) * part.tint, values)


def _repeated(
    agents: Sequence[AgentState],
    shares: np.ndarray,
    kinds: Kind | tuple[Kind, ...],
    color: np.ndarray,
    values: np.ndarray,
) -> Faces:
    """The same K faces for each of A agents: corners in shares of the agent's box, values [A, (K,) n]."""
    count = len(shares)
    size = np.array([[agent.length_m, agent.width_m, agent.height_m] for agent in agents])
    x, y, yaw = np.array([[agent.x_m, agent.y_m, agent.yaw_rad] for agent in agents]).T[..., None, None]
    corners = placed(shares * size[:, None, None], x, y, yaw)
    each = values if values.ndim == 3 else np.repeat(values[:, None], count, axis=1)
    return faces.make(
        corners.reshape(-1, 4, 3),
        np.tile(np.broadcast_to(np.asarray(kinds), (count,)), len(agents)),
        np.repeat(color, count, axis=0),
        each.reshape(len(agents) * count, -1),
        owner=np.repeat([agent.id for agent in agents], count),
    )


def _colors(agents: Sequence[AgentState]) -> np.ndarray:
    return np.array([agent.color_rgb for agent in agents], dtype=np.float32)


def _people(agents: Sequence[AgentState]) -> Faces:
    """A walker's legs follow the distance walked along the heading, so that they stop when the person stops."""
    cyclist = agents[0].kind == "cyclist"
    pose = np.array([[agent.x_m, agent.y_m, agent.yaw_rad] for agent in agents])
    walked = pose[:, 0] * np.cos(pose[:, 2]) + pose[:, 1] * np.sin(pose[:, 2])
    phase = (2 * np.pi * walked / (PEDAL_M if cyclist else STRIDE_M)) % (2 * np.pi)
    corners = [upright(a.x_m, a.y_m, max(a.width_m, PERSON_WIDTH_M), 0.0, a.height_m) for a in agents]
    return faces.make(
        np.stack(corners),
        Kind.CYCLIST if cyclist else Kind.PEDESTRIAN,
        _colors(agents),
        np.stack([phase, [agent.id % 97 for agent in agents]], axis=1),
        billboard=True,
        owner=np.array([agent.id for agent in agents]),
    )
