"""One transformer block, and the seam through which every block is called."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossViewAttention, Memory, SelfAttention, Table
from .config import DiTConfig

Role = Literal["denoise", "kv_update"]


class BlockId(NamedTuple):
    """Which call of which block this is. Passed in, never counted."""

    step: int  # denoising step; the number of steps for the KV-update pass
    block: int
    role: Role


class Residual(Protocol):
    """A block as a function of its input alone: what it would add."""

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """[B, V, L, D] -> [B, V, L, D]. `rows` (int64 [b]): x holds these sessions of the batch only."""
        ...


# Computes x + residual(x), or whatever stands in for it. The cache replaces this function.
RunBlock = Callable[[Residual, Tensor, BlockId], Tensor]


def plain_run_block(residual: Residual, x: Tensor, identity: BlockId) -> Tensor:
    """Compute the block for every session."""
    return x + residual(x)


@dataclass(frozen=True)
class BlockInputs:
    """What all blocks of one pass share."""

    modulation: Tensor  # [B, V, T, 6 D], before each block's own bias
    grid: Table  # spatial angles [L, ...]
    directions: Table  # ray angles [B, 1, 1, V N, 32]
    neighbours: Tensor  # additive [B, 1, 1, V N, V N]
    memory: Memory

    def select(self, rows: Tensor) -> "BlockInputs":
        """The same inputs for some sessions of the batch."""
        return replace(
            self,
            modulation=self.modulation[rows],
            directions=(self.directions[0][rows], self.directions[1][rows]),
            neighbours=self.neighbours[rows],
            memory=self.memory.select(rows),
        )


class Block(nn.Module):
    """Self-attention over time, attention across cameras (in some blocks), MLP; adaLN-Zero (Peebles & Xie 2212.09748).

    The modulation comes from one network shared by all blocks plus this block's bias (as in PixArt-alpha, 2310.00426).
    """

    def __init__(self, config: DiTConfig, index: int) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.index = index
        self.attention = SelfAttention(width)
        crossing = index % config.cross_view_every == config.cross_view_every - 1
        self.cross_view = CrossViewAttention(width) if crossing else None
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
        )
        self.modulation_bias = nn.Parameter(torch.zeros(6 * width))

    def forward(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """What this block adds to its input, [B, V, L, D] -> [B, V, L, D]."""
        latents = inputs.modulation.shape[2]
        tokens = x.shape[2] // latents
        modulation = (inputs.modulation + self.modulation_bias.to(x.dtype)).repeat_interleave(tokens, dim=2)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        attended = self.attention(modulate(x, shift_a, scale_a), self.index, inputs.grid, inputs.memory)
        h = x + gate_a * attended
        if self.cross_view is not None:
            h = h + self.cross_view(h, latents, inputs.directions, inputs.neighbours)
        h = h + gate_m * self.mlp(modulate(h, shift_m, scale_m))
        return h - x


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """RMS-normalise the last axis, then scale and shift."""
    return F.rms_norm(x, x.shape[-1:]) * (1 + scale) + shift
