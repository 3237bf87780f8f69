"""The world model's network: a causal diffusion transformer over latent frames of many cameras.

Axes: B sessions, V views, T latent frames (1 when generating), N tokens of a latent frame, D width, L = T N.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Memory, Recording
from .blocks import (
    Block,
    BlockInputs,
    BlockResidual,
    RunStack,
    modulate,
    per_token,
    plain_run_stack,
)
from .conditioning import Conditioner, Embedded
from .config import DiTConfig
from .kv_cache import KVCache, KVShape
from .kv_context import KVContext, KVRecorder, SinkMemory
from .rope import grid_table
from .sampler import FINEST_STEPS, Step
from .sequence_memory import SequenceMemory


class Modulation(NamedTuple):
    """What noise level, step size and conditions come to in one pass, [B, V, T, D] each."""

    vector: Tensor  # every block makes its own modulation of it
    shift: Tensor  # of the last norm
    scale: Tensor


class DiT(nn.Module):
    """Predicts the clean latent of the next chunk from a noisy one, the past and the conditions."""

    def __init__(self, config: DiTConfig, channels: int) -> None:
        super().__init__()
        width = config.width
        self.config, self.channels = config, channels
        self.embed = Conditioner(config, channels)
        self.patch = nn.Linear(channels, width)
        self.noise_level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.step_size = nn.Embedding(_size_index(1.0 / FINEST_STEPS) + 1, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, channels)
        for layer in (self.modulation, self.final_modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.step_size.weight, std=0.02)

    def denoise(
        self,
        x: Tensor,
        step: Step,
        cond: Embedded,
        context: KVContext,
        run_stack: RunStack = plain_run_stack,
        modulation: Modulation | None = None,
    ) -> Tensor:
        """One denoising step. Reads the rolling KV, never writes it.

        Args:
            x: noisy latents [B, V, C, h, w].
            step: its index, noise level and size.
            cond: embedded conditions with T = 1.
            context: `KVCache.context` of the sessions.
            run_stack: calls the blocks; a cache may stand here.
            modulation: of this step, where those of all steps were made at once.

        Returns:
            Predicted clean latents [B, V, C, h, w], float32.
        """
        modulation = modulation or self.modulations(self.levels([step]), cond)[0]
        return self._run(x[:, :, None], modulation, cond, context, step.number, run_stack)[:, :, 0]

    def levels(self, steps: Sequence[Step]) -> Tensor:
        """Noise levels and step sizes as the network sees them, [S, D]: a matter of the weights alone."""
        tau, size = torch.tensor([(step.tau, step.size) for step in steps], device=self.patch.weight.device).T
        return self._noise_vector(tau, size)

    def modulations(self, levels: Tensor, cond: Embedded) -> list[Modulation]:
        """Of all steps of a chunk, `cond` with T = 1: together they cost little more than one."""
        made = self._modulation(levels[:, None, None, None], cond)
        return [Modulation(*parts) for parts in zip(*made, strict=True)]

    def kv_update(
        self,
        x: Tensor,
        step: Step,
        cond: Embedded,
        cache: KVCache,
        rows: Sequence[int],
        ahead: Tensor,
    ) -> None:
        """Write clean latents [B, V, C, h, w] into the rolling KV, `ahead` (int64 [B]) latent frames after the last."""
        context = cache.context(rows, ahead).recording()
        self._record(x, step, cond, context)
        assert context.recorder is not None
        cache.commit(rows, *context.recorder.stacked(), ahead)

    def write_sink(self, x: Tensor, step: Step, cond: Embedded, cache: KVCache, rows: Sequence[int]) -> None:
        """Make clean latents [B, V, C, h, w] the sinks of their sessions."""
        recorder = KVRecorder()
        self._record(x, step, cond, SinkMemory(self.config.temporal_dims, recorder))
        cache.write_sink(rows, *recorder.stacked())

    def forward(
        self, x: Tensor, tau: Tensor, size: Tensor, cond: Embedded, times: Tensor, sink: bool
    ) -> Tensor:
        """A whole sequence at once, block-causal: the training pass, and the naive path beside the rolling KV.

        Args:
            x: noisy latents [B, V, T, C, h, w].
            tau: noise levels [B, T].
            size: step sizes [B, T], 1 to 1/8.
            cond: embedded conditions of all T.
            times: [B, T] in latent frames, increasing.
            sink: whether the first latent frame is the sink.

        Returns:
            Predicted clean latents [B, V, T, C, h, w].
        """
        tokens = x.shape[-2] * x.shape[-1]
        config = self.config
        memory = SequenceMemory.build(times, tokens, config.temporal_dims, config.window, sink)
        modulation = self._modulation(self._noise_vector(tau, size)[:, None], cond)
        return self._run(x, modulation, cond, memory, 0, plain_run_stack)

    def new_cache(
        self,
        views: int,
        tokens: int,
        slots: int = 1,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> KVCache:
        """An empty rolling KV of the right shape."""
        config = self.config
        shape = KVShape(config.depth, views, config.heads, config.window, tokens, config.temporal_dims)
        return KVCache(shape, slots, dtype, device)

    def _record(self, x: Tensor, step: Step, cond: Embedded, memory: Recording) -> None:
        """Keys and values of one latent frame per session [B, V, C, h, w]; of the last block nothing else is needed."""
        h = self._tokens(x[:, :, None], cond)
        inputs = self._inputs(x, self.modulations(self.levels([step]), cond)[0], cond, memory)
        for block in self.blocks[:-1]:
            h = h + block(h, inputs)
        cast(Block, self.blocks[-1]).record(h, inputs, memory)

    def _run(
        self,
        x: Tensor,
        modulation: Modulation,
        cond: Embedded,
        memory: Memory,
        step: int,
        run_stack: RunStack,
    ) -> Tensor:
        """[B, V, T, C, h, w] -> the same, float32."""

        def inputs() -> BlockInputs:
            return self._inputs(x, modulation, cond, memory)

        # Made when first asked for: a pass that skips all blocks needs none. A pass that runs all of them makes them here:
        # a compiler does not see through `cache`, and would make them once per block.
        asked = cache(inputs) if run_stack is not plain_run_stack else constant(inputs())
        residuals = [BlockResidual(cast(Block, block), asked) for block in self.blocks]
        h = run_stack(residuals, self._tokens(x, cond), step)
        shift, scale = (per_token(part, h.shape[2]) for part in (modulation.shift, modulation.scale))
        clean = self.head(modulate(h, shift, scale))  # B V L C
        return clean.unflatten(2, (-1, *x.shape[-2:])).movedim(-1, -3).float() + cond.guess.float()

    def _tokens(self, x: Tensor, cond: Embedded) -> Tensor:
        """What the first block gets of [B, V, T, C, h, w]: [B, V, L, D]."""
        tokens = x.flatten(-2).transpose(-1, -2).flatten(2, 3)
        # Contiguous, or the product becomes one per camera; a copy unless x is `channels_innermost`.
        h = self.patch(tokens.contiguous().to(self.patch.weight.dtype)).to(cond.tokens.dtype)
        return h.add_(cond.tokens)

    def _inputs(self, x: Tensor, modulation: Modulation, cond: Embedded, memory: Memory) -> BlockInputs:
        """What all blocks of a pass over x [B, V, ..., h, w] share."""
        (rows, columns), latents = x.shape[-2:], modulation.vector.shape[2]
        return BlockInputs(
            modulation=self.modulation(modulation.vector).to(cond.tokens.dtype),
            grid=self._grid(rows, columns, latents, x.device),
            directions=cond.directions,
            neighbours=cond.neighbours,
            memory=memory,
        )

    def _modulation(self, level: Tensor, cond: Embedded) -> Modulation:
        """From noise levels and step sizes [..., B, 1, T, D], or what spreads to that; more axes may lead."""
        vector = F.silu(cond.vector + level)
        return Modulation(vector, *self.final_modulation(vector).chunk(2, dim=-1))

    def _noise_vector(self, tau: Tensor, size: Tensor) -> Tensor:
        """Noise level and step size [...] -> [..., D]."""
        weight = self.step_size.weight
        level = self.noise_level(_fourier(tau, weight.shape[1]).to(weight.dtype))
        return level + self.step_size(_size_index_of(size))

    def _grid(self, rows: int, columns: int, latents: int, device: torch.device) -> tuple[Tensor, Tensor]:
        cos, sin = grid_table(rows, columns, 64 - self.config.temporal_dims, device)
        return cos.repeat(latents, 1), sin.repeat(latents, 1)


def channels_innermost(x: Tensor) -> Tensor:
    """The same numbers [..., C, h, w], laid out as tokens are: a pass then copies nothing to get its tokens."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def constant(value: BlockInputs) -> Callable[[], BlockInputs]:
    """A function that always returns the same."""
    return lambda: value


def commit_step(commit_tau: float, number: int) -> Step:
    """The label of the KV-update pass: a nearly clean latent, the finest step."""
    return Step(number, commit_tau, 1.0 / FINEST_STEPS)


def _fourier(tau: Tensor, width: int) -> Tensor:
    """Sines and cosines of noise levels [...] -> [..., width]."""
    count = width // 2
    frequency = torch.exp(torch.arange(count, device=tau.device) * (math.log(1000.0) / count))
    angle = tau.float()[..., None] * frequency * math.pi
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def _size_index(size: float) -> int:
    return round(-math.log2(size))


def _size_index_of(size: Tensor) -> Tensor:
    return (-torch.log2(size.float())).round().long()
