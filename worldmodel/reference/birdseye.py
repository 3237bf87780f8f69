"""The scene from above, with the ego in the middle and its heading up: for people, not for models."""

from collections.abc import Mapping

import cv2
import numpy as np

from ..scene.checks import ego_box
from ..scene.path import ReferencePath
from ..scene.shapes import box_corners
from ..scene.state import AgentState, EgoState, SceneFrame
from ..scene.world import Marking, StaticWorld, Structure

Rgb = tuple[int, int, int]

_GRASS: Rgb = (96, 118, 74)
_SURFACES: Mapping[str, Rgb] = {
    "asphalt": (70, 70, 74),
    "sidewalk": (150, 148, 142),
    "gravel": (132, 122, 106),
    "plaza": (158, 152, 140),
    "parking": (82, 82, 88),
}
_PAINT: Mapping[str, Rgb] = {"centre_line": (216, 178, 60), "kerb": (176, 174, 168)}  # the rest is white
_LIGHTS: Mapping[str, Rgb] = {"red": (235, 50, 40), "yellow": (240, 190, 40), "green": (60, 205, 90)}
_WHITE: Rgb = (228, 228, 224)
_ROUTE: Rgb = (70, 150, 235)
_EGO: Rgb = (40, 120, 255)
_SUBPIXEL_BITS = 4
_EGO_HEIGHT = 0.68  # of the picture, from the top: more is seen ahead than behind


class BirdsEye:
    """Draws one world around the ego.

    Args:
        world: the map.
        path: the route, drawn under the traffic; None draws none.
        height: rows of the picture.
        width: columns of the picture.
        metres: what the picture's height spans.
    """

    def __init__(
        self,
        world: StaticWorld,
        path: ReferencePath | None = None,
        height: int = 128,
        width: int = 224,
        metres: float = 72.0,
    ):
        self._world, self._path = world, path
        self._height, self._width = height, width
        self._px_per_m = height / metres
        self._reach_m = float(np.hypot(height, width)) / self._px_per_m
        self._shapes = [(_SURFACES[surface.kind], surface.polygon) for surface in world.surfaces]
        self._footprints = [(structure.color_rgb, footprint(structure)) for structure in world.structures]
        self._lines = [
            (_PAINT.get(m.kind, _WHITE), 0.5 if m.kind == "crossing" else m.width_m, piece)
            for m in world.markings
            for piece in painted_pieces(m)
        ]

    def draw(self, frame: SceneFrame) -> np.ndarray:
        """The surroundings at one frame, uint8 [H, W, 3] RGB."""
        canvas = np.full((self._height, self._width, 3), _GRASS, np.uint8)
        ego = frame.ego
        for color, polygon in self._shapes:
            self._fill(canvas, ego, polygon, color)
        for color, width, line in self._lines:
            self._line(canvas, ego, line, width, color)
        if self._path is not None:
            self._line(canvas, ego, self._path.points, 0.5, _ROUTE)
        for light, state in zip(self._world.lights, frame.lights, strict=True):
            self._line(canvas, ego, light.stop_line, 0.7, _LIGHTS[state])
        for color, polygon in self._footprints:
            self._fill(canvas, ego, polygon, color)
        for agent in frame.agents:
            self._agent(canvas, ego, agent)
        self._vehicle(canvas, ego, ego_box(ego), _EGO, outline=_WHITE)
        return canvas

    def _agent(self, canvas: np.ndarray, ego: EgoState, agent: AgentState) -> None:
        grown = 0.4 if agent.kind == "pedestrian" else 0.0  # or they would be less than a pixel
        size = max(agent.length_m, grown * 2), max(agent.width_m, grown * 2)
        box = np.array([agent.x_m, agent.y_m, agent.yaw_rad, *size])
        self._vehicle(canvas, ego, box, agent.color_rgb, (235, 60, 50) if agent.braking else (20, 20, 22))

    def _vehicle(self, canvas: np.ndarray, ego: EgoState, box: np.ndarray, color: Rgb, outline: Rgb) -> None:
        """A filled box with an outline, and a tick at its front."""
        corners = box_corners(box)
        self._fill(canvas, ego, corners, color)
        self._line(canvas, ego, np.concatenate([corners, corners[:1]]), 0.0, outline)
        self._line(canvas, ego, np.stack([box[:2], corners[:2].mean(axis=0)]), 0.0, outline)

    def _fill(self, canvas: np.ndarray, ego: EgoState, polygon: np.ndarray, color: Rgb) -> None:
        if self._is_near(ego, polygon):
            cv2.fillPoly(canvas, [self._pixels(ego, polygon)], color, cv2.LINE_AA, _SUBPIXEL_BITS)

    def _line(self, canvas: np.ndarray, ego: EgoState, line: np.ndarray, width_m: float, color: Rgb) -> None:
        if self._is_near(ego, line):
            thickness = max(1, round(width_m * self._px_per_m))
            cv2.polylines(
                canvas, [self._pixels(ego, line)], False, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS
            )

    def _is_near(self, ego: EgoState, points: np.ndarray) -> bool:
        low, high = points.min(axis=0) - self._reach_m, points.max(axis=0) + self._reach_m
        return bool(low[0] < ego.x_m < high[0] and low[1] < ego.y_m < high[1])

    def _pixels(self, ego: EgoState, points: np.ndarray) -> np.ndarray:
        """World points [N, 2] as OpenCV's fixed-point pixels, int32 [N, 2]; the ego's heading is up."""
        cos, sin = np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)
        dx, dy = points[:, 0] - ego.x_m, points[:, 1] - ego.y_m
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        u = self._width / 2 - left * self._px_per_m
        v = self._height * _EGO_HEIGHT - ahead * self._px_per_m
        return np.rint((np.stack([u, v], axis=1) - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def painted_pieces(marking: Marking) -> list[np.ndarray]:
    """The painted parts of a line, each [N, 2]: dashes, the stripes of a crossing, or the whole line."""
    if marking.kind == "crossing":
        return _stripes(marking)
    if marking.dash_m is None:
        return [marking.line]
    painted, gap = marking.dash_m
    s = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(marking.line, axis=0), axis=1)))
    starts = np.arange(0.0, s[-1], painted + gap)
    return [_along(marking.line, s, np.linspace(a, min(a + painted, s[-1]), 3)) for a in starts]


def footprint(structure: Structure) -> np.ndarray:
    """What a structure covers, [N, 2]: a box, or a circle of twelve corners for tree, pole and bollard."""
    if structure.kind in ("tree", "pole", "bollard"):
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        circle = np.stack([np.cos(angle) * structure.length_m, np.sin(angle) * structure.width_m], axis=1) / 2
        return np.asarray(circle + np.array([structure.x_m, structure.y_m]))
    size = structure.length_m, structure.width_m
    return box_corners(np.array([structure.x_m, structure.y_m, structure.yaw_rad, *size]))


def _stripes(crossing: Marking) -> list[np.ndarray]:
    """Stripes along the traffic, half a metre wide and a metre apart, as lines across the crossing."""
    start, end = crossing.line[0], crossing.line[-1]
    length = float(np.linalg.norm(end - start))
    across = (end - start) / length
    half = np.array([-across[1], across[0]]) * crossing.width_m / 2
    middles = [start + across * s for s in np.arange(0.5, length, 1.0)]
    return [np.stack([middle - half, middle + half]) for middle in middles]


def _along(line: np.ndarray, s: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(at, s, line[:, k]) for k in (0, 1)], axis=1)
