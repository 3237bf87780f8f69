"""The same past, other commands: left against right, go against brake."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..diffusion import DiffusionEngine
from ..engine import ActionChunk, ChunkResult, SessionOptions
from ..fidelity import mean_square, pair_is_right, recover_ego_motion
from ..scene.clock import FRAMES_PER_CHUNK
from ..scene.state import EGO_SHAPE, EgoState, pose_delta
from .drives import Truth
from .rollout import open_on, step

LATERAL_MPS2, BRAKE_MPS2, GO_MPS2 = 3.0, -5.0, 2.5
LARGEST_STEERING_RAD = 0.35
PAIRS = {"yaw": ("left", "right"), "forward": ("go", "brake")}


@dataclass(frozen=True)
class Branch:
    """The last chunk under one command: motion between its last two frames, made and true pictures."""

    found: dict[str, float]
    wanted: dict[str, float]
    made: torch.Tensor  # uint8 [V, 4, H, W, 3]
    true: torch.Tensor


def counterfactual(
    engine: DiffusionEngine, truth: Truth, options: SessionOptions, lead_in: int, chunks: int
) -> list[dict[str, Any]]:
    """Drive `lead_in` chunks, then fork and drive `chunks` under each of four commands.

    Returns:
        One row per pair: `name`, whether it is `right`, and the errors of each branch's pictures against its own truth
        (`own`) and against the other's (`other`).
    """
    opened = open_on(engine, truth, options)
    last = opened
    for action in truth.actions[:lead_in]:
        last = step(engine, opened.session, action)
    ego = last.states[-1].ego
    branches = {
        name: _branch(engine, truth, opened.session, action, chunks) for name, action in commands(ego).items()
    }
    engine.close(opened.session)
    return [_pair(axis, branches[a], branches[b]) for axis, (a, b) in PAIRS.items()]


def commands(ego: EgoState) -> dict[str, ActionChunk]:
    """Steering of the same sideways pull at any speed, and a pedal each way."""
    curvature = LATERAL_MPS2 / max(ego.speed_mps, 3.0) ** 2
    steering = min(LARGEST_STEERING_RAD, float(np.arctan(EGO_SHAPE.wheelbase_m * curvature)))
    controls = {
        "left": (steering, 0.0),
        "right": (-steering, 0.0),
        "go": (0.0, GO_MPS2),
        "brake": (0.0, BRAKE_MPS2),
    }
    return {
        name: ActionChunk("controls", np.tile(np.array(values, np.float32), (FRAMES_PER_CHUNK, 1)))
        for name, values in controls.items()
    }


def _branch(engine: DiffusionEngine, truth: Truth, session: int, action: ActionChunk, chunks: int) -> Branch:
    (fork,) = engine.fork(session)
    results: list[ChunkResult] = [step(engine, fork, action) for _ in range(chunks)]
    engine.close(fork)
    states, made = list(results[-1].states), torch.from_numpy(results[-1].frames)
    true, _, _ = truth.views.draw(truth.scene, states)
    depth_m = truth.views.standing_depth(truth.scene, states[-2:])
    moved = recover_ego_motion(made[:, -2:], depth_m, truth.rig)
    delta = pose_delta(states[-2].ego, states[-1].ego)
    found = {"forward": float(moved.forward_m[0]), "yaw": float(moved.yaw_rad[0])}
    return Branch(found, {"forward": float(delta[0]), "yaw": float(delta[2])}, made, true.transpose(0, 1))


def _pair(axis: str, a: Branch, b: Branch) -> dict[str, Any]:
    return {
        "name": "/".join(PAIRS[axis]),
        "right": pair_is_right((a.found[axis], b.found[axis]), (a.wanted[axis], b.wanted[axis])),
        "found": [a.found[axis], b.found[axis]],
        "wanted": [a.wanted[axis], b.wanted[axis]],
        "own": mean_square(a.made, a.true) + mean_square(b.made, b.true),
        "other": mean_square(a.made, b.true) + mean_square(b.made, a.true),
    }
