"""What cloning learns from: what the policy would see, and what the expert would do there."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..errors import RoadloopError
from .accelerations import from_controls
from .network import CAMERAS, COLUMNS, SIZE, scaled


class LessonsError(RoadloopError, ValueError):
    """A file without lessons for this policy. The message names it."""


@dataclass(frozen=True)
class Lessons:
    """K moments."""

    images: np.ndarray  # uint8 [K, V, 2, H, W, 3], see `VisionNetwork`
    numbers: np.ndarray  # float32 [K, 7], see `network.scaled`
    accelerations: np.ndarray  # float32 [K, 2]: the expert's, to the left and forwards [m/s^2]
    episode: np.ndarray  # int64 [K]: which one, so that none is both learnt from and tested on

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def load(cls, *paths: str | Path) -> "Lessons":
        """Read what `roadloop data lessons` wrote; of several files, one after the other.

        Raises:
            LessonsError: no such file, or other cameras, columns, or pictures that are not a whole number of times larger.
        """
        parts, before = [], 0
        for path in paths:
            part = cls._of(path)
            parts.append(replace(part, episode=part.episode + before))
            before += int(part.episode.max(initial=-1)) + 1
        return cls(
            **{
                each.name: np.concatenate([getattr(part, each.name) for part in parts])
                for each in fields(cls)
            }
        )

    @classmethod
    def _of(cls, path: str | Path) -> "Lessons":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {
                    name: file[name]
                    for name in ("images", "state", "expert", "episode", "cameras", "columns")
                }
        except (OSError, ValueError, KeyError) as error:
            raise LessonsError(f"expected lessons in {path}, got {error}") from None
        cameras, size = tuple(arrays["cameras"].tolist()), arrays["images"].shape[3:5]
        times, rest = divmod(size[0], SIZE[0])
        if cameras != CAMERAS or rest or not times or size[1] != times * SIZE[1]:
            raise LessonsError(
                f"expected cameras {CAMERAS} of {SIZE}, or whole times as large, in {path}, got {cameras} of {size}"
            )
        columns = arrays["columns"].tolist()
        if missing := [name for name in COLUMNS if name not in columns]:
            raise LessonsError(
                f"expected columns {', '.join(COLUMNS)} in {path}, got none of {', '.join(missing)}"
            )
        numbers = arrays["state"][:, [columns.index(name) for name in COLUMNS]]
        accelerations = from_controls(arrays["expert"], numbers[:, 0])
        return cls(_shrunk(arrays["images"], times), scaled(numbers), accelerations, arrays["episode"])

    def split(self, share: float = 0.1) -> "tuple[Lessons, Lessons]":
        """Those to learn from, and every 1 / share-th episode to test on."""
        tested = self.episode % round(1 / share) == 0
        return self.take(np.flatnonzero(~tested)), self.take(np.flatnonzero(tested))

    def take(self, which: np.ndarray | Sequence[int]) -> "Lessons":
        """Some of them."""
        return Lessons(
            self.images[which], self.numbers[which], self.accelerations[which], self.episode[which]
        )


def _shrunk(images: np.ndarray, times: int) -> np.ndarray:
    """Means over squares of so many pixels a side, as driving has them: uint8 [K, V, 2, H, W, 3]."""
    if times == 1:
        return images
    height, width = SIZE
    out = np.empty((*images.shape[:3], height, width, 3), np.uint8)
    for k, moment in enumerate(
        images
    ):  # one at a time: sums of all at once would need eight times the memory
        squares = moment.reshape(*moment.shape[:2], height, times, width, times, 3)
        out[k] = np.rint(squares.mean(axis=(3, 5), dtype=np.float32))
    return out
