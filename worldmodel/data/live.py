"""Clips without a disk: scenes run and are rendered in worker processes while a model trains on them."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .clip import Clip, episode_clip
from .episode import Episode
from .plan import BuildSettings, plan_episode
from .record import Recorder


class LiveClips(IterableDataset[Clip]):
    """An endless stream of random clips from episodes that are made as it goes, by the builder's own code.

    Each worker makes its own episodes (worker w of n makes w, w + n, ...), keeps the latest few in memory and draws
    clips from those. A pure function of the settings and the number of workers.

    Args:
        settings: what to record; `episodes` is ignored, the stream does not end.
        clip_frames: frames per clip; an episode that ends sooner is left out.
        cameras: names, in the order wanted; None is all.
        clips_per_episode: how often clips are drawn before the next episode is made.
        pool: episodes kept in memory.
        start: index of the first episode, to continue a stream.
        device: where to render.
    """

    def __init__(
        self,
        settings: BuildSettings,
        clip_frames: int,
        cameras: Sequence[str] | None = None,
        clips_per_episode: int = 8,
        pool: int = 3,
        start: int = 0,
        device: str = "cpu",
    ):
        self._settings, self._clip_frames, self._cameras = settings, clip_frames, cameras
        self._clips_per_episode, self._pool, self._start, self._device = (
            clips_per_episode,
            pool,
            start,
            device,
        )

    def __iter__(self) -> Iterator[Clip]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        recorder = Recorder(self._settings, self._device)
        pool: deque[Episode] = deque(maxlen=self._pool)
        for index in count(self._start + first, step):
            episode = recorder.record(plan_episode(self._settings, index))
            if len(episode) < self._clip_frames:
                continue
            pool.append(episode)
            draw = np.random.default_rng((self._settings.seed, index))
            for _ in range(self._clips_per_episode):
                chosen = pool[int(draw.integers(len(pool)))]
                start = int(draw.integers(len(chosen) - self._clip_frames + 1))
                yield episode_clip(chosen, start, self._clip_frames, self._cameras)


def live_loader(clips: LiveClips, workers: int, ahead: int = 4) -> DataLoader[Clip]:
    """The stream from worker processes, one clip at a time; `ahead` clips wait ready per worker."""
    if workers == 0:
        return DataLoader(clips, batch_size=None)
    return DataLoader(
        clips,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=ahead,
        multiprocessing_context="spawn",  # rendering on a GPU needs it, and a fork of a threaded torch may hang
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
