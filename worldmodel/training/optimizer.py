"""AdamW, its schedule over steps or wall-clock, and the moving average of the weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: gains, biases and embeddings are left alone."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(config: OptimizerConfig, step: int, progress: float) -> float:
    """Warm up over steps, hold, then decay linearly over the last share of the run.

    Args:
        config: rates and shares.
        step: steps done since the start (or since a warm restart).
        progress: share of the run that is done, 0 to 1, by steps or by time.
    """
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    left = (1.0 - progress) / max(config.decay_share, 1e-9)
    decay = min(1.0, max(left, 0.0))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * warm * decay


@dataclass
class Ema:
    """Exponential moving average of parameters and buffers, kept in float32."""

    decay: float
    weights: dict[str, Tensor]
    updates: int = 0

    @classmethod
    def of(cls, model: nn.Module, decay: float) -> "Ema":
        """Start at the model's present weights."""
        return cls(decay, {name: t.detach().clone() for name, t in model.state_dict().items()})

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model; faster at first, so that the start is forgotten."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine, theirs = [], []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                mine.append(self.weights[name])
                theirs.append(tensor)
            else:
                self.weights[name].copy_(tensor)
        torch._foreach_lerp_(mine, theirs, 1 - decay)
