"""Index tensors that never change, made once per device: a CUDA graph may not copy them from the host."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def index_on(values: tuple[int, ...], device: torch.device) -> Tensor:
    """`values` as int64 [n] on a device; shared, so not to be written to."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.int64, device=device)
