"""The decision: the schedule's word, the age of what is stored and the gate's opinion, put together."""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .books import Books
from .constants import index_on
from .fingerprint import Fingerprint, Similarity, fingerprint, group_members, sizes
from .gate import Comparison, Verdict, pad_to_bucket, unmeasured
from .memory import Memory
from .method import Setup
from .reason import Reason
from .reuse import Transport, extrapolate


@dataclass
class Choice:
    """What was decided about one block; tensors are [B, R] unless said otherwise."""

    reason: Tensor  # int64, 0 is a skip
    now: Fingerprint | None = None  # of the input, where it is stored
    moved: Tensor | None = None  # the transported residual, [B, R, Vt, Nt, C]
    checked: Tensor | None = None  # what a skip would have used, where skips are checked


class Decider:
    """Decides about the blocks of the `t`-th step of some books, and enters what it decides and sees."""

    def __init__(
        self, setup: Setup, books: Books, t: int, memory: Memory, transport: Transport | None
    ) -> None:
        self._setup, self._method, self._layout = setup, setup.method, setup.plan.layout
        self._books, self._t, self._memory = books, t, memory
        self._transport = transport if setup.method.reuse.transport else None
        device = books.who.action.device
        self._samples = index_on(self._layout.sampled, device)
        self._members = group_members(self._layout.tile_groups, len(self._layout.sampled), device)

    def decide(self, b: int, tiles: Tensor) -> Choice:
        """Decide about tiles [B, R, Vt, Nt, C], the input of a block."""
        moved, occluded = self._move(b)
        now, verdict = self._judge(b, tiles)
        codes = [self._forced(b), self._books.standing.held[self._t, b], verdict.reason]
        if self._books.who.has_budget:
            codes.append(self._over_budget(b, verdict))
        if occluded is not None:
            codes.append(occluded * int(Reason.OCCLUDED))
        reason = self._padded(reduce(torch.maximum, codes), verdict)
        self._enter(slice(b, b + 1), reason, verdict)
        choice = Choice(reason, now, moved)
        if self._books.who.checks(self._t, b):
            choice.checked = self.predict(b, choice).clone()
        return choice

    def decide_ahead(self, first: int, count: int, tiles: Tensor) -> tuple[int, Choice | None]:
        """How many of `count` blocks from `first` on every tile skips; where it is none, the choice about `first`.

        `tiles` [B, R, Vt, Nt, C] is the input of the first one. All must be free and have been computed in one pass.
        """
        books, t, run = self._books, self._t, slice(first, first + count)
        now, seen = self._look_ahead(first, count, tiles)
        if self._admits_all(run, seen):
            books.note(t, run, seen)
            return count, None
        key = (books.who.steps[t], first)
        judged = self._method.gate.judge_ahead(seen, books.standing.tau[t, run], books.max_deviation[t], key)
        verdict = self._seeing(judged)
        reason = torch.maximum(books.standing.held[t, run], verdict.reason)
        if books.who.has_budget:
            over = (verdict.drift > books.standing.room[t, run]) * int(Reason.STALE)
            reason = torch.maximum(reason, over)
        refused = (reason > 0).flatten(1).any(1).tolist()
        skipped = refused.index(True) if True in refused else count
        if skipped:
            self._enter(slice(first, first + skipped), reason[:skipped], verdict)
            return skipped, None
        this = Verdict(*(column[0] for column in verdict))
        chosen = self._padded(reason[0], this)
        self._enter(slice(first, first + 1), chosen, this)
        return 0, Choice(chosen, now)

    def forced(self, b: int, tiles: Tensor) -> Choice:
        """The schedule leaves nothing to decide."""
        choice = Choice(self._forced(b).expand_as(self._books.reason[self._t, b]))
        if self._books.who.is_reusable(self._t, b) and self._keeps_prints(b):
            choice.now = fingerprint(tiles, self._samples)
        return choice

    def _keeps_prints(self, b: int) -> bool:
        """Whether fingerprints of this block's input are stored."""
        return self._books.who.looks and (
            self._method.probe is None or (self._method.probe, b) == ("input", 0)
        )

    def decide_for_all(self, choice: Choice, residual: Tensor) -> None:
        """The first block's input, or its residual [B, R, Vt, Nt, C], decides for the blocks after it."""
        if self._method.probe == "input":
            self._memory.note_probe(choice.reason)
            return
        now, verdict = self._judge(0, residual)
        assert now is not None
        stack = self._forced(min(1, self._setup.plan.blocks - 1))
        held = self._books.standing.held[self._t, 0]
        decided = reduce(torch.maximum, [stack, held, verdict.reason, self._over_budget(0, verdict)])
        self._enter(slice(0, 1), choice.reason, verdict)
        self._books.decide_apart(self._t, 0, decided)
        self._books.outcome[self._t, 0, ..., 0] = torch.isfinite(now.mean.sum((2, 3)))
        self._memory.keep_print(0, now, decided > 0)
        self._memory.note_probe(decided)

    def predict(self, b: int, choice: Choice) -> Tensor:
        """The residuals that stand in for the block, [B, R, Vt, Nt, C]."""
        residual = self._memory.read("residual", b) if choice.moved is None else choice.moved
        if self._books.standing.a is None:
            return residual
        return extrapolate(residual, self._memory.read("previous", b), self._books.standing.a[self._t, b])

    def skip_run(self, first: int, count: int, tiles: Tensor) -> Tensor:
        """Tiles [B, R, Vt, Nt, C] plus the residuals of blocks in a row, rounded as one after another would be; of all
        blocks plus the sum of them, where that is kept.
        """
        total = self._memory.read_sum() if count == self._setup.plan.blocks else None
        if total is not None:
            return tiles + total
        residuals = self._memory.read_run("residual", first, count)
        out = tiles + residuals[0]
        for residual in residuals[1:]:
            out += residual
        return out

    def _forced(self, b: int) -> Tensor:
        return self._books.who.forced[self._t, b]

    def _enter(self, run: slice, reason: Tensor, verdict: Verdict) -> None:
        """Into the books: about blocks in a row, [n, B, R] of each, or [B, R] of one."""
        books, t, count = self._books, self._t, run.stop - run.start
        books.reason[t, run] = reason
        columns = ((books.cosine, verdict.cosine), (books.deviation, verdict.deviation))
        for column, seen in (*columns, (books.drift, verdict.drift)):
            column[t, run] = seen if seen.dim() == 2 else seen[:count]

    def _padded(self, reason: Tensor, verdict: Verdict) -> Tensor:
        if self._setup.buckets is None:
            return reason
        return pad_to_bucket(reason, _closeness(verdict), self._setup.buckets)

    def _judge(self, b: int, signal: Tensor) -> tuple[Fingerprint | None, Verdict]:
        """The gate's verdict on tiles [B, R, Vt, Nt, C]; after a probe, what the probe came to."""
        gate, tau = self._method.gate, self._books.standing.tau[self._t, b]
        key = self._books.who.steps[self._t], b
        if b > 0 and self._method.probe is not None:
            return None, unmeasured(tau)._replace(reason=self._memory.read("probe", 0).clone())
        if not self._books.who.looks:
            return None, gate.judge(None, tau, self._books.max_deviation[self._t], key)
        now = fingerprint(signal, self._samples)
        limited = self._books.who.limits_deviation
        seen = Comparison(now, *self._stored_print(b), self._members, self._action_cosine(b), limited)
        verdict = self._seeing(gate.judge(seen, tau, self._books.max_deviation[self._t], key))
        if self._method.follow:
            self._memory.keep_print(b, now)
        return now, verdict

    def _look_ahead(
        self, first: int, count: int, tiles: Tensor
    ) -> tuple[Fingerprint | None, Similarity | None]:
        """The fingerprint of the first block's input, and the metrics of blocks in a row; None where nobody looks."""
        if not self._books.who.looks:
            return None, None
        now, old = fingerprint(tiles, self._samples), self._memory.read_prints(first, count)
        cosine = self._action_cosine(slice(first, first + count))
        old_sizes = self._memory.read_run("sizes", first, count)
        limited = self._books.who.limits_deviation
        return now, self._method.gate.look_ahead(
            Comparison(now, old, old_sizes, self._members, cosine, limited)
        )

    def _admits_all(self, run: slice, seen: Similarity | None) -> bool:
        """Whether nothing stands against skipping blocks in a row: by far the most frequent answer, in few operations.

        False only says that it must be asked in detail.
        """
        books, t = self._books, self._t
        if books.who.has_budget or books.who.blind is not None or any(books.is_held[t][run]):
            return False
        if seen is None:
            return True
        tau, max_deviation = books.standing.tau[t, run], books.max_deviation[t]
        return bool(self._method.gate.admits(seen, tau, max_deviation).all())

    def _seeing(self, verdict: Verdict) -> Verdict:
        """The verdict [..., B, R] without the rows that it is none of the gate's business to look at."""
        blind = self._books.who.blind
        if blind is None:
            return verdict
        nothing = unmeasured(verdict.cosine)
        return Verdict(*(torch.where(blind, none, seen) for none, seen in zip(nothing, verdict, strict=True)))

    def _action_cosine(self, where: int | slice) -> Tensor | None:
        stored = self._books.action_cosine
        return None if stored is None else stored[self._t, where]

    def _stored_print(self, b: int) -> tuple[Fingerprint, Tensor]:
        """The stored fingerprint and its sizes; moved with the scene where it holds every token: like with like."""
        old = self._memory.read_print(b)
        if self._transport is None or old.spatial.shape[3] != self._layout.tile_tokens:
            return old, self._memory.read("sizes", b)
        moved, _ = self._transport(self._layout.merge(old.spatial), self._ages(b))
        old = Fingerprint(torch.cat([self._layout.split(moved), old.mean.unsqueeze(3)], dim=3))
        return old, sizes(old, self._members)

    def _over_budget(self, b: int, verdict: Verdict) -> Tensor:
        return (verdict.drift > self._books.standing.room[self._t, b]) * int(Reason.STALE)

    def _ages(self, b: int) -> Tensor:
        """Of what is stored, [B, V, N]."""
        return self._layout.spread(self._books.standing.age[self._t, b])

    def _move(self, b: int) -> tuple[Tensor | None, Tensor | None]:
        """The stored residual carried to now, and where too little of it has a source."""
        if self._transport is None:
            return None, None
        reuse, residual = self._method.reuse, self._memory.read("residual", b)
        moved, valid = self._transport(self._layout.merge(residual), self._ages(b))
        known = self._layout.split(valid.unsqueeze(-1))
        fill = residual if reuse.fill == "hold" else torch.zeros_like(residual)
        missing = 1.0 - known.double().mean((2, 3, 4))
        return torch.where(known, self._layout.split(moved), fill), missing > reuse.max_invalid


def _closeness(verdict: Verdict) -> Tensor:
    """Larger where a refusal is nearer."""
    return torch.where(torch.isnan(verdict.cosine), verdict.deviation, -verdict.cosine)
