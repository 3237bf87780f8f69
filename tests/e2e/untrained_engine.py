"""The world model as it is before training: random weights, tiny pictures of noise. Its telemetry and timings are real."""

import torch

from worldmodel.diffusion import DiffusionEngine
from worldmodel.model.config import DiTConfig, ModelConfig, TokenizerConfig
from worldmodel.model.world_model import build_world_model

CONFIG = ModelConfig(
    name="untrained",
    rig="front3",
    height=32,
    width=48,
    steps=2,
    cycle=2,
    tokenizer=TokenizerConfig(channels=8, widths=(8, 8, 8), decoder_blocks=1),
    dit=DiTConfig(width=64, depth=2, window=2, trunk=(8, 16)),
)


def untrained_engine() -> DiffusionEngine:
    torch.manual_seed(0)
    model = build_world_model(CONFIG, digest="0" * 64)
    with torch.no_grad():
        for parameter in (*model.dit.parameters(), *model.tokenizer.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return DiffusionEngine(model, dtype=torch.float32)
