"""A drive: one scene from start to end under one driver, without pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..scene.actions import ActionChunk, ActionSpaceName
from ..scene.checks import FrameChecks
from ..scene.clock import CHUNK_DT_S, FRAMES_PER_CHUNK
from ..scene.conditions import fix_conditions
from ..scene.scenario import load_scenario
from ..scene.scene import Scene
from ..scene.scores import EpisodeRecord
from ..scene.state import SceneFrame, pose_delta
from .drivers import make_driver


@dataclass(frozen=True)
class Drive:
    """What a driver made of a scene: F frames; row k of `actions` led to frame k, row 0 is zero."""

    scene: Scene
    frames: list[SceneFrame]
    checks: list[FrameChecks]
    actions: np.ndarray  # float32 [F, A]
    action_space: ActionSpaceName
    record: EpisodeRecord

    def chunks(self) -> Iterator[ActionChunk]:
        """The actions as they were given, to play them to an engine."""
        for start in range(1, len(self.actions), FRAMES_PER_CHUNK):
            yield ActionChunk(self.action_space, self.actions[start : start + FRAMES_PER_CHUNK])


def drive(
    scenario: str,
    seed: int,
    driver_name: str,
    seconds: float,
    weather: str | None = None,
    time_of_day: str | None = None,
) -> Drive:
    """Run a scene until its scenario ends or the time is up.

    Args:
        scenario: preset or file.
        seed: of the scene, and of a driver that draws.
        driver_name: one of `drivers.DRIVERS`.
        seconds: at most; whole chunks, at least one.
        weather, time_of_day: None is what scenario and seed say.
    """
    scene = Scene(fix_conditions(load_scenario(scenario), weather, time_of_day), seed)
    driver = make_driver(driver_name, scene, seed)
    frames, checks, actions = [scene.frame], list(scene.checks), []
    record = EpisodeRecord.start(scene.path, scene.frame, scene.checks[0])
    chunks = max(1, int(seconds / CHUNK_DT_S + 1e-6))
    for _ in range(chunks):
        actions.append(driver.act())
        new = scene.step(actions[-1])
        frames += new
        checks += scene.checks
        for frame, check in zip(new, scene.checks, strict=True):
            record.add(frame, check)
        if scene.outcome != "running":
            break
    record.outcome = scene.outcome
    values = np.concatenate([action.values for action in actions])
    padded = np.concatenate([np.zeros_like(values[:1]), values]).astype(np.float32)
    return Drive(scene, frames, checks, padded, actions[0].space, record)


def achieved_deltas(frames: list[SceneFrame]) -> np.ndarray:
    """float32 [F, 3]: the ego's motion to each frame from the one before; the first row is zero."""
    deltas = [pose_delta(before.ego, after.ego) for before, after in pairwise(frames)]
    return np.stack([np.zeros(3), *deltas]).astype(np.float32)
