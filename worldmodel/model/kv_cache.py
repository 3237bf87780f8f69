"""The rolling KV: a sink, a ring of W latent frames and a tail, per session; and the naive sequence beside it.

Keys are kept after QK-norm with spatial rotation only. Time enters when they are read: the temporal dimensions of a
ring key are rotated by minus its age, so nothing moves when time passes and no index grows without bound. The sink is
ageless: its keys have zeros there, so it looks the same from now and from an hour later.

Axes: L blocks, S slots (one per session), V views, W ring, N tokens of a latent frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import HEAD_DIM
from .rope import rotate, time_table

SINK = 0  # position of the sink; the ring follows, then the tail


@dataclass(frozen=True)
class KVShape:
    """Sizes of a rolling KV."""

    blocks: int
    views: int
    heads: int
    window: int
    tokens: int
    temporal_dims: int


class KVCache:
    """Rolling KV of many sessions. `context` reads, `commit` and `write_sink` write; nothing else does."""

    def __init__(
        self,
        shape: KVShape,
        slots: int = 1,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape = shape
        size = (
            shape.blocks,
            slots,
            shape.views,
            shape.heads,
            shape.window + 2,
            shape.tokens,
            HEAD_DIM,
        )
        # The tail is scratch for the latent frame in the making, so that attention reads one contiguous tensor.
        self.k = torch.zeros(size, dtype=dtype, device=device)
        self.v = torch.zeros(size, dtype=dtype, device=device)
        self.written = torch.zeros(slots, shape.window + 2, dtype=torch.bool, device=device)
        self.age = torch.zeros(
            slots, shape.window, dtype=torch.int64, device=device
        )  # latent frames since written
        self.head = torch.zeros(slots, dtype=torch.int64, device=device)  # ring place of the next commit
        self.written[:, -1] = True

    @property
    def slots(self) -> int:
        """Number of sessions that fit."""
        return self.k.shape[1]

    def context(self, rows: Sequence[int], ahead: Tensor) -> "KVContext":
        """What sessions see when they generate (or commit) the latent frame `ahead` (>= 1, int64 [B]) of the last commit.

        Build it once per chunk: all denoising steps share it.
        """
        index = torch.tensor(rows, device=self.k.device)
        dims, window = self.shape.temporal_dims, self.shape.window
        cos, sin = time_table(-(self.age[index] + ahead[:, None]), dims)  # B W dims/2
        k = self.k.index_select(1, index)
        ring = k[..., SINK + 1 : SINK + 1 + window, :, :dims]
        spread = (slice(None), None, None, slice(None), None)  # B W -> B V heads W N
        ring.copy_(rotate(ring, cos[spread].to(k.dtype), sin[spread].to(k.dtype)))
        hidden = torch.where(self.written[index], 0.0, -torch.inf).repeat_interleave(self.shape.tokens, dim=1)
        return KVContext(k.flatten(4, 5), self._values(rows, index).flatten(4, 5), hidden)

    def commit(self, rows: Sequence[int], keys: Tensor, values: Tensor, elapsed: Tensor) -> None:
        """Write one latent frame of some sessions over the oldest one of each.

        Args:
            rows: slots of the sessions.
            keys: [L, B, V, heads, N, 64], as `Memory.attend` got them.
            values: the same shape.
            elapsed: int64 [B] latent frames from the last commit to this one.
        """
        index = torch.tensor(rows, device=self.k.device)
        place = SINK + 1 + self.head[index]
        self.k[:, index, :, :, place] = keys.transpose(0, 1).to(self.k.dtype)
        self.v[:, index, :, :, place] = values.transpose(0, 1).to(self.v.dtype)
        self.written[index, place] = True
        self.age[index] += elapsed[:, None]
        self.age[index, self.head[index]] = 0
        self.head[index] = (self.head[index] + 1) % self.shape.window

    def write_sink(self, rows: Sequence[int], keys: Tensor, values: Tensor) -> None:
        """Set the sink of some sessions; shapes as in `commit`."""
        index = torch.tensor(rows, device=self.k.device)
        self.k[:, index, :, :, SINK] = ageless(keys, self.shape.temporal_dims).to(self.k.dtype)
        self.v[:, index, :, :, SINK] = values.to(self.v.dtype)
        self.written[index, SINK] = True

    def reset(self, row: int) -> None:
        """Empty one slot."""
        self.written[row, :-1] = False
        self.age[row] = 0
        self.head[row] = 0

    def fork(self, source: int, target: int) -> None:
        """Copy one slot over another; they share nothing afterwards."""
        for whole in (self.k, self.v):
            whole[:, target] = whole[:, source]
        for part in (self.written, self.age, self.head):
            part[target] = part[source]

    def grow(self, slots: int) -> None:
        """Make room for at least this many sessions; existing slots keep their contents."""
        if slots <= self.slots:
            return
        bigger = KVCache(self.shape, slots, self.k.dtype, self.k.device)
        bigger.k[:, : self.slots], bigger.v[:, : self.slots] = self.k, self.v
        for mine, theirs in (
            (self.written, bigger.written),
            (self.age, bigger.age),
            (self.head, bigger.head),
        ):
            theirs[: self.slots] = mine
        self.__dict__.update(bigger.__dict__)

    def slot_state(self, row: int) -> dict[str, Tensor]:
        """Everything that one session remembers, as copies."""
        return {
            "k": self.k[:, row, :, :, :-1].clone(),
            "v": self.v[:, row, :, :, :-1].clone(),
            "written": self.written[row].clone(),
            "age": self.age[row].clone(),
            "head": self.head[row].clone(),
        }

    def load_slot_state(self, row: int, state: dict[str, Tensor]) -> None:
        """Put back what `slot_state` returned, into any slot of a cache of the same shape."""
        self.k[:, row, :, :, :-1] = state["k"].to(self.k)
        self.v[:, row, :, :, :-1] = state["v"].to(self.v)
        self.written[row], self.age[row], self.head[row] = state["written"], state["age"], state["head"]

    def bytes(self) -> int:
        """Memory of keys and values."""
        return 2 * self.k.numel() * self.k.element_size()

    def _values(self, rows: Sequence[int], index: Tensor) -> Tensor:
        """Values of some slots: a view where the slots lie side by side, which saves a copy per chunk."""
        if list(rows) == list(range(rows[0], rows[0] + len(rows))):
            return self.v[:, rows[0] : rows[0] + len(rows)]
        return self.v.index_select(1, index)


@dataclass(frozen=True)
class KVContext:
    """One chunk's view of the rolling KV. A `Memory`: reads the past, holds the present in the tail."""

    k: Tensor  # [L, B, V, heads, (W + 2) N, 64], rotated to the present
    v: Tensor  # the same shape
    hidden: Tensor  # additive [B, (W + 2) N]: minus infinity where nothing has been written
    recorder: "KVRecorder | None" = None
    rows: Tensor | None = None  # int64 [n]: queries come from these sessions only
    views: Tensor | None = None  # int64 [n]: and of each of them from this view only

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Memory.attend`."""
        tokens = k.shape[-2]
        if self.recorder is not None:
            self.recorder.add(k, v)
        keys, values, hidden = self.k[block], self.v[block], self.hidden
        if self.rows is not None:
            keys, values, hidden = self._chosen(keys), self._chosen(values), hidden[self.rows]
        keys[..., -tokens:, :] = k  # age 0: no temporal rotation
        values[..., -tokens:, :] = v
        mask = hidden[:, None, None, None, :].to(q.dtype).expand(-1, q.shape[1], -1, q.shape[-2], -1)
        return sdpa(q, keys.to(q.dtype), values.to(q.dtype), mask)

    def select(self, rows: Tensor, views: Tensor | None = None) -> "KVContext":
        """See `Memory.select`: nothing is copied until a block attends, and then that block's part only.

        Raises:
            ValueError: a context that records, since a KV-update pass is always whole, or one that was narrowed before.
        """
        if self.recorder is not None:
            raise ValueError("expected a context that does not record, got one of a KV-update pass")
        if self.rows is not None:
            raise ValueError("expected the context of a whole batch, got one of some of its sessions")
        return replace(self, rows=rows, views=views)

    def _chosen(self, whole: Tensor) -> Tensor:
        """[B, V, ...] -> [n, V, ...], or [n, 1, ...] of one view each; a copy."""
        assert self.rows is not None
        if self.views is None:
            return whole.index_select(0, self.rows)
        return whole.flatten(0, 1).index_select(0, self.rows * whole.shape[1] + self.views).unsqueeze(1)

    def recording(self) -> "KVContext":
        """The same context, for the pass that writes."""
        return replace(self, recorder=KVRecorder())


class KVRecorder:
    """Keys and values of the present latent frame, block by block."""

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def add(self, k: Tensor, v: Tensor) -> None:
        """Keep one block's keys and values, [B, V, heads, N, 64] each."""
        self._keys.append(k)
        self._values.append(v)

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Keys and values of all blocks, [L, B, V, heads, N, 64] each."""
        return torch.stack(self._keys), torch.stack(self._values)


@dataclass(frozen=True)
class SinkMemory:
    """The pass that makes a sink: the latent frame sees itself alone, without age."""

    temporal_dims: int
    recorder: KVRecorder

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Memory.attend`."""
        self.recorder.add(k, v)
        return sdpa(q, ageless(k, self.temporal_dims), v)

    def select(self, rows: Tensor, views: Tensor | None = None) -> "SinkMemory":
        """Refused: a pass that writes is always whole."""
        raise ValueError("expected the whole batch, got some rows of a pass that writes")


@dataclass(frozen=True)
class SequenceMemory:
    """A whole sequence of T latent frames at once, block-causal: for training, and as the naive path in tests."""

    query_time: tuple[Tensor, Tensor]  # cos, sin [B, 1, 1, T N, temporal / 2]
    key_time: tuple[Tensor, Tensor]
    mask: Tensor  # additive [1, 1, T N, T N]

    @classmethod
    def build(
        cls, times: Tensor, tokens: int, temporal_dims: int, window: int, sink: bool
    ) -> "SequenceMemory":
        """Describe a sequence.

        Args:
            times: [B, T] in latent frames, increasing; the sink's own is ignored.
            tokens: N.
            temporal_dims: dimensions of a head that time rotates.
            window: how many latent frames before its own a query sees, besides the sink.
            sink: the first latent frame is the sink: seen by all, ageless, sees itself alone.
        """
        cos, sin = (
            t.repeat_interleave(tokens, dim=1)[:, None, None] for t in time_table(times, temporal_dims)
        )
        key_cos, key_sin = cos.clone(), sin.clone()
        if sink:
            key_cos[..., :tokens, :] = 0
            key_sin[..., :tokens, :] = 0
        mask = block_causal_mask(times.shape[1], window, sink, times.device)
        mask = mask.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)[None, None]
        return cls((cos, sin), (key_cos, key_sin), mask)

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Memory.attend`."""
        q, k = _in_time(q, self.query_time), _in_time(k, self.key_time)
        if not torch.is_grad_enabled():
            return sdpa(q, k, v, self.mask.to(q.dtype))
        # Written out, it trains faster on a CPU once compiled: backward 1.6 x that of the fused kernel.
        scores = (q * HEAD_DIM**-0.5) @ k.transpose(-1, -2) + self.mask.to(q.dtype)
        return scores.softmax(-1).to(v.dtype) @ v

    def select(self, rows: Tensor, views: Tensor | None = None) -> "SequenceMemory":
        """See `Memory.select`; all views see alike."""
        return SequenceMemory(
            (self.query_time[0][rows], self.query_time[1][rows]),
            (self.key_time[0][rows], self.key_time[1][rows]),
            self.mask,
        )


def block_causal_mask(latents: int, window: int, sink: bool, device: torch.device | None = None) -> Tensor:
    """Additive [T, T] mask: a latent frame sees itself, `window` before it, and the sink."""
    row = torch.arange(latents, device=device)[:, None]
    column = torch.arange(latents, device=device)[None, :]
    seen = (column <= row) & (column >= row - window)
    if sink:
        seen = seen | (column == 0)
        seen[0, 1:] = False
    return torch.where(seen, 0.0, -torch.inf)


def ageless(k: Tensor, temporal_dims: int) -> Tensor:
    """Keys without their temporal dimensions, which score zero against any query."""
    return F.pad(k[..., temporal_dims:], (temporal_dims, 0))


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention over [B, V, heads, L, 64]; mask additive, [B, V, 1, L, M] or [1, 1, L, M]."""
    if mask is not None and mask.dim() == 5:
        mask = mask.flatten(0, 1)
    out = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask)
    return out.unflatten(0, q.shape[:2])


def _in_time(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = table[0].to(x.dtype), table[1].to(x.dtype)
    dims = 2 * cos.shape[-1]
    return torch.cat([rotate(x[..., :dims], cos, sin), x[..., dims:]], dim=-1)
