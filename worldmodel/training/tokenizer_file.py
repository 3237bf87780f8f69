"""Tokenisers on disk: alone, or as a part of a world model."""

import hashlib
from pathlib import Path

import torch

from ..model.checkpoint import Checkpoint, checkpoint_config, load_checkpoint, load_weights
from ..model.config import ModelConfig, TokenizerConfig
from ..model.tokenizer import Tokenizer

PREFIX = "tokenizer."
# What a decoder may not change: the encoder, and the scale of its latents.
LATENT_PARTS = ("encoder.", "mean", "std")


def load_tokenizer(path: Path) -> Tokenizer:
    """A tokeniser from its own checkpoint or from a world model's, in float32, eval mode."""
    checkpoint = load_checkpoint(path)
    tokenizer = Tokenizer(tokenizer_config(checkpoint))
    return load_weights(tokenizer, checkpoint, prefix_of(checkpoint)).eval().requires_grad_(False)


def tokenizer_config(checkpoint: Checkpoint) -> TokenizerConfig:
    """The config of the tokeniser that a checkpoint holds."""
    if prefix_of(checkpoint):
        return checkpoint_config(checkpoint, ModelConfig).tokenizer
    return checkpoint_config(checkpoint, TokenizerConfig)


def prefix_of(checkpoint: Checkpoint) -> str:
    """What the names of the tokeniser's tensors begin with."""
    return PREFIX if any(name.startswith(PREFIX) for name in checkpoint.tensors) else ""


def latent_digest(tokenizer: Tokenizer) -> str:
    """SHA-256 of what latents depend on, as it is shipped, in bfloat16: a polished decoder has the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tokenizer.state_dict().items()):
        if name.startswith(LATENT_PARTS):
            digest.update(name.encode())
            digest.update(
                tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16).numpy().data
            )
    return digest.hexdigest()
