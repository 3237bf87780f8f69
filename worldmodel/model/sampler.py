"""Few-step sampling with a network that predicts the clean latent.

Convention: tau = 0 is noise, tau = 1 is data, x_tau = (1 - tau) noise + tau data. The velocity towards the predicted
data is (x1_hat - x) / (1 - tau); an Euler step of size d moves x by d times that. The last step lands on x1_hat.
Shortcut models: Frans et al. 2410.12557; in this form: Dreamer 4, 2509.24527.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FINEST_STEPS = 8  # k_max: the finest grid that the network knows step sizes for
LATENT_CLAMP = 5.0  # standard deviations; latents are bounded, so more can only be an error


class Step(NamedTuple):
    """One denoising step."""

    number: int
    tau: float
    size: float


# (noisy latent, step) -> predicted clean latent, both of the shape of the noise
Denoiser = Callable[[Tensor, Step], Tensor]


def schedule(steps: int) -> tuple[Step, ...]:
    """The uniform grid of 1, 2, 4 or 8 steps.

    Raises:
        ValueError: another number of steps.
    """
    if steps not in (1, 2, 4, FINEST_STEPS):
        raise ValueError(f"expected 1, 2, 4 or {FINEST_STEPS} steps, got {steps}")
    return tuple(Step(number, number / steps, 1.0 / steps) for number in range(steps))


def sample(denoise: Denoiser, noise: Tensor, steps: tuple[Step, ...]) -> Tensor:
    """Turn noise into a clean latent of the same shape by Euler steps."""
    x = noise
    for step in steps:
        clean = denoise(x, step).clamp(-LATENT_CLAMP, LATENT_CLAMP)
        x = torch.lerp(x, clean, step.size / (1.0 - step.tau))
    return x
