"""The rolling KV: a sink, a ring of W latent frames and a tail, per session.

Keys are kept as they were first used: after QK-norm, rotated in space, and in time by the moment of their commit. The
present's queries and keys are rotated by the present moment, so scores depend on the age alone and the past is read
where it lies, without a copy. Moments are counted from a session's opening and turned into angles in double precision: after
a year of driving an angle is off by less than 1e-6 rad. The sink is ageless: its temporal dimensions are zero, so it looks
the same from now and from an hour later.

Axes: L blocks, S slots (one per session), V views, W ring, N tokens of a latent frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import Table
from .config import HEAD_DIM
from .kv_context import KVContext, ageless, first_of_run
from .rope import time_table

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
        # Moments in latent frames since a session's opening: of every ring place, and of the last commit.
        self.time = torch.zeros(slots, shape.window, dtype=torch.int64, device=device)
        self.now = torch.zeros(slots, dtype=torch.int64, device=device)
        self.head = torch.zeros(slots, dtype=torch.int64, device=device)  # ring place of the next commit
        self.written[:, -1] = True

    @property
    def slots(self) -> int:
        """Number of sessions that fit."""
        return self.k.shape[1]

    @property
    def age(self) -> Tensor:
        """Latent frames from the commit of each ring place to the last one, int64 [S, W]."""
        return self.now[:, None] - self.time

    def context(self, rows: Sequence[int], ahead: Tensor) -> "KVContext":
        """What sessions see when they generate (or commit) the latent frame `ahead` (>= 1, int64 [B]) of the last commit.

        Build it once per chunk: all denoising steps share it.
        """
        index = torch.tensor(rows, device=self.k.device)
        written = self.written[index]
        hidden = torch.where(written, 0.0, -torch.inf).repeat_interleave(self.shape.tokens, dim=1)
        return KVContext(
            self.k.flatten(4, 5),
            self.v.flatten(4, 5),
            None if bool(written.all()) else hidden,  # masked attention is a tenth slower
            self._angles(self.now[index] + ahead),
            index,
            first=first_of_run(list(rows)),
        )

    def commit(self, rows: Sequence[int], keys: Tensor, values: Tensor, elapsed: Tensor) -> None:
        """Write one latent frame of some sessions over the oldest one of each.

        Args:
            rows: slots of the sessions.
            keys: [L, B, V, heads, N, 64], as a context recorded them: rotated to their own moment.
            values: the same shape.
            elapsed: int64 [B] latent frames from the last commit to this one.
        """
        index = torch.tensor(rows, device=self.k.device)
        place = SINK + 1 + self.head[index]
        self.k[:, index, :, :, place] = keys.transpose(0, 1).to(self.k.dtype)
        self.v[:, index, :, :, place] = values.transpose(0, 1).to(self.v.dtype)
        self.written[index, place] = True
        self.now[index] += elapsed
        self.time[index, self.head[index]] = self.now[index]
        self.head[index] = (self.head[index] + 1) % self.shape.window

    def write_sink(self, rows: Sequence[int], keys: Tensor, values: Tensor) -> None:
        """Set the sink of some sessions; shapes as in `commit`, keys without temporal rotation."""
        index = torch.tensor(rows, device=self.k.device)
        self.k[:, index, :, :, SINK] = ageless(keys, self.shape.temporal_dims).to(self.k.dtype)
        self.v[:, index, :, :, SINK] = values.to(self.v.dtype)
        self.written[index, SINK] = True

    def reset(self, row: int) -> None:
        """Empty one slot."""
        self.written[row, :-1] = False
        self.time[row] = 0
        self.now[row] = 0
        self.head[row] = 0

    def fork(self, source: int, target: int) -> None:
        """Copy one slot over another; they share nothing afterwards."""
        for whole in (self.k, self.v):
            whole[:, target] = whole[:, source]
        for part in (self.written, self.time, self.now, self.head):
            part[target] = part[source]

    def grow(self, slots: int) -> None:
        """Make room for at least this many sessions; existing slots keep their contents."""
        if slots <= self.slots:
            return
        bigger = KVCache(self.shape, slots, self.k.dtype, self.k.device)
        bigger.k[:, : self.slots], bigger.v[:, : self.slots] = self.k, self.v
        for mine, theirs in (
            (self.written, bigger.written),
            (self.time, bigger.time),
            (self.now, bigger.now),
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
            "time": self.time[row].clone(),
            "now": self.now[row].clone(),
            "head": self.head[row].clone(),
        }

    def load_slot_state(self, row: int, state: dict[str, Tensor]) -> None:
        """Put back what `slot_state` returned, into any slot of a cache of the same shape."""
        self.k[:, row, :, :, :-1] = state["k"].to(self.k)
        self.v[:, row, :, :, :-1] = state["v"].to(self.v)
        self.written[row], self.head[row] = state["written"], state["head"]
        self.time[row], self.now[row] = state["time"], state["now"]

    def bytes(self) -> int:
        """Memory of keys and values."""
        return 2 * self.k.numel() * self.k.element_size()

    def _angles(self, moments: Tensor) -> Table:
        """Temporal angles of moments [B], to broadcast against heads: [B, 1, 1, 1, dims / 2]."""
        cos, sin = time_table(moments, self.shape.temporal_dims)
        return cos[:, None, None, None], sin[:, None, None, None]
