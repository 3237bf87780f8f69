"""Attention over a view's own past (through a memory) and across neighbouring cameras (without any)."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import HEAD_DIM
from .norm import RMSNorm
from .rope import rotate

Table = tuple[Tensor, Tensor]  # cos, sin


class Memory(Protocol):
    """What queries of one block may look at. The rolling KV and the naive full sequence both have this shape."""

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from the present tokens to past and present ones.

        Args:
            block: index of the transformer block.
            q, k, v: [B, V, heads, L, 64] after QK-norm and spatial rotation, without temporal rotation. There may be
                fewer queries than keys.

        Returns:
            The shape of q.
        """
        ...

    def select(self, rows: Tensor, views: Tensor | None = None) -> "Memory":
        """The same memory for some sessions (int64 [n]) of the batch only, or for one view of each."""
        ...


class Recording(Memory, Protocol):
    """A memory that takes down the keys and values of a pass."""

    def record(self, k: Tensor, v: Tensor) -> None:
        """Those of the next block, as `attend` gets them."""
        ...


class SelfAttention(nn.Module):
    """Spatio-temporal attention of each view over its own tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(HEAD_DIM), RMSNorm(HEAD_DIM)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, block: int, grid: Table, memory: Memory) -> Tensor:
        """[B, V, L, D] -> [B, V, L, D]; grid: spatial angles [L, (64 - temporal) / 2]."""
        q, k, v = _split(self.qkv(x), self.heads)
        q, k = (_rotate_tail(norm(part), grid) for norm, part in ((self.q_norm, q), (self.k_norm, k)))
        return self.out(_join(memory.attend(block, q, k, v)))

    def record(self, x: Tensor, grid: Table, memory: Recording) -> None:
        """Only leave keys and values of [B, V, L, D] in the memory."""
        k, v = (_heads(part, self.heads) for part in _project(self.qkv, x, 1, 3).chunk(2, dim=-1))
        memory.record(_rotate_tail(self.k_norm(k), grid), v)

    def some(
        self, x: Tensor, view: Tensor, tokens: Tensor, block: int, grid: Table, memory: Memory
    ) -> Tensor:
        """The same for some `tokens` (int64 [n, l]) of a view: x [n, 1, l, D] over the whole view [n, 1, N, D]."""
        q = _heads(_project(self.qkv, x, 0, 1), self.heads)
        k, v = (_heads(part, self.heads) for part in _project(self.qkv, view, 1, 3).chunk(2, dim=-1))
        angles = (grid[0][tokens][:, None, None], grid[1][tokens][:, None, None])
        q, k = _rotate_tail(self.q_norm(q), angles), _rotate_tail(self.k_norm(k), grid)
        return self.out(_join(memory.attend(block, q, k, v)))


class CrossViewAttention(nn.Module):
    """Attention among neighbouring cameras at the same time. Stateless; adds nothing until it is trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_DIM
        self.norm = RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(HEAD_DIM), RMSNorm(HEAD_DIM)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, latents: int, directions: Table, mask: Tensor) -> Tensor:
        """Mix views.

        Args:
            x: [B, V, T N, D].
            latents: T.
            directions: angles of the token's rays, [B, 1, 1, V N, 32].
            mask: additive [B, 1, 1, V N, V N]: minus infinity where two cameras are no neighbours.

        Returns:
            [B, V, T N, D].
        """
        views = x.shape[1]
        tokens = self.norm(x).unflatten(2, (latents, -1)).transpose(1, 2).flatten(2, 3)  # B T (V N) D
        q, k, v = _split(self.qkv(tokens), self.heads)  # B T heads (V N) 64
        q, k = (_rotated(norm(part), directions) for norm, part in ((self.q_norm, q), (self.k_norm, k)))
        mixed = F.scaled_dot_product_attention(
            q.flatten(0, 1),
            k.flatten(0, 1),
            v.flatten(0, 1),
            attn_mask=mask.to(q.dtype).expand(-1, latents, -1, -1, -1).flatten(0, 1),
        )
        mixed = self.out(_join(mixed)).unflatten(0, (-1, latents)).unflatten(2, (views, -1))
        return mixed.transpose(1, 2).flatten(2, 3)

    def some(self, x: Tensor, whole: Tensor, places: Tensor, directions: Table, mask: Tensor) -> Tensor:
        """The same for some tokens of one session at one time.

        Args:
            x: [n, 1, l, D].
            whole: every token of the session, [V N, D]: where keys and values come from.
            places: int64 [n, l], which of them x holds.
            directions: [V N, 32].
            mask: [V N, V N].

        Returns:
            [n, 1, l, D].
        """
        place = places.flatten()
        q = _heads(_project(self.qkv, self.norm(x).reshape(1, -1, x.shape[-1]), 0, 1), self.heads)
        keys, values = _project(self.qkv, self.norm(whole)[None], 1, 3).chunk(2, dim=-1)
        k, v = _heads(keys, self.heads), _heads(values, self.heads)
        q = _rotated(self.q_norm(q), (directions[0][place], directions[1][place]))
        k = _rotated(self.k_norm(k), directions)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[place].to(q.dtype))
        return self.out(_join(mixed)).view(x.shape)


def _project(qkv: nn.Linear, x: Tensor, first: int, end: int) -> Tensor:
    """Some of queries, keys and values: [..., D] -> [..., (end - first) D]."""
    width = x.shape[-1]
    return F.linear(x, qkv.weight[first * width : end * width])


def _heads(x: Tensor, heads: int) -> Tensor:
    """[..., L, D] -> [..., heads, L, 64]."""
    return x.unflatten(-1, (heads, HEAD_DIM)).transpose(-2, -3)


def _split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[..., L, 3 D] -> three of [..., heads, L, 64]."""
    parts = qkv.unflatten(-1, (3, heads, HEAD_DIM)).movedim(-3, 0).transpose(-2, -3)
    return parts[0], parts[1], parts[2]


def _join(x: Tensor) -> Tensor:
    """[..., heads, L, 64] -> [..., L, D]."""
    return x.transpose(-2, -3).flatten(-2)


def _rotated(x: Tensor, table: Table) -> Tensor:
    return rotate(x, table[0].to(x.dtype), table[1].to(x.dtype))


def _rotate_tail(x: Tensor, grid: Table) -> Tensor:
    """Rotate the spatial dimensions, which come last; leave the temporal ones."""
    spatial = 2 * grid[0].shape[-1]
    return torch.cat([x[..., :-spatial], _rotated(x[..., -spatial:], grid)], dim=-1)
