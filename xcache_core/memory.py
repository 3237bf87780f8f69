"""Reading and writing residuals and fingerprints for the rows of one pass."""

import torch
from torch import Tensor

from .constants import index_on
from .fingerprint import Fingerprint, group_members, mean_token, sizes
from .method import Method
from .reuse import fit
from .rows import Rows
from .store import State


class Memory:
    """The part of a `State` that a pass sees: its rows, at one step.

    Residuals are found by a key on the step axis, which is the step unless they are reused from step to step.
    """

    def __init__(self, state: State, rows: Rows, step: int, method: Method) -> None:
        self._state, self._rows, self._step, self._method = state, rows, step, method
        self._key = step if method.axis == "chunk" else 0
        self._printed: list[int] = []  # blocks with new fingerprints, of which the sizes are not known yet

    def read(self, name: str, b: int) -> Tensor:
        """A plane's rows, [B, R, ...]; possibly a view: use it before the next write."""
        return self._rows.of(self._state.planes[name], self._key, b)

    def read_run(self, name: str, first: int, count: int) -> Tensor:
        """The same of blocks in a row, [n, B, R, ...]."""
        return self._rows.of(self._state.planes[name], self._key, slice(first, first + count))

    def read_print(self, b: int) -> Fingerprint:
        """The stored fingerprints of the block."""
        return Fingerprint(self.read("print", b))

    def read_prints(self, first: int, count: int) -> Fingerprint:
        """The same of blocks in a row, [n, B, R, ...]."""
        return Fingerprint(self.read_run("print", first, count))

    def keep_print(self, b: int, now: Fingerprint, mask: Tensor | None = None) -> None:
        """Store fingerprints, of the tiles of a mask [B, R] or of all."""
        self._store_print(b, now, None, mask)

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
        a skip would have used, when its error is asked for. What became known goes into `outcome` float64 [B, R, 3]:
        whether it is finite, the relative error of a checked skip, the fitted coefficient.
        """
        with torch.no_grad():
            if chosen is None and mask is None and not self._looks_back(checked):
                new = self._store_difference(b, y, x).flatten(0, 1)
                outcome.select(-1, 0).copy_(are_finite(new).view(outcome.shape[:2]))
            else:
                new = y - x if chosen is not None else (y - x).flatten(0, 1)
                self._note_outcome(b, outcome, checked, new, chosen)
                if self._method.reuse.keeps_previous:
                    self._write("previous", b, _pick(self.read("residual", b), chosen).clone(), chosen, mask)
                self._write("residual", b, new, chosen, mask)
            if now is not None:
                self._store_print(b, now, chosen, mask)

    def measure_prints(self) -> None:
        """Take the sizes of the fingerprints that were stored, of all together."""
        for first, count in _runs(self._printed):
            layout = self._state.plan.layout
            prints = self.read_prints(first, count)
            members = group_members(layout.tile_groups, len(layout.sampled), prints.tokens.device)
            for b, new in enumerate(sizes(prints, members), first):
                self._put("sizes", b, new)
        self._printed = []

    def _store_print(self, b: int, now: Fingerprint, chosen: Tensor | None, mask: Tensor | None) -> None:
        self._write("print", b, _pick(now.tokens, chosen), chosen, mask)
        self._printed.append(b)

    def note_probe(self, reason: Tensor) -> None:
        """Remember what this pass decided for all blocks, int64 [B, R]."""
        self._put("probe", 0, reason)

    def count(self, b: int, counts: Tensor) -> None:
        """Add to the counts [B, len(Reason)] of a block that keeps no books."""
        self._state.touch("counts", self._step, b)
        plane = self._state.planes["counts"]
        self._rows.put(plane, self._step, b, self._rows.of(plane, self._step, b) + counts)

    def _looks_back(self, checked: Tensor | None) -> bool:
        """Whether the old residual is still needed when a new one comes."""
        return checked is not None or self._method.reuse.keeps_previous

    def _store_difference(self, b: int, y: Tensor, x: Tensor) -> Tensor:
        """Write the residual of all tiles straight to its place."""
        self._touch("residual", b)
        place = self.read("residual", b)
        if self._rows.span is None:
            self._put("residual", b, y - x)
            return self.read("residual", b)
        return torch.sub(y, x, out=place)

    def _note_outcome(
        self, b: int, outcome: Tensor, checked: Tensor | None, new: Tensor, chosen: Tensor | None
    ) -> None:
        """Whether residuals are finite, what skipping them would have cost, and how they changed."""
        finite = are_finite(new)
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

    def read_sum(self) -> Tensor | None:
        """Residuals of all blocks together, [B, R, Vt, Nt, C]; None where they are not added up."""
        return None if self._state.sums is None else self._state.sums.of(self._key, self._rows)

    def _touch(self, name: str, b: int) -> None:
        """Called before rows of a plane are overwritten."""
        self._state.touch(name, self._key, b)
        if name == "residual" and self._state.sums is not None:
            self._state.sums.drop(self._key, self._rows.slots)

    def _put(self, name: str, b: int, value: Tensor) -> None:
        self._touch(name, b)
        self._rows.put(self._state.planes[name], self._key, b, value)

    def _write(self, name: str, b: int, value: Tensor, chosen: Tensor | None, mask: Tensor | None) -> None:
        """Overwrite the chosen tiles with [n, ...], or all or those of a mask with [B * R, ...]."""
        if chosen is not None:
            self._touch(name, b)
            self._rows.put_some(self._state.planes[name], self._key, b, chosen, value)
            return
        old = self.read(name, b)
        value = value.reshape(old.shape)
        if mask is not None:
            value = torch.where(mask.view(*mask.shape, *(1,) * (old.dim() - 2)), value, old)
        self._put(name, b, value)


def _runs(blocks: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs of neighbours: (first, how many)."""
    runs: list[tuple[int, int]] = []
    for b in blocks:
        if runs and b == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((b, 1))
    return runs


def are_finite(tiles: Tensor) -> Tensor:
    """Which of [n, Vt, Nt, C] are finite, as float64 [n] of 0 and 1."""
    return torch.isfinite(mean_token(tiles).sum((1, 2))).double()


def relative_error(stand_in: Tensor, true: Tensor) -> Tensor:
    """mean|stand_in - true| / mean|true| of each tile, [n, Vt, Nt, C] to float64 [n]."""
    change = (stand_in.float() - true.float()).abs().mean((1, 2, 3))
    return (change / true.float().abs().mean((1, 2, 3)).clamp_min(1e-12)).double()


def _pick(value: Tensor, chosen: Tensor | None) -> Tensor:
    flat = value.flatten(0, 1)
    return flat if chosen is None else flat.index_select(0, chosen)
