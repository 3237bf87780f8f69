"""The decision for one block: the schedule's word, the gate's opinion and the age of what is stored, put together."""

import torch
from torch import Tensor

from .decision import Decision
from .fingerprint import Fingerprint, fingerprint
from .gate import Limits, Verdict, adaptive_threshold, pad_to_bucket, unmeasured
from .method import Setup
from .reason import Reason
from .remember import Memory
from .reuse import Transport, coefficient, extrapolate
from .store import Meta


class Decider:
    """Decides for the rows of one pass. `numbers` float64 [8, B, 1] are as `Pass` packs them."""

    def __init__(
        self,
        setup: Setup,
        memory: Memory,
        step: int,
        numbers: Tensor,
        action: Tensor,
        transport: Transport | None,
    ) -> None:
        self._method, self._layout, self._buckets = setup.method, setup.plan.layout, setup.buckets
        self._memory, self._step, self._numbers = memory, step, numbers
        self.action = action
        self._transport = transport if self._method.reuse.transport else None
        self._samples = torch.tensor(self._layout.sampled, device=action.device)

    def decide(self, b: int, tiles: Tensor, forced: Tensor) -> Decision:
        """Decide about tiles [B, R, Vt, Nt, C], a block's input; `forced` int64 [B, 1] is the schedule's word."""
        meta = self._memory.meta(b)
        age = self._numbers[0] - meta[..., Meta.STAMP]
        moved, occluded = self._move(b, age)
        if b > 0 and self._method.probe is not None:
            now, verdict = None, self._follow_probe(age)
        else:
            now = self._fingerprint(tiles)
            verdict = self._judge(b, now, meta, age)
        decision = self._combine(forced, verdict, age, meta, now, occluded)
        decision.moved = moved
        return decision

    def decide_stack(self, residual: Tensor, forced: Tensor) -> Decision:
        """Decide for all later blocks by the first block's residual [B, R, Vt, Nt, C]."""
        meta = self._memory.meta(0)
        age = self._numbers[0] - meta[..., Meta.STAMP]
        now = self._fingerprint(residual)
        return self._combine(forced, self._judge(0, now, meta, age), age, meta, now, None)

    def forced(self, b: int, tiles: Tensor | None, forced: Tensor) -> Decision:
        """The decision when the schedule leaves nothing to the gate; `tiles` are given when they will be kept."""
        meta = self._memory.meta(b)
        age = self._numbers[0] - meta[..., Meta.STAMP]
        prints = tiles is not None and self._memory.has_prints(b)
        now = self._fingerprint(tiles) if prints and tiles is not None else None
        reason = forced.expand_as(age)
        return Decision(reason, forced, unmeasured(age), self._numbers[4], age, meta, now, _outcome(age))

    def predict(self, b: int, decision: Decision) -> Tensor:
        """The residuals that stand in for the block, [B, R, Vt, Nt, C]."""
        residual = self._memory.read("residual", b) if decision.moved is None else decision.moved
        if not self._method.reuse.keeps_previous:
            return residual
        last, previous = decision.meta[..., Meta.STAMP], decision.meta[..., Meta.PREVIOUS]
        fitted = decision.meta[..., Meta.FIT]
        a = coefficient(self._method.reuse, fitted, self._numbers[0], last, previous, self._numbers[1])
        return extrapolate(residual, self._memory.read("previous", b), a)

    def _fingerprint(self, tiles: Tensor) -> Fingerprint | None:
        return fingerprint(tiles, self._samples, self.action) if self._method.gate.measures else None

    def _judge(self, b: int, now: Fingerprint | None, meta: Tensor, age: Tensor) -> Verdict:
        floor, margin, deviation = self._numbers[2], self._numbers[3], self._numbers[5]
        limits = Limits(adaptive_threshold(meta[..., Meta.EMA], floor, margin), deviation)
        old = self._stored_print(b, age) if now is not None else None
        verdict = self._method.gate.judge(now, old, limits, self._layout, (self._step, b))
        if self._method.follow and now is not None:
            self._memory.keep_print(b, now)
        return verdict

    def _stored_print(self, b: int, age: Tensor) -> Fingerprint:
        """The stored fingerprint; moved with the scene where it holds every token, so that like is compared."""
        old = self._memory.read_print(b)
        if self._transport is None or old.spatial.shape[3] != self._layout.tile_tokens:
            return old
        merged = self._layout.merge(old.spatial)
        moved, _ = self._transport(merged, self._layout.spread(age))
        return old._replace(spatial=self._layout.split(moved))

    def _follow_probe(self, age: Tensor) -> Verdict:
        return unmeasured(age)._replace(reason=self._memory.probe())

    def _combine(
        self,
        forced: Tensor,
        verdict: Verdict,
        age: Tensor,
        meta: Tensor,
        now: Fingerprint | None,
        occluded: Tensor | None,
    ) -> Decision:
        """The highest reason of each tile."""
        horizon, max_skips, budget = self._numbers[1], self._numbers[6], self._numbers[7]
        spent = (meta[..., Meta.SKIPS] >= max_skips) | (meta[..., Meta.DRIFT] + verdict.drift > budget)
        stale = spent | (age < 0) | (age > horizon)
        invalid = meta[..., Meta.VALID] == 0
        codes = [
            verdict.reason,
            forced.expand_as(age),
            stale * int(Reason.STALE),
            invalid * int(Reason.INVALID),
        ]
        if occluded is not None:
            codes.append(occluded * int(Reason.OCCLUDED))
        reason = torch.stack(codes).amax(0)
        if self._buckets is not None:
            reason = pad_to_bucket(reason, _closeness(verdict), self._buckets)
        return Decision(reason, forced, verdict, self._numbers[4], age, meta, now, _outcome(age))

    def _move(self, b: int, age: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The stored residual carried to now, and where too little of it has a source."""
        if self._transport is None:
            return None, None
        reuse, layout, residual = self._method.reuse, self._layout, self._memory.read("residual", b)
        moved, valid = self._transport(layout.merge(residual), layout.spread(age))
        moved, known = layout.split(moved), layout.split(valid.unsqueeze(-1))
        fill = residual if reuse.fill == "hold" else torch.zeros_like(residual)
        missing = 1.0 - known.double().mean((2, 3, 4))
        return torch.where(known, moved, fill), missing > reuse.max_invalid


def _closeness(verdict: Verdict) -> Tensor:
    """Larger where a refusal is nearer."""
    return torch.where(torch.isnan(verdict.cosine), verdict.deviation, -verdict.cosine)


def _outcome(like: Tensor) -> Tensor:
    """Nothing kept yet: not finite, no error, no fit."""
    return like.new_tensor([0.0, torch.nan, torch.nan]).repeat(like.numel(), 1)
