"""What the queries of one pass may look at: one chunk's view of the rolling KV, and the pass that makes a sink."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Table
from .rope import rotate


@dataclass(frozen=True)
class KVContext:
    """One chunk's view of the rolling KV. A `Memory`: reads the past in place, holds the present in the tail.

    Nothing of the past is copied as long as the sessions of the batch lie side by side.
    """

    k: Tensor  # [L, S, V, heads, (W + 2) N, 64] of every session that there is
    v: Tensor  # the same shape
    hidden: (
        Tensor | None
    )  # additive [B, (W + 2) N]: minus infinity where nothing has been written; None: nowhere
    present: Table | None = (
        None  # temporal angles of the present, [B, 1, 1, 1, dims / 2]; None: time has none
    )
    slots: Tensor | None = None  # int64 [B] of the sessions; None: all of them, in order
    views: Tensor | None = None  # int64 [B]: queries come from this view of each session only; None: from all
    first: int | None = (
        0  # the first place where `slots` (and `views`) lie side by side; None where they do not
    )
    recorder: "KVRecorder | None" = None

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Memory.attend`."""
        if self.recorder is not None:
            self.record(k, v)
        q, k = self._now(q), self._now(k)
        keys, values = self._past(self.k[block]), self._past(self.v[block])
        keys[..., -k.shape[-2] :, :] = k
        values[..., -k.shape[-2] :, :] = v
        mask = None if self.hidden is None else self.hidden[:, None, None, None, :].to(q.dtype)
        if mask is not None:
            mask = mask.expand(-1, q.shape[1], -1, q.shape[-2], -1)
        return sdpa(q, keys.to(q.dtype), values.to(q.dtype), mask)

    def record(self, k: Tensor, v: Tensor) -> None:
        """See `Recording.record`."""
        assert self.recorder is not None
        self.recorder.add(self._now(k), v)

    def select(self, rows: Tensor, views: Tensor | None = None) -> "KVContext":
        """See `Memory.select`: nothing is copied until a block attends, and then that block's part only.

        Raises:
            ValueError: a context that records, since a KV-update pass is always whole, or one that was narrowed before.
        """
        if self.recorder is not None:
            raise ValueError("expected a context that does not record, got one of a KV-update pass")
        if self.views is not None:
            raise ValueError("expected the context of whole sessions, got one of single views")
        slots = rows if self.slots is None else self.slots[rows]
        return replace(
            self,
            hidden=None if self.hidden is None else self.hidden[rows],
            present=None if self.present is None else (self.present[0][rows], self.present[1][rows]),
            slots=slots,
            views=views,
            first=_first_of_run(slots if views is None else slots * self.k.shape[2] + views),
        )

    def recording(self) -> "KVContext":
        """The same context, for the pass that writes."""
        return replace(self, recorder=KVRecorder())

    def _now(self, x: Tensor) -> Tensor:
        """Rotate the temporal dimensions of what belongs to the present."""
        if self.present is None:
            return x
        cos, sin = (part.to(x.dtype) for part in self.present)
        dims = 2 * cos.shape[-1]
        return torch.cat([rotate(x[..., :dims], cos, sin), x[..., dims:]], dim=-1)

    def _past(self, whole: Tensor) -> Tensor:
        """[S, V, ...] -> [B, V, ...], or [B, 1, ...] of one view each: a view of it where that can be."""
        if self.slots is None:
            return whole
        if self.views is not None:
            whole = whole.flatten(0, 1).unsqueeze(1)
        if self.first is not None:
            return whole[self.first : self.first + len(self.slots)]
        places = self.slots if self.views is None else self.slots * self.k.shape[2] + self.views
        return whole.index_select(0, places)


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
        self.record(k, v)
        return sdpa(q, ageless(k, self.temporal_dims), v)

    def record(self, k: Tensor, v: Tensor) -> None:
        """See `Recording.record`."""
        self.recorder.add(k, v)

    def select(self, rows: Tensor, views: Tensor | None = None) -> "SinkMemory":
        """Refused: a pass that writes is always whole."""
        raise ValueError("expected the whole batch, got some rows of a pass that writes")


def ageless(k: Tensor, temporal_dims: int) -> Tensor:
    """Keys without their temporal dimensions, which score zero against any query."""
    return F.pad(k[..., temporal_dims:], (temporal_dims, 0))


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention over [B, V, heads, L, 64]; mask additive, [B, V, 1, L, M] or [1, 1, L, M]."""
    if mask is not None and mask.dim() == 5:
        mask = mask.flatten(0, 1)
    out = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask)
    return out.unflatten(0, q.shape[:2])


def _first_of_run(places: Tensor) -> int | None:
    """Where consecutive places begin. Elsewhere than on a CPU nobody waits to find out."""
    if places.device.type != "cpu":
        return None
    return first_of_run(places.tolist())


def first_of_run(places: list[int]) -> int | None:
    """The first of consecutive, ascending places; None where they are anything else."""
    return places[0] if places == list(range(places[0], places[0] + len(places))) else None
