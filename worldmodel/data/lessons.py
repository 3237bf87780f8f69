"""Lessons for a learner: what it would see at every chunk of recorded episodes, and what the expert would do there.

The episodes may be of any driver. The expert is a pure function of the scene, so each scene is driven again by the recorded
actions, without pictures, and the expert is asked at every chunk: also where the recorded driver was about to do wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..scene.actions import ActionChunk
from ..scene.clock import FRAMES_PER_CHUNK
from ..scene.expert import Expert
from ..scene.scenario import load_scenario
from ..scene.scene import Scene
from .folder import EpisodeFolder
from .plan import BuildError
from .shard import Shard, ShardError
from .tables import CHECK_COLUMNS, EGO_COLUMNS

COLUMNS = (*EGO_COLUMNS, *(name for name in CHECK_COLUMNS if name != "collision_with"))


def write_lessons(
    folder: str | Path,
    cameras: Sequence[str],
    out: Path,
    on_episode: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the lessons of all episodes of a folder to one compressed NumPy file; returns how many there are.

    Besides the arrays of `shard_lessons` it has `episode` int64 [K], the index of the episode that each is from, and the names
    `cameras` and `columns`.

    Args:
        folder: a data folder.
        cameras: names, in the order wanted.
        out: a file ending in .npz.
        on_episode: called with how many episodes are done and how many there are.

    Raises:
        BuildError: no data folder, or an empty one.
        ShardError: see `shard_lessons`.
    """
    data = EpisodeFolder(folder)
    data.settings()  # refuses what is no data folder
    if not (entries := data.entries()):
        raise BuildError(f"expected episodes in {folder}, got none")
    parts = []
    for done, entry in enumerate(entries, 1):
        lessons = shard_lessons(Shard(data.path / entry.file), cameras)
        parts.append({**lessons, "episode": np.full(len(lessons["state"]), entry.index, np.int64)})
        on_episode(done, len(entries))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez_compressed(
        out, allow_pickle=False, **arrays, cameras=np.array(cameras), columns=np.array(COLUMNS)
    )
    return len(arrays["episode"])


def shard_lessons(shard: Shard, cameras: Sequence[str]) -> Mapping[str, np.ndarray]:
    """The lessons of one episode; K chunks, the last of which has nothing after it and is left out.

    Args:
        shard: an episode whose actions are controls.
        cameras: names, in the order wanted.

    Returns:
        `images` uint8 [K, V, 2, H, W, 3]: the first and the last frame of the newest chunk (at the start the opening frame twice);
        `state` float32 [K, C]: columns COLUMNS at its last frame; `expert` float32 [K, 2]: the steering angle [rad] in the middle
        of the next chunk and the acceleration [m/s^2] that the expert goes for.

    Raises:
        ShardError: other actions, or a scene that no longer drives as it was recorded.
    """
    if shard.info.action_space != "controls":
        raise ShardError(f"expected controls in {shard.path}, got {shard.info.action_space}")
    names = shard.info.rig.names
    if unknown := [camera for camera in cameras if camera not in names]:
        raise ShardError(f"expected cameras of {', '.join(names)} in {shard.path}, got {', '.join(unknown)}")
    boundaries = np.arange(0, len(shard) - 1, FRAMES_PER_CHUNK)
    frames = shard.frames([names.index(camera) for camera in cameras], 0, len(shard))  # [V, F, H, W, 3]
    newest = np.stack([np.maximum(boundaries - FRAMES_PER_CHUNK + 1, 0), boundaries], axis=1)
    state = np.concatenate([shard.tables["ego"], _numbers(shard.tables["checks"])], axis=1)
    return {
        "images": np.ascontiguousarray(frames[:, newest].swapaxes(0, 1)),
        "state": state[boundaries].astype(np.float32),
        "expert": _expert(shard, boundaries),
    }


def _expert(shard: Shard, boundaries: np.ndarray) -> np.ndarray:
    """What the expert would do at each of these frames: float32 [K, 2]."""
    scene = Scene(load_scenario(shard.info.scenario), shard.info.seed)
    expert, answers = Expert(scene), []
    for frame in boundaries:
        ego = [getattr(scene.frame.ego, name) for name in EGO_COLUMNS]
        if not np.allclose(ego, shard.tables["ego"][frame], atol=1e-6):
            raise ShardError(
                f"expected the scene of {shard.path} to drive as recorded, got another ego at frame {frame}: "
                "it was built by another version; build it again"
            )
        steering = expert.act().values[FRAMES_PER_CHUNK // 2, 0]
        answers.append((steering, expert.wanted_mps2()))
        scene.step(ActionChunk("controls", shard.actions[frame + 1 : frame + 1 + FRAMES_PER_CHUNK]))
    return np.array(answers, np.float32)


def _numbers(checks: np.ndarray) -> np.ndarray:
    """The driving checks without whom the ego hit, which is an id."""
    return np.delete(checks, CHECK_COLUMNS.index("collision_with"), axis=1)
