"""Put parts that were trained by themselves into a world model: a polished decoder, a depth network of its own.

A decoder leaves the latents what they were. So may a tokeniser whose encoder was moved, if that was near the latents that the model
was trained on: say so.
"""

from dataclasses import replace
from pathlib import Path

import torch

from ..model.checkpoint import (
    Checkpoint,
    CheckpointError,
    checkpoint_config,
    load_checkpoint,
    save_checkpoint,
)
from ..model.config import DepthConfig, ModelConfig, TokenizerConfig
from ..model.depth import depth_from
from .tokenizer_file import LATENT_PARTS


def assemble(
    model: Path,
    out: Path,
    tokenizer: Path | None = None,
    moved_encoder: bool = False,
    depth: Path | None = None,
) -> str:
    """Write `model` with other parts, and return the digest.

    Args:
        model: a world model.
        out: what is written.
        tokenizer: whose decoder goes into it.
        moved_encoder: take its encoder too, though the model was trained on another's latents.
        depth: a depth network, for its sessions without layout.

    Raises:
        CheckpointError: a file does not fit, or the tokeniser makes other latents than the model was trained on.
        ValueError: nothing to put into it.
    """
    if tokenizer is None and depth is None:
        raise ValueError("expected a tokeniser or a depth network to put into the model, got neither")
    base = load_checkpoint(model)
    if tokenizer is not None:
        base = _with_tokenizer(base, load_checkpoint(tokenizer), tokenizer.name, moved_encoder)
    if depth is not None:
        base = _with_depth(base, load_checkpoint(depth))
    return save_checkpoint(out, checkpoint_config(base, ModelConfig), base.tensors, base.notes)


def _with_tokenizer(base: Checkpoint, polished: Checkpoint, name: str, moved_encoder: bool) -> Checkpoint:
    config = checkpoint_config(base, ModelConfig)
    found = checkpoint_config(polished, TokenizerConfig)
    if replace(found, carried=config.tokenizer.carried) != config.tokenizer:
        raise CheckpointError(f"{name}: expected tokeniser {config.tokenizer}, got {polished.config}")
    if not moved_encoder:
        _check_latents(base, polished, name)
    return _with_part(base, polished, "tokenizer", "decoder")


def _with_depth(base: Checkpoint, depth: Checkpoint) -> Checkpoint:
    depth_from(depth, checkpoint_config(depth, DepthConfig))  # refuses what is none
    return _with_part(base, depth, "depth", "depth")


def _with_part(base: Checkpoint, part: Checkpoint, name: str, note: str) -> Checkpoint:
    """The part's tensors under its name, its config and notes beside the others."""
    kept = {key: tensor for key, tensor in base.tensors.items() if not key.startswith(f"{name}.")}
    return replace(
        base,
        config={**base.config, name: part.config},
        tensors=kept | {f"{name}.{key}": tensor for key, tensor in part.tensors.items()},
        notes={**base.notes, note: part.notes},
    )


def _check_latents(base: Checkpoint, polished: Checkpoint, name: str) -> None:
    for part, tensor in polished.tensors.items():
        if not part.startswith(LATENT_PARTS):
            continue
        trained_on = base.tensors[f"tokenizer.{part}"]
        if not torch.equal(tensor.to(trained_on.dtype), trained_on):
            raise CheckpointError(
                f"{name}: expected the encoder that the model was trained with, got another {part}"
            )
