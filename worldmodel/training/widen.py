"""Let a trained world model read layout channels that were added after it was trained."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..layout import CHANNELS
from ..model.checkpoint import CheckpointError, checkpoint_config, load_checkpoint, save_checkpoint
from ..model.config import FRAMES, ModelConfig

TRUNK, GUIDE = "dit.embed.trunk.first.weight", "tokenizer.decoder.guide.0.weight"


def widen(model: Path, out: Path, channels: int = len(CHANNELS)) -> str:
    """Write `model` with weights of zero for new layout channels, and return the digest.

    It makes the same pictures as before until it is trained on. Channels are only ever added at the end of
    `layout.CHANNELS`, so those that it knows keep their places.

    Raises:
        CheckpointError: the file does not fit, or reads as many channels already.
    """
    base = load_checkpoint(model)
    config = checkpoint_config(base, ModelConfig)
    known = config.dit.layout_channels
    if config.tokenizer.guide_channels != known or known >= channels:
        raise CheckpointError(
            f"{model.name}: expected fewer than {channels} layout channels in network and decoder, "
            f"got {known} and {config.tokenizer.guide_channels}"
        )
    wider = {name: _widened(base.tensors[name], known, channels) for name in (TRUNK, GUIDE)}
    config = replace(
        config,
        dit=replace(config.dit, layout_channels=channels),
        tokenizer=replace(config.tokenizer, guide_channels=channels),
    )
    return save_checkpoint(out, config, base.tensors | wider, base.notes)


def _widened(weight: Tensor, known: int, channels: int) -> Tensor:
    """Inputs are the channels of every frame, frame by frame, then whatever else there is: [out, F * C + rest, k, k]."""
    layout, rest = weight.split([FRAMES * known, weight.shape[1] - FRAMES * known], dim=1)
    each = layout.unflatten(1, (FRAMES, known))
    new = each.new_zeros(len(weight), FRAMES, channels - known, *weight.shape[2:])
    return torch.cat([torch.cat([each, new], dim=2).flatten(1, 2), rest], dim=1)
