"""What a session of the world model remembers from chunk to chunk, outside the rolling KV."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.conditioning import Embedded
from ..scene.state import EgoState

MEMORY_FORMAT = 3  # of what a snapshot holds; 3 has the block cache's fingerprints in one piece


@dataclass(frozen=True)
class PendingCommit:
    """A finished chunk whose KV-update pass has not run yet: it may wait until the reply is out."""

    clean: Tensor  # [1, V, C, h, w]
    embedded: Embedded  # B = 1
    ahead: int


@dataclass(frozen=True)
class Memory:
    """Replaced, never changed, when a chunk commits."""

    slot: int  # in the pool of sessions with as many cameras
    anchor: EgoState  # ego at the last committed frame
    last: EgoState  # ego at the last frame
    source: Tensor  # uint8 [V, 3, H, W] last committed images: where history is carried from
    source_depth: Tensor  # [V, h, w] at raster resolution
    boxes: Tensor  # [N, 7] road users at that moment, see `model/road_users.py`
    pending: PendingCommit | None = None
    cache_slot: int | None = None  # in the block cache of sessions of this kind; None in tier `exact`


def memory_to_state(memory: Memory, kv: dict[str, Tensor], cache: dict[str, Tensor] | None) -> dict[str, Any]:
    """Plain data and arrays, with the slot's KV and block cache; `pending` must have been written."""
    if memory.pending is not None:
        raise ValueError("expected a memory without a pending commit, got one")
    return {
        "anchor": asdict(memory.anchor),
        "last": asdict(memory.last),
        "source": memory.source.cpu().numpy(),
        "source_depth": memory.source_depth.cpu().numpy(),
        "boxes": memory.boxes.cpu().numpy(),
        "kv": tensors_to_state(kv),
        "cache": None if cache is None else tensors_to_state(cache),
    }


def memory_from_state(state: dict[str, Any], slot: int, device: torch.device) -> Memory:
    """The inverse of `memory_to_state`, for another slot; KV and block cache are read with `tensors_from_state`."""
    return Memory(
        slot,
        EgoState(**state["anchor"]),
        EgoState(**state["last"]),
        torch.from_numpy(state["source"].copy()).to(device),
        torch.from_numpy(state["source_depth"].copy()).to(device),
        torch.from_numpy(state["boxes"].copy()).to(device),
    )


def tensors_to_state(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors as arrays with the names of their number formats. NumPy has no bfloat16: its bits travel as integers."""
    return {
        name: [str(tensor.dtype).removeprefix("torch."), _bits(tensor)] for name, tensor in tensors.items()
    }


def tensors_from_state(state: dict[str, Any]) -> dict[str, Tensor]:
    """The inverse of `tensors_to_state`, on the CPU."""
    return {
        name: torch.from_numpy(array.copy()).view(getattr(torch, dtype))
        for name, (dtype, array) in state.items()
    }


def _bits(tensor: Tensor) -> np.ndarray:
    cpu = tensor.detach().cpu().contiguous()
    return cpu.view(torch.int16).numpy() if cpu.dtype == torch.bfloat16 else cpu.numpy()
