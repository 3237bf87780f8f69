"""Lessons as another engine shows them: recorded drives are driven again on a server, and its pictures take the place of the recorded ones.

A world is a pure function of scenario, seed and actions, so what the expert would do there stays true; only what the learner sees is the other
engine's: a world model's blur and all.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..client import connect
from ..observation import Observation
from ..pictures import shrink
from .lessons import LessonsError
from .network import CAMERAS, SIZE

_SAME_M = 1e-3  # lessons keep positions as float32


@dataclass(frozen=True)
class Recorded:
    """A drive of `roadloop data build`, as far as it is needed to drive it again."""

    scenario: str
    seed: int
    actions: np.ndarray  # float32 [F, 2], controls; row 0 led to the opening frame and is zero

    @classmethod
    def load(cls, path: Path) -> "Recorded":
        """Read an episode's file (docs/data.md). Raises LessonsError for one that is none, or that was not driven by controls."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                info = json.loads((file.metadata() or {})["episode"])["info"]
                actions = file.get_tensor("actions")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise LessonsError(f"expected an episode in {path}, got {error}") from None
        if info["action_space"] != "controls":
            raise LessonsError(f"expected controls in {path}, got {info['action_space']}")
        return cls(info["scenario"], info["seed"], actions)


def look(
    drives: Path,
    lessons: Path,
    out: Path,
    url: str,
    token: str | None = None,
    slots: int = 4,
    on_episode: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the lessons with the pictures of the server's engine; returns how many there are.

    Args:
        drives: the folder of `roadloop data build` that the lessons are of.
        lessons: file of `roadloop data lessons`.
        out: a file ending in .npz.
        url: of the server.
        token: bearer token, where it wants one.
        slots: sessions at a time.
        on_episode: called with how many drives are done and how many there are.

    Raises:
        LessonsError: files that do not fit each other, or a world in which the car is elsewhere: another version.
        ConnectionLostError, ProtocolError: see `connect`.
    """
    try:
        with np.load(lessons, allow_pickle=False) as file:
            arrays: dict[str, np.ndarray] = {name: file[name] for name in file.files if name != "images"}
        episodes, columns = arrays["episode"], arrays["columns"].tolist()
        places = arrays["state"][:, [columns.index(name) for name in ("x_m", "y_m")]]
    except (OSError, KeyError, ValueError) as error:
        raise LessonsError(f"expected lessons in {lessons}, got {error}") from None
    images = np.empty((len(episodes), len(CAMERAS), 2, *SIZE, 3), np.uint8)

    def drive(episode: int) -> None:
        mine = np.flatnonzero(episodes == episode)
        recorded = Recorded.load(drives / f"episode_{episode:06d}.safetensors")
        images[mine] = _seen(recorded, places[mine], url, token)

    wanted = sorted(set(episodes.tolist()))
    with ThreadPoolExecutor(slots, "look") as pool:
        for done, _ in enumerate(pool.map(drive, wanted), 1):
            on_episode(done, len(wanted))
    arrays["cameras"] = np.array(CAMERAS)
    np.savez_compressed(out, allow_pickle=False, **arrays, images=images)
    return len(images)


def _seen(recorded: Recorded, places: np.ndarray, url: str, token: str | None) -> np.ndarray:
    """What is seen at every lesson of a drive: uint8 [K, V, 2, H, W, 3]."""
    found = []
    with connect(url, token=token) as client:
        session, frames = client.session, client.server.frames_per_chunk
        seen: Observation = session.reset(
            recorded.scenario, recorded.seed, options={"cameras": list(CAMERAS)}
        )
        for k, place in enumerate(places):
            _must_be_at(place, seen.ego, recorded)
            found.append([[shrink(seen.image(camera, j), SIZE) for j in (0, -1)] for camera in CAMERAS])
            if k + 1 < len(places):
                seen = session.step(recorded.actions[1 + k * frames : 1 + (k + 1) * frames], "controls")
    return np.array(found, np.uint8)


def _must_be_at(place: np.ndarray, ego: Mapping[str, Any], recorded: Recorded) -> None:
    here = np.array([ego["x_m"], ego["y_m"]])
    if np.abs(place - here).max() > _SAME_M:
        raise LessonsError(
            f"expected the car of {recorded.scenario} at {place.round(3).tolist()}, got {here.round(3).tolist()}: "
            "the server drives another version of the world"
        )
