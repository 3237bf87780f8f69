"""Caching for somebody else's model: replace its stack of residual blocks, then say before each pass who is asking.

wrapped = wrap(model.transformer_blocks, cache, state)
model.transformer_blocks = wrapped.blocks
with wrapped.at(slots=[0], chunk=n, step=t):
    model(...)
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .cache import XCache
from .executors import Request
from .passes import Pass
from .store import State

Argument = int | str


class Wrapped:
    """A wrapped stack: `blocks` goes where the model's blocks were, `originals` are those."""

    def __init__(
        self,
        originals: list[nn.Module],
        cache: XCache,
        state: State,
        per_row: frozenset[Argument],
        shared: frozenset[Argument],
    ) -> None:
        self.originals = originals
        self.cache, self.state = cache, state
        self.per_row, self.shared = per_row, shared
        self.current: Pass | None = None
        self.blocks = nn.ModuleList([CachedBlock(self, b, block) for b, block in enumerate(originals)])

    @contextmanager
    def at(self, **identity: Any) -> Iterator[Pass]:
        """Name the pass that the model's next call is; the arguments are those of `XCache.enter`.

        Raises:
            RuntimeError: inside another one.
        """
        if self.current is not None:
            raise RuntimeError("expected one pass at a time, got one inside another")
        self.current = self.cache.enter(self.state, **identity)
        try:
            yield self.current
        finally:
            self.current = None


class CachedBlock(nn.Module):
    """One block of a wrapped stack, called like the block it stands for."""

    def __init__(self, owner: Wrapped, b: int, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self._owner, self._b = [owner], b  # in a list, so that it is not taken for a sub-module

    def __getattr__(self, name: str) -> Any:
        """What the cache does not have is asked of the block: models look into their blocks."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, N, C] to the same, computed or reused.

        Raises:
            RuntimeError: outside of `Wrapped.at`.
            TypeError: a block that returns anything but one tensor.
        """
        owner = self._owner[0]
        if owner.current is None:
            raise RuntimeError("expected the model to be called inside `with wrapped.at(...)`, got no pass")
        call = _caller(self.block, args, kwargs, owner.per_row, owner.shared)
        return owner.current.run_block(self._b, call, hidden_states.unsqueeze(1)).squeeze(1)


def wrap(
    blocks: Iterable[nn.Module],
    cache: XCache,
    state: State,
    *,
    per_row: Collection[Argument] = (),
    shared: Collection[Argument] = (),
) -> Wrapped:
    """Wrap residual blocks `block(hidden_states [B, N, C], ...) -> [B, N, C]`, one view, whole-row decisions.

    Args:
        blocks: as many as the plan has.
        cache, state: with `Layout(views=1, ...)`.
        per_row: which further arguments have one entry per batch row, by position (the first after the hidden states
            is 0) or name; they are gathered when only some rows are computed.
        shared: which have as many entries as the batch has rows, but are the same for all. A tensor of that length
            in neither is refused when rows must be gathered: what it means is not guessed.

    Raises:
        ValueError: another number of blocks, more than one view or tile.
    """
    originals, plan = list(blocks), cache.plan
    if len(originals) != plan.blocks:
        raise ValueError(f"expected {plan.blocks} blocks, got {len(originals)}")
    if plan.layout.views != 1 or plan.layout.tiles != 1:
        raise ValueError(f"expected a layout of one view and one tile, got {plan.layout}")
    return Wrapped(originals, cache, state, frozenset(per_row), frozenset(shared))


def _caller(
    block: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    per_row: frozenset[Argument],
    shared: frozenset[Argument],
) -> Callable[[Tensor, Request], Tensor]:
    """The block as the cache calls it: with the rows asked for, and what belongs to them."""

    def call(x: Tensor, request: Request) -> Tensor:
        if request.everything:
            return _residual(block(x.squeeze(1), *args, **kwargs))
        named: dict[Argument, Any] = dict(enumerate(args))
        named.update(kwargs)
        rows = {name: _rows(name, value, request, per_row, shared) for name, value in named.items()}
        positional = [rows[i] for i in range(len(args))]
        return _residual(block(x.squeeze(1), *positional, **{name: rows[name] for name in kwargs}))

    return call


def _rows(
    name: Argument, value: Any, request: Request, per_row: frozenset[Argument], shared: frozenset[Argument]
) -> Any:
    """An argument for the rows asked for."""
    if not isinstance(value, Tensor):
        return value
    if name in per_row:
        return value.index_select(0, request.batch)
    if name not in shared and value.dim() and value.shape[0] == request.x.shape[0]:
        raise ValueError(
            f"expected argument {name!r} of shape {list(value.shape)} to be named in per_row or shared"
        )
    return value


def _residual(y: Any) -> Tensor:
    if not isinstance(y, Tensor):
        raise TypeError(f"expected a block that returns one tensor, got {type(y).__name__}")
    return y.unsqueeze(1)
