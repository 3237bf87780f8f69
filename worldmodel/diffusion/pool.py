"""Rolling KV slots for sessions with equally many cameras."""

import torch

from ..model.config import ModelConfig
from ..model.dit import DiT
from ..model.kv_cache import KVCache


class Pool:
    """Hands out slots of one rolling KV and grows it when they run out."""

    def __init__(
        self, dit: DiT, config: ModelConfig, views: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        rows, columns = config.latent_size
        self.kv: KVCache = dit.new_cache(views, rows * columns, 1, dtype, device)
        self._free = [0]

    def take(self) -> int:
        """An empty slot."""
        if not self._free:
            before = self.kv.slots
            self.kv.grow(2 * before)
            self._free = list(range(before, 2 * before))
        slot = self._free.pop(0)
        self.kv.reset(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Make a slot available again."""
        self._free.append(slot)
        self._free.sort()
