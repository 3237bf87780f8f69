"""The decision for one block: the schedule's word, the age of what is stored and the gate's opinion, put together."""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .constants import index_on
from .fingerprint import Fingerprint, fingerprint, group_members, vector_cosine
from .gate import Verdict, pad_to_bucket, unmeasured
from .identity import Identity
from .ledger import Record, standing
from .memory import Memory, nothing_kept
from .method import Setup
from .reason import Reason
from .reuse import Transport, extrapolate


@dataclass
class Choice:
    """What was decided about one block; tensors are [B, R] unless said otherwise."""

    reason: Tensor  # int64, 0 is a skip
    verdict: Verdict
    outcome: Tensor  # float64 [B, R, 3], of what was kept: finite, relative error, fit
    now: Fingerprint | None = None  # of the input, where it is stored
    moved: Tensor | None = None  # the transported residual, [B, R, Vt, Nt, C]
    checked: Tensor | None = None  # what a skip would have used, where skips are checked
    decided: Tensor | None = None  # for the blocks after it, where one block decides for all


class Decider:
    """Decides about the blocks of one pass, from the books as they were when it was made."""

    def __init__(self, setup: Setup, who: Identity, memory: Memory, transport: Transport | None) -> None:
        self._setup, self._method, self._layout = setup, setup.method, setup.plan.layout
        self._who, self._memory = who, memory
        self._transport = transport if setup.method.reuse.transport else None
        self.books = standing(memory.read_all("meta"), who.numbers, setup.method.reuse)
        self._outcomes = nothing_kept(self.books.age)
        self._unmeasured = unmeasured(self.books.tau[0])
        self._max_deviation = who.numbers.max_deviation.float()
        self._samples = index_on(self._layout.sampled, who.action.device)
        self._members = group_members(self._layout.tile_groups, who.action.device)
        self._action_cosine: Tensor | None = None  # [L, B, R]
        if self._layout.action_size and self._method.gate.adaptive:
            self._action_cosine = vector_cosine(memory.read_all("action"), who.action.unsqueeze(1))

    def decide(self, b: int, tiles: Tensor) -> Choice:
        """Decide about tiles [B, R, Vt, Nt, C], the input of a block."""
        moved, occluded = self._move(b)
        now, verdict = self._judge(b, tiles)
        codes = [self._who.forced[b], self.books.held[b], verdict.reason]
        if self._who.has_budget:
            codes.append(self._over_budget(b, verdict))
        if occluded is not None:
            codes.append(occluded * int(Reason.OCCLUDED))
        reason = reduce(torch.maximum, codes)
        if self._setup.buckets is not None:
            reason = pad_to_bucket(reason, _closeness(verdict), self._setup.buckets)
        choice = Choice(reason, verdict, self._outcomes[b], now, moved)
        if self._who.checks_skips(b):
            choice.checked = self.predict(b, choice).clone()
        return choice

    def forced(self, b: int, tiles: Tensor) -> Choice:
        """The schedule leaves nothing to decide."""
        reason = self._who.forced[b].expand_as(self.books.age[b])
        choice = Choice(reason, self._unmeasured, self._outcomes[b])
        if self._who.is_reusable(b) and self._memory.has_prints(b):
            choice.now = fingerprint(tiles, self._samples, self._members)
        return choice

    def decide_for_all(self, choice: Choice, residual: Tensor) -> None:
        """The first block's input, or its residual [B, R, Vt, Nt, C], decides for the blocks after it."""
        if self._method.probe == "input":
            self._memory.note_probe(choice.reason)
            return
        now, choice.verdict = self._judge(0, residual)
        assert now is not None
        stack = self._who.forced[min(1, self._setup.plan.blocks - 1)]
        codes = [stack, self.books.held[0], choice.verdict.reason, self._over_budget(0, choice.verdict)]
        choice.decided = reduce(torch.maximum, codes)
        choice.outcome[..., 0] = torch.isfinite(now.mean.sum((2, 3)))
        self._memory.keep_print(0, now, choice.decided > 0)
        self._memory.note_probe(choice.decided)

    def predict(self, b: int, choice: Choice) -> Tensor:
        """The residuals that stand in for the block, [B, R, Vt, Nt, C]."""
        residual = self._memory.read("residual", b) if choice.moved is None else choice.moved
        if not self._method.reuse.keeps_previous:
            return residual
        return extrapolate(residual, self._memory.read("previous", b), self.books.a[b])

    def record(self, choices: dict[int, Choice]) -> Record:
        """What happened at some blocks, stacked in the order of the blocks."""
        blocks = sorted(choices)
        made = [choices[b] for b in blocks]
        reason = torch.stack([choice.reason for choice in made])
        decided = torch.stack(
            [choice.reason if choice.decided is None else choice.decided for choice in made]
        )
        gated = torch.stack([self._who.forced[b] for b in blocks]) < Reason.STEP0
        _, *seen = (torch.stack(column) for column in zip(*(choice.verdict for choice in made), strict=True))
        outcome = torch.stack([choice.outcome for choice in made])
        return Record(reason, decided, gated, *seen, *outcome.unbind(-1))

    def _judge(self, b: int, signal: Tensor) -> tuple[Fingerprint | None, Verdict]:
        """The gate's verdict on tiles [B, R, Vt, Nt, C]; after a probe, what the probe came to."""
        gate, tau = self._method.gate, self.books.tau[b]
        if b > 0 and self._method.probe is not None:
            return None, self._unmeasured._replace(reason=self._memory.read("probe", 0).clone())
        if not gate.measures:
            return None, gate.judge(None, tau, self._max_deviation, (self._who.step or 0, b))
        cosine = None if self._action_cosine is None else self._action_cosine[b]
        old = self._stored_print(b)
        now, verdict = self._setup.examine(
            gate, signal, self._samples, self._members, old, cosine, tau, self._max_deviation
        )
        if self._method.follow:
            self._memory.keep_print(b, now)
        return now, verdict

    def _stored_print(self, b: int) -> Fingerprint:
        """The stored fingerprint; moved with the scene where it holds every token, so that like is compared."""
        old = self._memory.read_print(b)
        if self._transport is None or old.spatial.shape[3] != self._layout.tile_tokens:
            return old
        moved, _ = self._transport(self._layout.merge(old.spatial), self._layout.spread(self.books.age[b]))
        return old._replace(spatial=self._layout.split(moved))

    def _over_budget(self, b: int, verdict: Verdict) -> Tensor:
        return (verdict.drift > self.books.room[b]) * int(Reason.STALE)

    def _move(self, b: int) -> tuple[Tensor | None, Tensor | None]:
        """The stored residual carried to now, and where too little of it has a source."""
        if self._transport is None:
            return None, None
        reuse, residual = self._method.reuse, self._memory.read("residual", b)
        moved, valid = self._transport(self._layout.merge(residual), self._layout.spread(self.books.age[b]))
        known = self._layout.split(valid.unsqueeze(-1))
        fill = residual if reuse.fill == "hold" else torch.zeros_like(residual)
        missing = 1.0 - known.double().mean((2, 3, 4))
        return torch.where(known, self._layout.split(moved), fill), missing > reuse.max_invalid


def _closeness(verdict: Verdict) -> Tensor:
    """Larger where a refusal is nearer."""
    return torch.where(torch.isnan(verdict.cosine), verdict.deviation, -verdict.cosine)
