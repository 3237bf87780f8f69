"""Random clips from a folder of episodes, deterministic by seed, also while the folder is still being filled."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from .clip import Clip, shard_clip
from .folder import EpisodeFolder
from .plan import BuildError
from .shard import Shard

_OPEN_SHARDS = 64
_REFRESH_CLIPS = 256  # how often an endless stream looks for new episodes


class EpisodeDataset(Dataset[Clip]):
    """Random clips: item k is a pure function of (seed, k, the episodes known), so it works with a DataLoader.

    Every frame at which a clip can begin is equally likely. `refresh` looks for episodes built since.

    Args:
        path: a data folder.
        clip_frames: frames per clip; shorter episodes are left out.
        cameras: names, in the order wanted; None is all.
        seed: decides which clips.
        verify: check the digest of each shard when it is first opened.

    Raises:
        BuildError: no episode is long enough.
        ShardError: a shard is damaged; the message names it.
    """

    def __init__(
        self,
        path: str | Path,
        clip_frames: int,
        cameras: Sequence[str] | None = None,
        seed: int = 0,
        verify: bool = True,
    ):
        self._folder = EpisodeFolder(path)
        self._clip_frames, self._cameras = clip_frames, cameras
        self._seed, self._verify = seed, verify
        self._shards: OrderedDict[str, Shard] = OrderedDict()  # open ones, the latest used last
        self._verified: set[str] = set()
        self.refresh()
        if not self._files:
            raise BuildError(f"expected episodes of at least {clip_frames} frames in {path}, got none")

    def refresh(self) -> int:
        """Look for new episodes; returns how many there are that are long enough."""
        entries = [entry for entry in self._folder.entries() if entry.frames >= self._clip_frames]
        self._files = [entry.file for entry in entries]
        self._starts_end = np.cumsum([entry.frames - self._clip_frames + 1 for entry in entries])
        return len(entries)

    def __len__(self) -> int:
        """How many different clips there are. Any index is valid: `dataset[10**9]` is a random clip too."""
        return int(self._starts_end[-1])

    def __getitem__(self, index: int) -> Clip:
        choice = int(np.random.default_rng((self._seed, index)).integers(len(self)))
        episode = int(np.searchsorted(self._starts_end, choice, side="right"))
        start = choice - (int(self._starts_end[episode - 1]) if episode else 0)
        return shard_clip(self._shard(self._files[episode]), start, self._clip_frames, self._cameras)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_shards": OrderedDict()}  # a worker process opens its own files

    def _shard(self, file: str) -> Shard:
        if file in self._shards:
            self._shards.move_to_end(file)
            return self._shards[file]
        shard = Shard(self._folder.path / file, verify=self._verify and file not in self._verified)
        self._verified.add(file)
        self._shards[file] = shard
        if len(self._shards) > _OPEN_SHARDS:
            self._shards.popitem(last=False)
        return shard


def iter_clips(dataset: EpisodeDataset, start: int = 0) -> Iterator[Clip]:
    """Clips without end, from item `start`; every 256 clips it looks for new episodes."""
    for k in count(start):
        if k and k % _REFRESH_CLIPS == 0:
            dataset.refresh()
        yield dataset[k]
