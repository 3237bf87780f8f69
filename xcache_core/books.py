"""The books of a chunk's passes: read before the first block, filled in on the way, written back after the last."""

from time import perf_counter_ns

import torch
from torch import Tensor

from .fingerprint import Similarity, vector_cosine
from .gate import update_ema
from .identity import Identity
from .ledger import (
    Record,
    Standing,
    checked_errors,
    count_reasons,
    in_one_go,
    next_meta,
    next_seen,
    standing,
)
from .memory import Memory
from .method import Setup
from .reason import Reason
from .store import Meta, Seen, State


class Books:
    """The bookkeeping of the rows of a chunk, at T steps. Rows of tensors are [T, L, B, R] unless said otherwise.

    Written back when every block of every step is through, or when the state is next used; blocks that no pass went
    through keep what they had.
    """

    standing: Standing
    action_cosine: (
        Tensor | None
    )  # [T, P, B, R], of what is stored under P prints; None where the gate does not look

    def __init__(self, setup: Setup, state: State, who: Identity) -> None:
        self._setup, self._state, self.who = setup, state, who
        self.memories: list[Memory] = []  # of the passes
        self.is_open = False

    def open(self) -> None:
        """Read them, unless they are open."""
        if self.is_open:
            return
        self._state.settle()
        self._state.pending, self.is_open = self, True
        state, rows, keys, layout = self._state, self.who.rows, self.who.keys, self._setup.plan.layout
        meta = rows.of_pages(state.planes["meta"], keys)
        self.standing = standing(meta, self.who.numbers, self._setup.method.reuse)
        self.action_cosine = None
        if layout.action_size and self._setup.method.gate.watches_action:
            stored = rows.of_pages(state.planes["action"], keys)
            self.action_cosine = vector_cosine(stored, self.who.action.unsqueeze(1))
        self.max_deviation = self.who.numbers.max_deviation[:, 0].float()
        self._prepare()

    def _prepare(self) -> None:
        """Empty columns to fill in."""
        age = self.standing.age
        shape = (len(self.who.steps), *age.shape[1:])
        self.reason = self.who.forced.expand(shape).clone()
        self.cosine, self.deviation = (age.new_full(shape, torch.nan, dtype=torch.float32) for _ in range(2))
        self.drift = age.new_zeros(shape, dtype=torch.float32)
        self.outcome = age.new_full((*shape, 3), torch.nan)  # of what is kept: finite, relative error, fit
        self.outcome.select(-1, 0).zero_()
        self.done = [[False] * self._setup.plan.blocks for _ in self.who.steps]
        self._skipped = 0  # blocks that were skipped by every tile with one look
        self._apart: dict[tuple[int, int], Tensor] = {}
        self._in_one_go: list[list[bool]] | None = None
        self._is_held: list[list[bool]] | None = None

    @property
    def in_one_go(self) -> list[list[bool]]:
        """For each block but the first, whether it was last computed in the same pass as the block before, [T][L - 1]."""
        if self._in_one_go is None:
            self._in_one_go = in_one_go(self.standing.meta).tolist()
        return self._in_one_go

    @property
    def is_held(self) -> list[list[bool]]:
        """For each block, whether what is stored may not be used for some tile, [T][L]."""
        if self._is_held is None:
            self._is_held = (self.standing.held > 0).flatten(2).any(2).tolist()
        return self._is_held

    def note(self, t: int, run: slice, seen: Similarity | None) -> None:
        """Every tile skips these blocks, which the schedule leaves free; enter what was seen of them, [n, B, R]."""
        self._skipped += run.stop - run.start
        if seen is not None:
            self.cosine[t, run] = seen.cosine
            if seen.deviation is not None:
                self.deviation[t, run] = seen.deviation

    def decide_apart(self, t: int, b: int, decided: Tensor) -> None:
        """Book another decision [B, R] for a block than the one that is counted."""
        self._apart[t, b] = decided

    def finish(self, t: int, first: int, count: int = 1) -> None:
        """These blocks are through."""
        self.done[t][first : first + count] = [True] * count
        if self.done[t][-1] and all(map(all, self.done)):
            self.settle()

    def settle(self) -> None:
        """Write them back, if they are open."""
        if not self.is_open:
            return
        self.is_open = False
        if self._state.pending is self:
            self._state.pending = None
        started = perf_counter_ns()
        with torch.no_grad():
            for memory in self.memories:
                memory.measure_prints()
            if self._all_skipped and self.who.rows.span is not None:
                self._write_skips()
            elif any(map(any, self.done)):
                self._write()
        self._state.gate_ns += perf_counter_ns() - started

    def _write(self) -> None:
        who, was = self.who, self.standing
        finite, error, fit = self.outcome.unbind(-1)
        drift = torch.where(torch.isinf(who.numbers.budget), 0.0, self.drift) if who.has_budget else None
        record = Record(
            self.reason,
            self._decided(),
            who.forced < Reason.STEP0,
            self.cosine,
            self._limited_deviation(),
            drift,
            finite,
            error,
            fit if self._setup.method.reuse.order == "fitted" else None,
        )
        seen = next_seen(record, was.age)
        self._replace("meta", who.keys, next_meta(was.meta, record, who.numbers))
        self._replace("seen", who.pages, seen)
        self._add("counts", count_reasons(self.reason))
        if who.checks_skips:
            self._add("errors", checked_errors(seen))
        if self.action_cosine is not None:
            self._replace_action(record.decided > 0)

    @property
    def _all_skipped(self) -> bool:
        return self._skipped == len(self.done) * self._setup.plan.blocks

    def _write_skips(self) -> None:
        """What `_write` comes to where every tile skipped every block at every step, in a fifth of the operations."""
        who, planes, was = self.who, self._state.planes, self.standing
        for name in ("meta", "seen", "counts"):
            self._state.touch_all(name)
        meta = who.rows.pages(planes["meta"], who.keys)
        meta[..., Meta.SKIPS] += 1
        if who.looks:
            meta[..., Meta.EMA] = update_ema(meta[..., Meta.EMA], self.cosine.double(), who.numbers.rate)
        seen = who.rows.pages(planes["seen"], who.pages)
        seen.fill_(torch.nan)
        seen[..., Seen.REASON] = Reason.SKIPPED
        seen[..., Seen.AGE] = was.age
        if who.looks:
            seen[..., Seen.COSINE] = self.cosine
        if who.limits_deviation:
            seen[..., Seen.DEVIATION] = self._limited_deviation()
        who.rows.pages(planes["counts"], who.pages)[..., Reason.SKIPPED] += self._setup.plan.layout.tiles

    def _limited_deviation(self) -> Tensor:
        """The deviations, without those of rows whose own numbers ask for none, though others of their batch may."""
        if not self.who.limits_deviation:
            return self.deviation
        return torch.where(torch.isinf(self.who.numbers.max_deviation), torch.nan, self.deviation)

    def _decided(self) -> Tensor:
        if not self._apart:
            return self.reason
        decided = self.reason.clone()
        for (t, b), apart in self._apart.items():
            decided[t, b] = apart
        return decided

    def _replace_action(self, computed: Tensor) -> None:
        """The action under which fingerprints were taken."""
        was = self.who.rows.of_pages(self._state.planes["action"], self.who.keys)
        refreshed = computed[:, : was.shape[1]].unsqueeze(-1) | self._setup.method.follow
        now = torch.where(refreshed, self.who.action[:, None], was)
        self._replace("action", self.who.keys, now)

    def _replace(self, name: str, steps: slice, new: Tensor) -> None:
        """Overwrite a plane's rows with [T, L, B, ...], or [T, P, B, ...] of its first blocks, where blocks are done."""
        plane, rows = self._state.planes[name], self.who.rows
        self._state.touch_all(name)
        if not all(map(all, self.done)):
            done = self._done(new)
            new = torch.where(done, new, rows.of_pages(plane, steps).to(new.dtype))
        rows.put_pages(plane, steps, new)

    def _add(self, name: str, new: Tensor) -> None:
        """Add [T, L, B, ...] to a plane's rows, where blocks are done."""
        plane, rows, steps = self._state.planes[name], self.who.rows, self.who.pages
        self._state.touch_all(name)
        if not all(map(all, self.done)):
            new = new * self._done(new)
        rows.put_pages(plane, steps, rows.of_pages(plane, steps) + new)

    def _done(self, like: Tensor) -> Tensor:
        """Which blocks are through, bool, to go with [T, L, ...] or [T, P, ...]."""
        done = torch.tensor(self.done, device=like.device)[:, : like.shape[1]]
        return done.view(*done.shape, *(1,) * (like.dim() - 2))
