"""Reading and writing the state for the rows of one pass."""

import torch
from torch import Tensor

from .decision import Decision
from .fingerprint import Fingerprint
from .gate import update_ema
from .method import Method
from .reason import Reason
from .reuse import fit
from .store import Meta, Rows, State


class Memory:
    """The part of a `State` that a pass sees: its rows, at one key of the step axis."""

    def __init__(self, state: State, rows: Rows, key: int, method: Method) -> None:
        self._state, self._rows, self._key, self._method = state, rows, key, method

    def read(self, name: str, b: int) -> Tensor:
        """A plane's rows, [B, R, ...]; possibly a view: use it before the next write."""
        return self._rows.of(self._state.planes[name], self._key, b)

    def meta(self, b: int) -> Tensor:
        """The bookkeeping of a block, float64 [B, R, len(Meta)], copied."""
        return self.read("meta", b).clone()

    def probe(self) -> Tensor:
        """The reason that the probe of this pass came to, int64 [B, R]."""
        return self.read("probe", 0).clone()

    def has_prints(self, b: int) -> bool:
        """Whether the fingerprint of this block's input is stored."""
        return self._method.gate.measures and (
            self._method.probe is None or (self._method.probe, b) == ("input", 0)
        )

    def read_print(self, b: int) -> Fingerprint:
        """The stored fingerprints."""
        return Fingerprint(*(self.read(name, b) for name in Fingerprint._fields))

    def keep_print(self, b: int, now: Fingerprint, mask: Tensor | None = None) -> None:
        """Store fingerprints, of the tiles of a mask [B, R] or of all."""
        for name, value in now._asdict().items():
            self._write(name, b, value.flatten(0, 1), None, mask)

    def keep(
        self, b: int, decision: Decision, residual: Tensor, chosen: Tensor | None, mask: Tensor | None
    ) -> None:
        """Store residuals and fingerprints of computed tiles, in the three forms of `executors.Keep`.

        What is not finite is stored too, but its tile is marked as not to be used.
        """
        with torch.no_grad():
            new = residual if chosen is not None else residual.flatten(0, 1)
            self._note_outcome(b, decision, new, chosen)
            if self._method.reuse.keeps_previous:
                self._write("previous", b, _pick(self.read("residual", b), chosen).clone(), chosen, mask)
            self._write("residual", b, new, chosen, mask)
            if decision.now is not None and self.has_prints(b):
                for name, value in decision.now._asdict().items():
                    self._write(name, b, _pick(value, chosen), chosen, mask)

    def remember(self, b: int, decision: Decision, position: Tensor) -> None:
        """Bring the bookkeeping of a block up to date."""
        self._put("meta", b, next_meta(decision, position))
        self.count(b, decision.reason)
        if b == 0 and self._method.probe == "input":
            self._put("probe", 0, decision.reason)

    def remember_stack(self, decision: Decision, position: Tensor) -> None:
        """Keep what the first block's residual decided for the blocks after it; the bookkeeping of block 0 is theirs."""
        assert decision.now is not None
        finite = torch.isfinite(decision.now.mean.sum((2, 3)))
        decision.outcome[:, 0] = finite.flatten()
        self.keep_print(0, decision.now, decision.reason > 0)
        self._put("meta", 0, next_meta(decision, position))
        self._put("probe", 0, decision.reason)

    def count(self, b: int, reason: Tensor) -> None:
        """Add the reasons [B, R] to the counts of their slots."""
        self._state.touch("counts", self._key, b)
        page = self._state.planes["counts"][self._key, b]
        index = (self._rows.index[:, None] * len(Reason) + reason).flatten()
        page.view(-1).index_add_(0, index, torch.ones_like(index))

    def _note_outcome(self, b: int, decision: Decision, new: Tensor, chosen: Tensor | None) -> None:
        """Whether residuals are finite, what skipping them would have cost, and how they changed."""
        finite = torch.isfinite(new.sum((1, 2, 3), dtype=torch.float32)).double()
        error = fitted = torch.full_like(finite, torch.nan)
        if decision.checked is not None:
            error = relative_error(_pick(decision.checked, chosen), new)
        if self._method.reuse.order == "fitted":
            fitted = self._fit(b, new, chosen)
        outcome = torch.stack([finite, error, fitted], dim=1)
        if chosen is None:
            decision.outcome.copy_(outcome)
        else:
            decision.outcome.index_copy_(0, chosen, outcome)

    def _fit(self, b: int, new: Tensor, chosen: Tensor | None) -> Tensor:
        samples = torch.tensor(self._state.plan.layout.sampled, device=new.device)
        last, previous = (_pick(self.read(name, b), chosen) for name in ("residual", "previous"))
        tokens = [value.index_select(2, samples) for value in (new, last, previous)]
        return fit(tokens[0], tokens[1], tokens[2], self._method.reuse.limit)

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


def next_meta(decision: Decision, position: Tensor) -> Tensor:
    """The bookkeeping after a decision was carried out, [B, R, len(Meta)]; `position` float64 [B, 1] is now."""
    was, verdict, computed = decision.meta, decision.verdict, decision.reason > 0
    finite, error, fitted = decision.outcome.view(*computed.shape, 3).unbind(-1)
    usable = was[..., Meta.VALID] > 0
    gated = usable & (decision.forced < Reason.STEP0)
    seen = torch.where(gated, verdict.cosine, torch.nan)
    fitted = torch.where(computed & usable & torch.isfinite(was[..., Meta.PREVIOUS]), fitted, torch.nan)
    checked = (decision.reason == Reason.SHADOW) & torch.isfinite(error)
    columns = {
        Meta.VALID: torch.where(computed, finite, was[..., Meta.VALID]),
        Meta.SKIPS: torch.where(computed, 0.0, was[..., Meta.SKIPS] + 1),
        Meta.STAMP: torch.where(computed, position, was[..., Meta.STAMP]),
        Meta.PREVIOUS: torch.where(
            computed, torch.where(usable, was[..., Meta.STAMP], torch.nan), was[..., Meta.PREVIOUS]
        ),
        Meta.EMA: update_ema(was[..., Meta.EMA], seen, decision.rate),
        Meta.DRIFT: torch.where(computed, 0.0, was[..., Meta.DRIFT] + verdict.drift),
        Meta.COSINE: verdict.cosine,
        Meta.DEVIATION: verdict.deviation,
        Meta.REASON: decision.reason.double(),
        Meta.FIT: update_ema(was[..., Meta.FIT], fitted, decision.rate),
        Meta.ERROR: torch.where(checked, error, was[..., Meta.ERROR]),
        Meta.ERROR_SUM: was[..., Meta.ERROR_SUM] + torch.where(checked, error, 0.0),
        Meta.ERROR_COUNT: was[..., Meta.ERROR_COUNT] + checked,
        Meta.AGE: torch.where(computed, 0.0, decision.age),
    }
    return torch.stack([columns[column] for column in Meta], dim=-1)


def relative_error(stand_in: Tensor, true: Tensor) -> Tensor:
    """mean|stand_in - true| / mean|true| of each tile, [n, Vt, Nt, C] to float64 [n]."""
    change = (stand_in.float() - true.float()).abs().mean((1, 2, 3))
    return (change / true.float().abs().mean((1, 2, 3)).clamp_min(1e-12)).double()


def _pick(value: Tensor, chosen: Tensor | None) -> Tensor:
    flat = value.flatten(0, 1)
    return flat if chosen is None else flat.index_select(0, chosen)
