"""Average the networks of two runs that began with the same weights: often better than either.

Model soups (Wortsman et al., 2203.05482) and WiSE-FT (2109.01903): what a second run learnt is kept, what it unlearnt comes
half back, and the noise of its last steps evens out.
"""

from pathlib import Path

import torch

from ..model.checkpoint import CheckpointError, checkpoint_config, load_checkpoint, save_checkpoint
from ..model.config import ModelConfig

NETWORK = "dit."


def average(model: Path, other: Path, share: float, out: Path) -> str:
    """Write `model` with its network moved by `share` of the way to that of `other`, and return the digest.

    The tokeniser stays that of `model`.

    Raises:
        CheckpointError: a file does not fit. ValueError: the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1, got {share}")
    base, second = load_checkpoint(model), load_checkpoint(other)
    config, found = checkpoint_config(base, ModelConfig), checkpoint_config(second, ModelConfig)
    if found.dit != config.dit:
        raise CheckpointError(f"{other.name}: expected network {config.dit}, got {found.dit}")
    tensors = dict(base.tensors)
    for name, tensor in base.tensors.items():
        if name.startswith(NETWORK) and tensor.is_floating_point():
            mixed = torch.lerp(tensor.float(), second.tensors[name].float(), share)
            tensors[name] = mixed.to(tensor.dtype)
    return save_checkpoint(out, config, tensors, {**base.notes, "averaged": {"share": share, **second.notes}})
