"""The model that a command is about: a preset's name or a checkpoint file, trained or random, perhaps at another size."""

from dataclasses import replace

from .model.config import ConfigError, ModelConfig, load_model_config
from .model.world_model import WorldModel, load_world_model, random_world_model
from .rig import Rig, load_rig


def chosen_model(
    name: str, random_weights: bool = False, size: str = "", cycle: int | None = None
) -> WorldModel:
    """Load a model.

    Args:
        name: preset, or a file ending in .safetensors.
        random_weights: of a preset, for speed only; the digest is `random`.
        size: HEIGHTxWIDTH of the cameras that stands in for the model's own; empty for none. The networks run at any
            size; the pictures are best at the one that they were trained for.
        cycle: chunks per KV cycle that stand in for the model's own.

    Raises:
        CheckpointError, ConfigError, PresetError: no such model, or an impossible size or cycle.
    """
    model = random_world_model(load_model_config(name)) if random_weights else load_world_model(name)
    config = model.config if cycle is None else replace(model.config, cycle=cycle)
    if size:
        height, width = camera_size(size)
        config = replace(config, height=height, width=width)
    return replace(model, config=config)


def camera_size(text: str) -> tuple[int, int]:
    """`96x160` -> (96, 160). Raises ConfigError for anything else."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"expected a size like 96x160, height first, got {text!r}")
    return int(height), int(width)


def rig_of(config: ModelConfig) -> Rig:
    """The cameras that a model is made for, at its size."""
    rig = load_rig(config.rig)
    return (rig.subset(config.cameras) if config.cameras else rig).scaled(config.height, config.width)
