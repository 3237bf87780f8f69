"""Real time without I/O: when a chunk may begin, and what replaces an action that is late."""

import numpy as np

from clients.protocol import StepItem
from clients.protocol.requests import HoldPolicy

BRAKE_MPS2 = 4.0  # firm, still comfortable for following traffic


class MediaClock:
    """Chunk k begins no earlier than k chunk durations after the first: never more than one chunk ahead."""

    def __init__(self, chunk_s: float) -> None:
        self._chunk_s = chunk_s
        self.due_s: float | None = None  # None: stands

    def start(self, now_s: float) -> None:
        """Start it unless it runs."""
        self.due_s = now_s if self.due_s is None else self.due_s

    def stop(self) -> None:
        """Until the next start, nothing is due."""
        self.due_s = None

    def began(self, now_s: float) -> None:
        """A chunk has begun. A server that fell a whole chunk behind does not hurry to catch up."""
        assert self.due_s is not None
        on_time = now_s - self.due_s < self._chunk_s
        self.due_s = (self.due_s if on_time else now_s) + self._chunk_s


class HeldActions:
    """Remembers the last action and continues it: `hold` it, `coast` (no throttle), or `brake`.

    In the pose spaces `hold` and `coast` both continue the last motion; `brake` shortens it to a stop.
    """

    def __init__(self, policy: HoldPolicy, frame_s: float) -> None:
        self._policy = policy
        self._frame_s = frame_s
        self._last: StepItem | None = None

    def use(self, item: StepItem) -> None:
        """This is the newest action."""
        self._last = item

    def held(self, chunk: int) -> StepItem:
        """What to run instead of the missing action; the next call continues from it."""
        assert self._last is not None, "the clock starts with the first action"
        last = self._last
        values = continue_action(self._policy, last.space, last.actions, self._frame_s)
        self._last = StepItem.model_construct(
            chunk=chunk, actions=values, space=last.space, session=None, deadline_ms=None
        )
        return self._last


def continue_action(policy: HoldPolicy, space: str, last: np.ndarray, frame_s: float) -> np.ndarray:
    """The chunk after `last` [F, A] under a late-action policy: float32 [F, A]."""
    frames = len(last)
    if space == "controls":
        steering, accel = last[-1]
        accel = {"hold": accel, "coast": 0.0, "brake": -BRAKE_MPS2}[policy]
        return np.tile(np.array([steering, accel], np.float32), (frames, 1))
    deltas = _continue_motion(
        policy, last[-1] if space == "pose_delta" else _last_delta(last), frames, frame_s
    )
    return deltas if space == "pose_delta" else _compose(deltas)


def _continue_motion(policy: HoldPolicy, delta: np.ndarray, frames: int, frame_s: float) -> np.ndarray:
    """Repeat a motion (dx, dy, dyaw), or shorten it frame by frame at the braking deceleration: float32 [F, 3]."""
    distance_m = float(np.hypot(delta[0], delta[1]))
    shares = np.ones(frames)
    if policy == "brake":
        lost_m = BRAKE_MPS2 * frame_s**2 * np.arange(1, frames + 1)
        shares = np.maximum(0.0, distance_m - lost_m) / distance_m if distance_m > 0 else np.zeros(frames)
    motion: np.ndarray = shares[:, None] * delta
    return motion.astype(np.float32)


def _last_delta(poses: np.ndarray) -> np.ndarray:
    """Motion of the last frame of a trajectory, in the frame of the pose before it."""
    before = poses[-2] if len(poses) > 1 else np.zeros(3)
    dx, dy = poses[-1, :2] - before[:2]
    cos, sin = np.cos(before[2]), np.sin(before[2])
    return np.array([cos * dx + sin * dy, -sin * dx + cos * dy, poses[-1, 2] - before[2]])


def _compose(deltas: np.ndarray) -> np.ndarray:
    """Chain motions into poses in the frame of the start: float32 [F, 3]."""
    pose, poses = np.zeros(3), []
    for dx, dy, dyaw in deltas:
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        pose = pose + np.array([cos * dx - sin * dy, sin * dx + cos * dy, dyaw])
        poses.append(pose)
    return np.array(poses, np.float32)
