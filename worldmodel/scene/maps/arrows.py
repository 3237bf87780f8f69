"""Arrows painted on lanes, made of strokes, so that whatever paints lines paints arrows."""

from typing import Literal

import numpy as np

from .furniture import Pose
from .plan import Plan

ArrowKind = Literal["straight", "left", "right", "u_turn"]
_TURN_RAD = {"straight": 0.0, "left": np.pi / 2, "right": -np.pi / 2, "u_turn": np.pi}
_STROKE_M, _SHAFT_M, _RADIUS_M, _HEAD_M = 0.18, 3.0, 0.6, 0.8


def paint_arrow(plan: Plan, pose: Pose, kind: ArrowKind) -> None:
    """An arrow whose tail lies at a pose on the middle of a lane, pointing along the yaw before it turns."""
    turn = _TURN_RAD[kind]
    swept = np.linspace(0.0, abs(turn), 7 if turn else 1)
    bend = np.stack(
        [_SHAFT_M + _RADIUS_M * np.sin(swept), np.sign(turn) * _RADIUS_M * (1 - np.cos(swept))], axis=1
    )
    tip = bend[-1] + 0.5 * np.array([np.cos(turn), np.sin(turn)])
    barbs = [tip - _HEAD_M * np.array([np.cos(turn + side), np.sin(turn + side)]) for side in (-0.5, 0.5)]
    for stroke in (np.stack([np.zeros(2), *bend, tip]), np.stack([barbs[0], tip, barbs[1]])):
        plan.mark("arrow", _placed(stroke, pose), _STROKE_M)


def _placed(points: np.ndarray, pose: Pose) -> np.ndarray:
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return np.asarray(np.array(pose[:2]) + points @ np.array([[cos, sin], [-sin, cos]]))
