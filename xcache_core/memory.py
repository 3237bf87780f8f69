"""Reading and writing the state for the rows of one pass."""

import torch
from torch import Tensor

from .constants import index_on
from .fingerprint import Fingerprint
from .ledger import Numbers, Record, Standing, next_meta, next_seen
from .method import Method
from .reason import Reason
from .reuse import fit
from .rows import Rows
from .store import Seen, State


def nothing_kept(like: Tensor) -> Tensor:
    """What is known of residuals before any is kept: float64 [..., 3] = not finite, no error, no fit; `like` [...]."""
    outcome = like.new_full((*like.shape, 3), torch.nan)
    outcome.select(-1, 0).zero_()
    return outcome


class Memory:
    """The part of a `State` that a pass sees: its rows, at one step.

    Residuals are found by `key` on the step axis, which is the step unless they are reused from step to step.
    """

    def __init__(self, state: State, rows: Rows, step: int, method: Method) -> None:
        self._state, self._rows, self._step, self._method = state, rows, step, method
        self._key = step if method.axis == "chunk" else 0

    def read(self, name: str, b: int) -> Tensor:
        """A plane's rows, [B, R, ...]; possibly a view: use it before the next write."""
        return self._rows.of(self._state.planes[name], self._key, b)

    def read_all(self, name: str) -> Tensor:
        """A plane's rows of all blocks, [L, B, R, ...], copied."""
        return self._rows.of_all(self._state.planes[name], self._key)

    def has_prints(self, b: int) -> bool:
        """Whether fingerprints of this block's input are stored."""
        return self._method.gate.measures and (
            self._method.probe is None or (self._method.probe, b) == ("input", 0)
        )

    def read_print(self, b: int) -> Fingerprint:
        """The stored fingerprints of the block."""
        return Fingerprint(*(self.read(name, b) for name in Fingerprint._fields))

    def keep_print(self, b: int, now: Fingerprint, mask: Tensor | None = None) -> None:
        """Store fingerprints, of the tiles of a mask [B, R] or of all."""
        for name, value in now._asdict().items():
            self._write(name, b, value.flatten(0, 1), None, mask)

    def keep(
        self,
        b: int,
        outcome: Tensor,
        now: Fingerprint | None,
        checked: Tensor | None,
        y: Tensor,
        x: Tensor,
        chosen: Tensor | None,
        mask: Tensor | None,
    ) -> None:
        """Store residuals y - x and fingerprints of computed tiles, in the three forms of `executors.Keep`.

        What is not finite is stored too, but its tile is marked as not to be used. `checked` [B, R, Vt, Nt, C] is what
        a skip would have used, when its error is asked for. What became known goes into `outcome` (`nothing_kept`).
        """
        with torch.no_grad():
            if chosen is None and mask is None and not self._looks_back(checked):
                new = self._store_difference(b, y, x).flatten(0, 1)
                self._note_outcome(b, outcome, None, new, None)
            else:
                new = y - x if chosen is not None else (y - x).flatten(0, 1)
                self._note_outcome(b, outcome, checked, new, chosen)
                if self._method.reuse.keeps_previous:
                    self._write("previous", b, _pick(self.read("residual", b), chosen).clone(), chosen, mask)
                self._write("residual", b, new, chosen, mask)
            if now is not None:
                for name, value in now._asdict().items():
                    self._write(name, b, _pick(value, chosen), chosen, mask)

    def _looks_back(self, checked: Tensor | None) -> bool:
        """Whether the old residual is still needed when a new one comes."""
        return checked is not None or self._method.reuse.keeps_previous

    def _store_difference(self, b: int, y: Tensor, x: Tensor) -> Tensor:
        """Write the residual of all tiles straight to its place."""
        self._state.touch("residual", self._key, b)
        place = self.read("residual", b)
        if self._rows.span is None:
            self._put("residual", b, y - x)
            return self.read("residual", b)
        return torch.sub(y, x, out=place)

    def settle(
        self, blocks: list[int], was: Standing, record: Record, numbers: Numbers, action: Tensor
    ) -> None:
        """Bring the bookkeeping of these blocks up to date, after a pass went through them; `action` [B, A]."""
        place = self._rows.place(blocks)
        meta, age = (books[self._rows.run(blocks)] for books in (was.meta, was.age))
        self._page("meta", self._key, blocks)[place] = next_meta(meta, record, numbers)
        seen = next_seen(record, age)
        self._page("seen", self._step, blocks)[place] = seen
        self._page("counts", self._step, blocks)[place] += count_reasons(record.reason)
        error, known = seen[..., Seen.ERROR].double(), torch.isfinite(seen[..., Seen.ERROR])
        errors = torch.stack([torch.where(known, error, 0.0).sum(2), known.sum(2)], dim=-1)
        self._page("errors", self._step, blocks)[place] += errors
        if action.shape[1]:
            self._settle_action(blocks, record.decided > 0, action)

    def count(self, b: int, reason: Tensor) -> None:
        """Add the reasons [B, R] of a block that keeps no books."""
        self._page("counts", self._step, [b])[self._rows.place([b])] += count_reasons(reason.unsqueeze(0))

    def note_probe(self, reason: Tensor) -> None:
        """Remember what this pass decided for all blocks, int64 [B, R]."""
        self._put("probe", 0, reason)

    def _settle_action(self, blocks: list[int], computed: Tensor, action: Tensor) -> None:
        """The action under which fingerprints were taken."""
        kept = [b for b in blocks if b == 0 or self._method.probe is None]
        place = self._rows.place(kept)
        page = self._page("action", self._key, kept)
        refreshed = computed[: len(kept)].unsqueeze(-1) | self._method.follow
        page[place] = torch.where(refreshed, action.unsqueeze(1), page[place])

    def _note_outcome(
        self, b: int, outcome: Tensor, checked: Tensor | None, new: Tensor, chosen: Tensor | None
    ) -> None:
        """Whether residuals are finite, what skipping them would have cost, and how they changed."""
        finite = torch.isfinite(new.sum((1, 2, 3), dtype=torch.float32)).double()
        error = fitted = torch.full_like(finite, torch.nan)
        if checked is not None:
            error = relative_error(_pick(checked, chosen), new)
        if self._method.reuse.order == "fitted":
            fitted = self._fit(b, new, chosen)
        known = torch.stack([finite, error, fitted], dim=1)
        if chosen is None:
            outcome.view(-1, 3).copy_(known)
        else:
            outcome.view(-1, 3).index_copy_(0, chosen, known)

    def _fit(self, b: int, new: Tensor, chosen: Tensor | None) -> Tensor:
        samples = index_on(self._state.plan.layout.sampled, new.device)
        last, previous = (_pick(self.read(name, b), chosen) for name in ("residual", "previous"))
        tokens = [value.index_select(2, samples) for value in (new, last, previous)]
        return fit(tokens[0], tokens[1], tokens[2], self._method.reuse.limit)

    def _page(self, name: str, step: int, blocks: list[int]) -> Tensor:
        """All blocks and slots of a plane at a step, about to be changed at some blocks."""
        for b in blocks:
            self._state.touch(name, step, b)
        return self._state.planes[name][step]

    def _put(self, name: str, b: int, value: Tensor) -> None:
        self._state.touch(name, self._key, b)
        self._rows.put(self._state.planes[name], self._key, b, value)

    def _write(self, name: str, b: int, value: Tensor, chosen: Tensor | None, mask: Tensor | None) -> None:
        """Overwrite the chosen tiles with [n, ...], or all or those of a mask with [B * R, ...]."""
        if chosen is not None:
            self._state.touch(name, self._key, b)
            self._rows.put_some(self._state.planes[name], self._key, b, chosen, value)
            return
        old = self.read(name, b)
        value = value.reshape(old.shape)
        if mask is not None:
            value = torch.where(mask.view(*mask.shape, *(1,) * (old.dim() - 2)), value, old)
        self._put(name, b, value)


def count_reasons(reason: Tensor) -> Tensor:
    """How often each reason occurs among the tiles: int64 [n, B, R] to [n, B, len(Reason)]."""
    return (reason.unsqueeze(-1) == torch.arange(len(Reason), device=reason.device)).sum(2)


def relative_error(stand_in: Tensor, true: Tensor) -> Tensor:
    """mean|stand_in - true| / mean|true| of each tile, [n, Vt, Nt, C] to float64 [n]."""
    change = (stand_in.float() - true.float()).abs().mean((1, 2, 3))
    return (change / true.float().abs().mean((1, 2, 3)).clamp_min(1e-12)).double()


def _pick(value: Tensor, chosen: Tensor | None) -> Tensor:
    flat = value.flatten(0, 1)
    return flat if chosen is None else flat.index_select(0, chosen)
