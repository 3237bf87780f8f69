"""Shortcut forcing: diffusion forcing with a noise level per latent frame, and consistency between step sizes.

Diffusion forcing: Chen et al. 2407.01392. Shortcut models: Frans et al. 2410.12557. Together, predicting the clean
latent: Dreamer 4, 2509.24527. Axes: B rows, V views, T latent frames; noise levels are shared by all views.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.sampler import FINEST_STEPS
from .losses import noise_weight

# (noisy latents [B, V, T, C, h, w], tau [B, T], size [B, T]) -> clean latents
Network = Callable[[Tensor, Tensor, Tensor], Tensor]
FINEST = 1.0 / FINEST_STEPS


@dataclass(frozen=True)
class Levels:
    """Noise levels of a batch."""

    tau: Tensor  # [B, T] as the network is told
    mixed: Tensor  # [B, T] as the latents are mixed; 1 where a latent frame is shown clean
    size: Tensor  # [B, T]
    target: Tensor  # bool [B, T]: latent frames that count in the loss


def draw_levels(given: Tensor, coarse: int, commit_tau: float, free_size: bool, g: torch.Generator) -> Levels:
    """Draw noise levels.

    Half of the rows have independent levels everywhere. In the others the frames before a random one are context as
    in a rollout: nearly clean, or clean under the label of the KV-update pass.

    Args:
        given: bool [B, T], frames that are never generated (sinks, stills): always context.
        coarse: the first so many rows get a coarse step size and a level on its grid.
        commit_tau: label of the KV-update pass.
        free_size: step sizes mean nothing yet: draw any, so that all are usable from the start.
        g: source of randomness.
    """
    batch, latents = given.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    tau = uniform(batch, latents)
    on_grid = uniform(batch, latents) < 0.4  # the levels that sampling visits, pure noise above all
    grid = torch.floor(uniform(batch, latents) ** 1.5 * FINEST_STEPS) / FINEST_STEPS
    tau = torch.where(on_grid, grid, tau)
    exponent = (
        torch.randint(0, 4, (batch, latents), generator=g)
        if free_size
        else torch.full_like(given, 3, dtype=torch.int64)
    )
    exponent[:coarse] = torch.randint(0, 3, (coarse, latents), generator=g)
    size = torch.exp2(-exponent.float())
    tau[:coarse] = torch.floor(uniform(coarse, latents) / size[:coarse]) * size[:coarse]

    first = torch.randint(0, latents, (batch, 1), generator=g)
    rollout_like = (uniform(batch, 1) < 0.5) & (torch.arange(latents) < first)
    context = given | rollout_like
    shown_clean = uniform(batch, latents) < 0.5
    near = 0.85 + 0.15 * uniform(batch, latents)
    label = torch.where(shown_clean, commit_tau, near)
    mixed = torch.where(shown_clean, 1.0, near)
    return Levels(
        tau=torch.where(context, label, tau),
        mixed=torch.where(context, mixed, tau),
        size=torch.where(context, FINEST, size),
        target=~context,
    )


def forcing_loss(
    network: Network, clean: Tensor, context: Tensor, noise: Tensor, levels: Levels, coarse: int, floor: float
) -> tuple[Tensor, dict[str, float]]:
    """The training loss and what it is made of.

    Args:
        network: predicts clean latents; conditions are bound.
        clean: [B, V, T, C, h, w] targets.
        context: the same shape: latents that the network is shown (its own errors included), before noise.
        noise: the same shape.
        levels: of the batch.
        coarse: how many rows, from the first, learn to agree with two half steps.
        floor: loss weight of pure noise.
    """
    mixed = _wide(levels.mixed)
    x = (1 - mixed) * noise + mixed * context
    target, weight = clean, noise_weight(levels.tau, floor)
    if coarse:
        head = slice(0, coarse)
        goal = two_half_steps(network, x, levels, head)
        fixed = levels.target[head] & (levels.tau[head] < 1)
        target = torch.cat([torch.where(_wide(fixed), goal, clean[head]), clean[coarse:]])
    error = (network(x, levels.tau, levels.size).float() - target).square().mean(dim=(1, 3, 4, 5))  # B T
    loss = _mean(error * weight, levels.target)
    fine = levels.target.clone()
    fine[:coarse] = False
    report = {
        "loss": loss,
        "loss_noise": _mean(error, fine & (levels.tau < 0.2)),
        "loss_fine": _mean(error, fine),
    }
    if coarse:
        report["loss_coarse"] = _mean(error[:coarse], levels.target[:coarse])
    return loss, {name: float(value.detach()) for name, value in report.items()}


@torch.no_grad()
def two_half_steps(network: Network, x: Tensor, levels: Levels, rows: slice) -> Tensor:
    """Where two half steps lead, said as the clean latent that one whole step should predict.

    One step of size d from x reaches x + (x1 - x) d / (1 - tau); solving for x1 with the point that two steps reach
    gives the target. The error of x1 then is the velocity error times (1 - tau), as in Dreamer 4.
    """
    tau, start = levels.tau[rows], x[rows]
    half = levels.size[rows] / 2 * levels.target[rows]  # context frames stay where they are
    middle = _euler(network, start, tau, half)
    end = _euler(network, middle, tau + half, half)
    return start + (end - start) * _wide((1 - tau) / levels.size[rows])


def _euler(network: Network, x: Tensor, tau: Tensor, size: Tensor) -> Tensor:
    clean = network(x, tau, size.clamp_min(FINEST)).float()
    return x + (clean - x) * _wide(size / (1 - tau).clamp_min(1e-3))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp_min(1)


def _wide(value: Tensor) -> Tensor:
    """[B, T] -> [B, 1, T, 1, 1, 1]."""
    return value[:, None, :, None, None, None]
