"""Put a polished decoder into a trained world model: its latents stay what they were, its pictures get better.

So may a tokeniser whose encoder was moved, if that was near the latents that the model was trained on: say so.
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
from ..model.config import ModelConfig, TokenizerConfig
from .tokenizer_file import LATENT_PARTS


def assemble(model: Path, tokenizer: Path, out: Path, moved_encoder: bool = False) -> str:
    """Write `model` with the decoder of `tokenizer`, and return the digest.

    Args:
        model: a world model.
        tokenizer: what goes into it.
        out: what is written.
        moved_encoder: take its encoder too, though the model was trained on another's latents.

    Raises:
        CheckpointError: a file does not fit, or the tokeniser makes other latents than the model was trained on.
    """
    base, polished = load_checkpoint(model), load_checkpoint(tokenizer)
    config = checkpoint_config(base, ModelConfig)
    found = checkpoint_config(polished, TokenizerConfig)
    if replace(found, carried=config.tokenizer.carried) != config.tokenizer:
        raise CheckpointError(
            f"{tokenizer.name}: expected tokeniser {config.tokenizer}, got {polished.config}"
        )
    if not moved_encoder:
        _check_latents(base, polished, tokenizer.name)
    tensors = base.tensors | {f"tokenizer.{name}": tensor for name, tensor in polished.tensors.items()}
    config = replace(config, tokenizer=found)
    return save_checkpoint(out, config, tensors, {**base.notes, "decoder": polished.notes})


def _check_latents(base: Checkpoint, polished: Checkpoint, name: str) -> None:
    for part, tensor in polished.tensors.items():
        if not part.startswith(LATENT_PARTS):
            continue
        trained_on = base.tensors[f"tokenizer.{part}"]
        if not torch.equal(tensor.to(trained_on.dtype), trained_on):
            raise CheckpointError(
                f"{name}: expected the encoder that the model was trained with, got another {part}"
            )
