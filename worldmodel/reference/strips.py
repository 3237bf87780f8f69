"""Markings as polygons on the ground: dashes, stripes of crossings, wide lines around bends."""

import numpy as np

from worldmodel.scene.world import Marking

CROSSING_STRIPE_M = 0.5
CROSSING_GAP_M = 0.5


def marking_quads(marking: Marking) -> np.ndarray:
    """The painted area of a marking as quads, float64 [K, 4, 2]."""
    if marking.kind == "crossing":
        return _stripes(marking)
    if marking.dash_m is None:
        return strip(marking.line, marking.width_m)
    pieces = [strip(piece, marking.width_m) for piece in _dashes(marking.line, *marking.dash_m)]
    return np.concatenate(pieces) if pieces else np.zeros((0, 4, 2))


def strip(line: np.ndarray, width_m: float) -> np.ndarray:
    """A polyline with a width, mitred at its bends: float64 [N - 1, 4, 2]."""
    offset = _vertex_normals(line) * (width_m / 2)
    left, right = line + offset, line - offset
    return np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)


def _vertex_normals(line: np.ndarray) -> np.ndarray:
    """Left normals at the vertices, lengthened so that the strip keeps its width in a bend (at most 2x)."""
    along = np.diff(line, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    before, after = np.concatenate([normal[:1], normal]), np.concatenate([normal, normal[-1:]])
    mean = before + after
    lengthened: np.ndarray = mean * (2 / np.maximum((mean**2).sum(1, keepdims=True), 1.0))
    return lengthened


def _dashes(line: np.ndarray, painted_m: float, gap_m: float) -> list[np.ndarray]:
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    starts = np.arange(0.0, s[-1], painted_m + gap_m)
    return [_cut(line, s, start, min(start + painted_m, s[-1])) for start in starts]


def _cut(line: np.ndarray, s: np.ndarray, start: float, end: float) -> np.ndarray:
    """The part of a polyline between two arc lengths."""
    inner = line[(s > start + 1e-6) & (s < end - 1e-6)]
    ends = [np.array([np.interp(at, s, line[:, k]) for k in (0, 1)]) for at in (start, end)]
    return np.concatenate([ends[:1], inner, ends[1:]])


def _stripes(marking: Marking) -> np.ndarray:
    start, end = marking.line[0], marking.line[-1]
    length = float(np.linalg.norm(end - start))
    along = (end - start) / max(length, 1e-9)
    across = np.array([-along[1], along[0]]) * (marking.width_m / 2)
    begins = np.arange(CROSSING_GAP_M / 2, length - CROSSING_STRIPE_M / 2, CROSSING_STRIPE_M + CROSSING_GAP_M)
    a = start + begins[:, None] * along
    b = a + CROSSING_STRIPE_M * along
    return np.stack([a + across, b + across, b - across, a - across], axis=1)
