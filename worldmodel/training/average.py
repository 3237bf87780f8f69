"""Average the networks of two runs that began with the same weights: often better than either.

Model soups (Wortsman et al., 2203.05482) and WiSE-FT (2109.01903): what a second run learnt is kept, what it unlearnt comes
half back, and the noise of its last steps evens out.
"""

from pathlib import Path

import torch

from ..model.checkpoint import CheckpointError, checkpoint_config, load_checkpoint, save_checkpoint
from ..model.config import ModelConfig

NETWORK, DECODER = "dit.", "tokenizer.decoder."


def average(model: Path, other: Path, out: Path, network: float = 0.5, decoder: float = 0.0) -> str:
    """Write `model` moved towards `other`, and return the digest. The encoder, and so every latent, stays.

    Args:
        model: where to start.
        other: where to go.
        out: what is written.
        network: share of the way that the network goes.
        decoder: the same of the tokeniser's decoder.

    Raises:
        CheckpointError: a file does not fit. ValueError: a share is not between 0 and 1.
    """
    shares = {NETWORK: network, DECODER: decoder}
    for part, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{part.rstrip('.')}: expected a share from 0 to 1, got {share}")
    base, second = load_checkpoint(model), load_checkpoint(other)
    config, found = checkpoint_config(base, ModelConfig), checkpoint_config(second, ModelConfig)
    if (found.dit, found.tokenizer) != (config.dit, config.tokenizer):
        raise CheckpointError(
            f"{other.name}: expected {config.dit}, {config.tokenizer}, got {found.dit}, {found.tokenizer}"
        )
    tensors = dict(base.tensors)
    for part, share in shares.items():
        for name in (name for name in base.tensors if share and name.startswith(part)):
            mixed = torch.lerp(tensors[name].float(), second.tensors[name].float(), share)
            tensors[name] = mixed.to(tensors[name].dtype)
    notes = {"network": network, "decoder": decoder, "with": second.notes}
    if "averaged" in base.notes:
        notes["before"] = base.notes["averaged"]
    return save_checkpoint(out, config, tensors, {**base.notes, "averaged": notes})
