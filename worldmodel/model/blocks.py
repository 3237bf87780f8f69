"""One transformer block, and the seam through which every block is called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossViewAttention, Memory, Recording, SelfAttention, Table
from .config import DiTConfig


@dataclass(frozen=True)
class Part:
    """Which part of a batch a block is asked for: some sessions, or some views, or some tokens of these views.

    Queries come from the part alone, keys and values of everything it looks at from `whole`.
    """

    whole: Tensor  # [B, V, L, D] the entire input
    sessions: Tensor  # int64 [n], ascending
    views: Tensor | None = None  # int64 [n], one view of each; None: all of them
    tokens: Tensor | None = None  # int64 [n, l] of the view; None: all of them

    @property
    def places(self) -> Tensor:
        """Where the part's tokens are among the V L of their session, int64 [n, l]."""
        assert self.views is not None
        count = self.whole.shape[2]
        tokens = torch.arange(count, device=self.views.device)[None] if self.tokens is None else self.tokens
        return self.views[:, None] * count + tokens

    def by_session(self) -> list[tuple[int, slice]]:
        """Each session of the part, and its rows."""
        if self.whole.shape[0] == 1:
            return [(0, slice(None))]
        sessions, counts = (x.tolist() for x in torch.unique_consecutive(self.sessions, return_counts=True))
        ends = list(accumulate(counts))
        return [(s, slice(end - n, end)) for s, n, end in zip(sessions, counts, ends, strict=True)]


class Residual(Protocol):
    """A block as a function of its input alone: what it would add."""

    @property
    def stages(self) -> Sequence["Residual"]:
        """The same as residual functions one after another, each of which can be computed for single views."""
        ...

    def __call__(self, x: Tensor, part: Part | None = None) -> Tensor:
        """[B, V, L, D] -> [B, V, L, D]; of a part, [n, V, L, D] or [n, 1, l, D] -> the same."""
        ...


# Runs all blocks in order at a denoising step: x + residual(x) of each, or whatever stands in for it. A cache replaces this
# function; the step is passed in, never counted.
RunStack = Callable[[Sequence[Residual], Tensor, int], Tensor]


def plain_run_stack(residuals: Sequence[Residual], x: Tensor, step: int) -> Tensor:
    """Compute every block for every session."""
    for residual in residuals:
        x = x + residual(x)
    return x


@dataclass(frozen=True)
class BlockInputs:
    """What all blocks of one pass share."""

    modulation: Tensor  # [B, V, T, 6 D], before each block's own bias
    grid: Table  # spatial angles [L, ...]
    directions: Table  # ray angles [B, 1, 1, V N, 32]
    neighbours: Tensor  # additive [B, 1, 1, V N, V N]
    memory: Memory
    part: Part | None = None  # None: everything

    def select(self, part: Part) -> "BlockInputs":
        """The same inputs for a part of the batch."""
        rows, views = part.sessions, part.views
        memory = self.memory.select(rows, views)
        if (
            views is not None
        ):  # attention across cameras looks at all of them: directions and neighbours stay whole
            modulation = self.modulation[rows, views].unsqueeze(1)
            return replace(self, modulation=modulation, memory=memory, part=part)
        return replace(
            self,
            modulation=self.modulation[rows],
            directions=(self.directions[0][rows], self.directions[1][rows]),
            neighbours=self.neighbours[rows],
            memory=memory,
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
        self.cross_view = CrossViewAttention(width) if crosses(config, index) else None
        # The exact GELU: in bfloat16 on a CPU its tanh form takes 5 x as long.
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.modulation_bias = nn.Parameter(torch.zeros(6 * width))

    def forward(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """What this block adds to its input, [B, V, L, D] -> [B, V, L, D].

        Raises:
            ValueError: single views of a block that attends across cameras, which must be asked for in two stages.
        """
        if self.cross_view is not None and inputs.part is not None:
            raise ValueError("expected whole sessions, got single views: compute attend and mix apart")
        attended = self.attend(x, inputs)
        return attended + self.mix(x + attended, inputs)

    def record(self, x: Tensor, inputs: BlockInputs, memory: Recording) -> None:
        """Leave keys and values in a memory and compute nothing else: enough of the last block, of which nobody wants more."""
        shift, scale, _ = self._modulation(inputs, x.shape[2], 0)
        self.attention.record(modulate(x, shift, scale), inputs.grid, memory)

    def attend(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """First stage: what attention over time adds. Views do not see each other."""
        shift, scale, gate = self._modulation(inputs, x.shape[2], 0)
        part, modulated = inputs.part, modulate(x, shift, scale)
        if part is None or part.tokens is None:
            return gate * self.attention(modulated, self.index, inputs.grid, inputs.memory)
        view = modulate(part.whole[part.sessions, part.views].unsqueeze(1), shift, scale)
        return gate * self.attention.some(
            modulated, view, part.tokens, self.index, inputs.grid, inputs.memory
        )

    def mix(self, x: Tensor, inputs: BlockInputs) -> Tensor:
        """Second stage: what attention across cameras and the MLP add."""
        shift, scale, gate = self._modulation(inputs, x.shape[2], 1)
        crossed = self._cross(x, inputs)
        h = x if crossed is None else x + crossed
        added = gate * self.mlp(modulate(h, shift, scale))
        return added if crossed is None else crossed + added

    def _cross(self, x: Tensor, inputs: BlockInputs) -> Tensor | None:
        if self.cross_view is None:
            return None
        part = inputs.part
        if part is None:
            return self.cross_view(x, inputs.modulation.shape[2], inputs.directions, inputs.neighbours)
        whole, places = part.whole.flatten(1, 2), part.places
        some = [
            self.cross_view.some(
                x[rows],
                whole[session],
                places[rows],
                (inputs.directions[0][session, 0, 0], inputs.directions[1][session, 0, 0]),
                inputs.neighbours[session, 0, 0],
            )
            for session, rows in part.by_session()
        ]
        return some[0] if len(some) == 1 else torch.cat(some)

    def _modulation(self, inputs: BlockInputs, tokens: int, half: int) -> tuple[Tensor, Tensor, Tensor]:
        """Shift, scale and gate of one of the two halves, see `per_token`."""
        width = inputs.modulation.shape[-1] // 2
        chosen = slice(half * width, (half + 1) * width)
        shared = inputs.modulation[..., chosen] + self.modulation_bias[chosen].to(inputs.modulation.dtype)
        shift, scale, gate = per_token(shared, tokens).chunk(3, dim=-1)
        return shift, scale, gate


# A block, or one of its stages: (x, the pass's inputs) -> what it adds.
Stage = Callable[[Tensor, BlockInputs], Tensor]


class BlockResidual:
    """A block, or a stage of it, bound to the inputs of one pass: what `RunStack` gets.

    The inputs are asked for when the block is: no one makes them where all blocks are skipped.
    """

    def __init__(self, block: Block, inputs: Callable[[], BlockInputs], stage: Stage | None = None) -> None:
        self._block, self._inputs, self._stage = block, inputs, stage or block

    @property
    def stages(self) -> Sequence[Residual]:
        """See `Residual.stages`. Only where cameras see each other is there more than one."""
        if self._stage is not self._block or self._block.cross_view is None:
            return (self,)
        block, inputs = self._block, self._inputs
        return (BlockResidual(block, inputs, block.attend), BlockResidual(block, inputs, block.mix))

    def __call__(self, x: Tensor, part: Part | None = None) -> Tensor:
        """See `Residual`."""
        inputs = self._inputs()
        return self._stage(x, inputs if part is None else inputs.select(part))


def crosses(config: DiTConfig, index: int) -> bool:
    """Whether a block attends across cameras too, and so has two stages."""
    return index % config.cross_view_every == config.cross_view_every - 1


def per_token(values: Tensor, tokens: int) -> Tensor:
    """Numbers of each latent frame [B, V, T, D] -> those of its tokens [B, V, T N, D], or [B, V, 1, D] of one frame."""
    latents = values.shape[2]
    return values if latents == 1 else values.repeat_interleave(tokens // latents, dim=2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """RMS-normalise the last axis, then scale and shift."""
    return torch.addcmul(shift, F.rms_norm(x, x.shape[-1:]), 1 + scale)
