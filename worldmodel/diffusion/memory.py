"""What a session of the world model remembers from chunk to chunk, outside the rolling KV."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.conditioning import Embedded
from ..scene.state import EgoState


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
    source: Tensor  # [V, 3, h, w] last committed images at raster resolution: where history is warped from
    source_depth: Tensor  # [V, h, w]
    pending: PendingCommit | None = None


def memory_to_state(memory: Memory, kv: dict[str, Tensor]) -> dict[str, Any]:
    """Plain data and arrays; `pending` must have been written."""
    if memory.pending is not None:
        raise ValueError("expected a memory without a pending commit, got one")
    return {
        "anchor": asdict(memory.anchor),
        "last": asdict(memory.last),
        "source": memory.source.cpu().numpy(),
        "source_depth": memory.source_depth.cpu().numpy(),
        "kv": {name: _to_array(tensor) for name, tensor in kv.items()},
        "kv_dtype": str(kv["k"].dtype).removeprefix("torch."),
    }


def memory_from_state(
    state: dict[str, Any], slot: int, device: torch.device
) -> tuple[Memory, dict[str, Tensor]]:
    """The inverse of `memory_to_state`, for another slot."""
    dtype = getattr(torch, state["kv_dtype"])
    kv = {name: torch.from_numpy(array.copy()) for name, array in state["kv"].items()}
    kv |= {name: kv[name].view(dtype) for name in ("k", "v")}
    memory = Memory(
        slot,
        EgoState(**state["anchor"]),
        EgoState(**state["last"]),
        torch.from_numpy(state["source"].copy()).to(device),
        torch.from_numpy(state["source_depth"].copy()).to(device),
    )
    return memory, kv


def _to_array(tensor: Tensor) -> np.ndarray:
    """NumPy has no bfloat16: its bits travel as integers."""
    cpu = tensor.detach().cpu().contiguous()
    return cpu.view(torch.int16).numpy() if cpu.dtype == torch.bfloat16 else cpu.numpy()
