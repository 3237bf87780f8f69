"""What a viewer of a rollout sees: all cameras, the world from above, and a line of numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..extras import need
from ..observation import Observation
from ..protocol import Camera
from ..protocol.replies import AGENT_COLUMNS, EGO_COLUMNS

GROUPS = ("front", "side", "rear")
RANGE_M, BEHIND_M = 60.0, 15.0  # of the view from above: ahead, and behind
STRIP_PX = 26
INK, BACK, EGO, AGENT, TRAIL = (232, 236, 241), (24, 28, 34), (110, 168, 238), (224, 160, 75), (90, 130, 185)
X, Y, YAW = (EGO_COLUMNS.index(name) for name in ("x_m", "y_m", "yaw_rad"))


def mosaic_frames(seen: Observation, trail: np.ndarray, width_px: int = 960) -> list[np.ndarray]:
    """The F frames of a chunk, uint8 [H, W, 3] RGB with even sizes.

    Args:
        seen: the chunk.
        trail: float64 [N, 2]: where the ego has been.
        width_px: about as wide.
    """
    cv2 = need("cv2", "eval", "videos")
    order = sorted(
        seen.cameras.values(), key=lambda c: (GROUPS.index(c.group) if c.group in GROUPS else 9, -c.yaw_rad)
    )
    columns = math.ceil(math.sqrt(len(order) + 1))
    cell_width = width_px // columns // 2 * 2
    cell_height = max(round(cell_width * c.height / c.width) for c in order) // 2 * 2
    pictures = {camera.name: seen.decode(camera.name) for camera in order}
    return [
        _frame(cv2, seen, k, order, pictures, trail, columns, (cell_width, cell_height))
        for k in range(len(seen.ego_frames))
    ]


def _frame(
    cv2: Any,
    seen: Observation,
    index: int,
    order: Sequence[Camera],
    pictures: dict[str, np.ndarray],
    trail: np.ndarray,
    columns: int,
    size: tuple[int, int],
) -> np.ndarray:
    cells = [_fit(cv2, pictures[c.name][index], size) for c in order]
    for cell, camera in zip(cells, order, strict=True):
        _write(cv2, cell, camera.name.replace("_", " "), (8, 18), 0.42)
    cells.append(_from_above(cv2, seen, index, trail, size))
    rows = math.ceil(len(cells) / columns)
    out = np.full((rows * size[1] + STRIP_PX, columns * size[0], 3), BACK, np.uint8)
    for k, cell in enumerate(cells):
        top, left = k // columns * size[1], k % columns * size[0]
        out[top : top + size[1], left : left + size[0]] = cell
    _write(cv2, out, _numbers(seen, index), (10, out.shape[0] - 9), 0.45)
    return out


def _fit(cv2: Any, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    larger = picture.shape[1] > size[0]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if larger else cv2.INTER_CUBIC))


def _numbers(seen: Observation, index: int) -> str:
    ego, metrics = dict(zip(EGO_COLUMNS, seen.ego_frames[index].tolist(), strict=True)), seen.metrics
    words = [
        f"{metrics['time_s'][index]:5.1f} s",
        f"{ego['speed_mps'] * 3.6:3.0f} / {metrics['speed_limit_mps'][index] * 3.6:.0f} km/h",
        f"steering {math.degrees(ego['steering_rad']):+5.1f} deg",
        f"accel {ego['accel_mps2']:+5.1f} m/s2",
        f"lane {metrics['lane_offset_m'][index]:+4.1f} m",
        f"route {100 * metrics['route_completion'][index]:3.0f} %",
    ]
    flags = {"collision": metrics["collision_with"][index] is not None} | {
        name.replace("_", " "): metrics[name][index] for name in ("off_road", "wrong_way", "red_light")
    }
    return "   ".join([*words, *(name.upper() for name, holds in flags.items() if holds)])


def _from_above(
    cv2: Any, seen: Observation, index: int, trail: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Ego, agents at the end of the chunk, and the way so far; forward is up."""
    picture = np.full((size[1], size[0], 3), (34, 39, 47), np.uint8)
    scale = size[1] / (RANGE_M + BEHIND_M)
    here = seen.ego_frames[index]
    cos, sin = math.cos(here[YAW]), math.sin(here[YAW])

    def at(points: np.ndarray) -> np.ndarray:
        d = points - here[[X, Y]]
        ahead, left = cos * d[:, 0] + sin * d[:, 1], -sin * d[:, 0] + cos * d[:, 1]
        return np.stack([size[0] / 2 - left * scale, (RANGE_M - ahead) * scale], 1).astype(np.int32)

    for ring in (20, 40):
        centre = at(here[None, [X, Y]])[0]
        cv2.circle(picture, tuple(map(int, centre)), round(ring * scale), (58, 65, 76), 1, cv2.LINE_AA)
    cv2.polylines(picture, [at(trail)], False, TRAIL, 2, cv2.LINE_AA)
    for row in np.asarray(seen.agents, np.float64):
        agent = dict(zip(AGENT_COLUMNS, row.tolist(), strict=True))
        box = _box(agent["x_m"], agent["y_m"], agent["yaw_rad"], agent["length_m"], agent["width_m"])
        cv2.fillPoly(picture, [at(box)], AGENT, cv2.LINE_AA)
    ahead = np.array([here[X] + 1.4 * cos, here[Y] + 1.4 * sin])
    cv2.fillPoly(
        picture, [at(_box(float(ahead[0]), float(ahead[1]), float(here[YAW]), 4.7, 1.9))], EGO, cv2.LINE_AA
    )
    _write(cv2, picture, "from above", (8, 18), 0.42)
    return picture


def _box(x: float, y: float, yaw: float, length: float, width: float) -> np.ndarray:
    """Corners of a box: float64 [4, 2]."""
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * np.array([length, width]) / 2
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.asarray(np.array([x, y]) + corners @ np.array([[cos, sin], [-sin, cos]]))


def _write(cv2: Any, picture: np.ndarray, text: str, at: tuple[int, int], size: float) -> None:
    """Light text with a shadow. Both strokes have one width: letters of another stand elsewhere."""
    for color, shift in (((0, 0, 0), 1), (INK, 0)):
        where = at[0] + shift, at[1] + shift
        cv2.putText(picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)
