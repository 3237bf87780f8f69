"""A whole world model: config, tokeniser and network, loaded by name or from a file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ..preset_files import PACKAGE_DIR
from .checkpoint import CheckpointError, checkpoint_config, load_checkpoint, load_weights
from .config import ConfigError, ModelConfig, load_model_config
from .depth import DepthNet, depth_from, load_depth
from .dit import DiT
from .tokenizer import Tokenizer

Module = TypeVar("Module", bound=nn.Module)

WEIGHTS_DIR = PACKAGE_DIR / "weights"


@dataclass(frozen=True)
class WorldModel:
    """Networks in eval mode, with the digest that snapshots and reports name them by."""

    config: ModelConfig
    tokenizer: Tokenizer
    dit: DiT
    depth: DepthNet  # for sessions without layout
    digest: str

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "WorldModel":
        """The same on a device and in a number format."""
        last = torch.channels_last  # what convolutions like best, on CPUs above all
        return replace(
            self,
            tokenizer=self.tokenizer.to(device, dtype).to(memory_format=last),  # type: ignore[call-overload]
            dit=self.dit.to(device, dtype).to(memory_format=last),  # type: ignore[call-overload]
            depth=self.depth.to(device, dtype).to(memory_format=last),  # type: ignore[call-overload]
        )


def load_world_model(name: str) -> WorldModel:
    """Load a shipped model by name, or a checkpoint by path.

    A preset marked as untrained gets random weights, always the same, and the digest `random`.

    Raises:
        CheckpointError: no weights, or weights that do not fit; the message lists what there is.
        ConfigError, PresetError: no such model.
    """
    if name.endswith(".safetensors"):
        return _from_file(Path(name).expanduser(), None)
    config = load_model_config(name)
    if not config.trained:
        return random_world_model(config)
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in WEIGHTS_DIR.glob("*.safetensors"))) or "none"
        raise CheckpointError(f"expected weights of {name!r} in the package, got only: {there}")
    return _from_file(path, config)


def build_world_model(config: ModelConfig, digest: str = "random") -> WorldModel:
    """Networks with fresh weights; depth is estimated by the shipped ones, which serve any model."""
    tokenizer, dit = Tokenizer(config.tokenizer), DiT(config.dit, config.tokenizer.channels)
    return WorldModel(config, _frozen(tokenizer), _frozen(dit), load_depth(), digest)


def _from_file(path: Path, preset: ModelConfig | None) -> WorldModel:
    """A checkpoint. The preset decides how the model is used, the file what it is."""
    checkpoint = load_checkpoint(path)
    config = checkpoint_config(checkpoint, ModelConfig)
    if preset is not None:
        for part in ("tokenizer", "dit"):
            wanted, found = getattr(preset, part), getattr(config, part)
            if wanted != found:
                raise ConfigError(f"{path.name}: expected {part} {wanted}, got {found}")
        config = preset
    model = build_world_model(config, checkpoint.digest)
    load_weights(model.tokenizer, checkpoint, "tokenizer.")
    load_weights(model.dit, checkpoint, "dit.")
    if any(name.startswith("depth.") for name in checkpoint.tensors):
        return replace(model, depth=depth_from(checkpoint, config.depth, "depth."))
    return model


def random_world_model(config: ModelConfig) -> WorldModel:
    """Weights that mean nothing, always the same, with the digest `random`: for speed studies and tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_world_model(config)
        for parameter in model.dit.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # zero-initialised parts come alive
    return model


def _frozen(module: Module) -> Module:
    return module.eval().requires_grad_(False)
