"""Checkpoints: one safetensors file with weights, config and a digest. What does not fit is refused, and says why."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import Config, from_mapping, to_mapping

FORMAT = "roadloop-checkpoint-1"
Module = TypeVar("Module", bound=nn.Module)


class CheckpointError(ValueError):
    """A file that is not a whole, unharmed checkpoint of the expected kind."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str  # SHA-256 over config and tensors
    notes: dict[str, Any]  # steps, hours, data, gates: whatever the trainer wrote


def save_checkpoint(
    path: Path,
    config: Any,
    tensors: Mapping[str, Tensor],
    notes: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> str:
    """Write a checkpoint atomically and return its digest. Floating-point tensors are stored as `dtype`."""
    stored = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps(to_mapping(config), sort_keys=True)
    digest = _digest(text, stored)
    metadata = {"format": FORMAT, "config": text, "digest": digest, "notes": json.dumps(dict(notes or {}))}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(stored, partial, metadata)
    os.replace(partial, path)
    return digest


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: no such file, truncated, not ours, or changed since it was written.
    """
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint at {path}, got no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name}: expected a whole safetensors file, got {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path.name}: expected format {FORMAT}, got {metadata.get('format')}")
    found = _digest(metadata["config"], tensors)
    if found != metadata["digest"]:
        raise CheckpointError(
            f"{path.name}: expected digest {metadata['digest'][:16]}, got {found[:16]}: corrupted"
        )
    return Checkpoint(json.loads(metadata["config"]), tensors, found, json.loads(metadata["notes"]))


def load_weights(
    module: Module, checkpoint: Checkpoint, prefix: str = "", fresh: Sequence[str] = ()
) -> Module:
    """Copy the tensors that start with a prefix into a module.

    Args:
        module: of the same shapes.
        checkpoint: whose weights.
        prefix: of the names to take, which is dropped.
        fresh: beginnings of names that the checkpoint may lack: those parts keep their fresh weights.

    Raises:
        CheckpointError: names or shapes differ; the message lists the first few.
    """
    given = {n.removeprefix(prefix): t for n, t in checkpoint.tensors.items() if n.startswith(prefix)}
    wanted = module.state_dict()
    given |= {n: t for n, t in wanted.items() if n not in given and n.startswith(tuple(fresh))}
    complaints = [f"{name}: missing" for name in sorted(set(wanted) - set(given))]
    complaints += [f"{name}: not expected" for name in sorted(set(given) - set(wanted))]
    complaints += [
        f"{name}: expected {list(wanted[name].shape)}, got {list(given[name].shape)}"
        for name in sorted(set(wanted) & set(given))
        if wanted[name].shape != given[name].shape
    ]
    if complaints:
        more = f" and {len(complaints) - 4} more" if len(complaints) > 4 else ""
        raise CheckpointError(f"weights of another config: {'; '.join(complaints[:4])}{more}")
    module.load_state_dict(given)
    return module


def checkpoint_config(checkpoint: Checkpoint, kind: type[Config]) -> Config:
    """The config that a checkpoint was saved with."""
    return from_mapping(kind, _lists_to_tuples(checkpoint.config))


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _digest(config: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
