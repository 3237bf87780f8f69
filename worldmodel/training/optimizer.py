"""Optimisers, their schedule over steps or wall-clock, and the moving average of the weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import OptimizerConfig


@dataclass(frozen=True)
class Optimizers:
    """Several optimisers, each for its own parameters, that step together."""

    parts: dict[str, torch.optim.Optimizer]

    def set_rate(self, rate: float) -> None:
        """One learning rate for all."""
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One update of every parameter."""
        for part in self.parts.values():
            part.step()


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> Optimizers:
    """AdamW; and Muon (Jordan et al. 2024) for matrices below `config.muon`, where one is given.

    Gains, biases and embeddings are not decayed. Muon's updates are scaled to the size of AdamW's (2502.16982), so one rate
    serves both.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    orthogonal = [
        p for name, p in trained.items() if config.muon and name.startswith(config.muon) and p.dim() == 2
    ]
    taken = set(map(id, orthogonal))
    rest = [p for p in trained.values() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    rate, betas = config.learning_rate, (config.beta1, config.beta2)
    parts: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)
    }
    if orthogonal:
        decay = config.weight_decay
        parts["muon"] = torch.optim.Muon(
            orthogonal, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
        )
    return Optimizers(parts)


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
