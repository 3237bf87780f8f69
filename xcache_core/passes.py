"""One pass over the blocks: decide, execute, remember."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter_ns

import torch
from torch import Tensor

from .books import Books
from .decide import Choice, Decider
from .executors import EXECUTORS, Block, Job, compute_all, whole
from .ledger import count_reasons
from .memory import Memory
from .method import Setup
from .reason import Reason
from .reuse import Transport
from .schedule import Role
from .store import State


class Pass:
    """Rows of a batch going through the blocks once. Made by `XCache.enter` or `XCache.enter_chunk`.

    `run_stack` takes all blocks at once, `run_block` one; both do the same, the former for less.
    """

    def __init__(self, setup: Setup, state: State, books: Books, t: int, transport: Transport | None) -> None:
        self._setup, self._state, self._books, self._t = setup, state, books, t
        self._transport, self._who, self._layout = transport, books.who, setup.plan.layout
        step = books.who.steps[t] if books.who.steps else 0
        self._memory = Memory(state, books.who.rows, step, setup.method)
        books.memories.append(self._memory)
        self._decider: Decider | None = None

    def run_stack(self, blocks: Sequence[Block], x: Tensor) -> Tensor:
        """All blocks, in order, on x [B, V, N, C].

        Where blocks in a row were last computed in one pass, one look at the input of the first decides about all of
        them, and their residuals are added at once: what no one needs is not computed in between. The result is that
        of `run_block` block after block up to rounding, and so is every decision that is not a tie.

        Raises:
            ValueError: another number of blocks than planned; and see `run_block`.
        """
        count = self._setup.plan.blocks
        if len(blocks) != count:
            raise ValueError(f"expected {count} blocks, got {len(blocks)}")
        y, b, reach = x, 0, count
        while b < count:
            run = self._run_ahead(b, reach)
            if run == 0:
                y, b = self.run_block(b, blocks[b], y), b + 1
                continue
            y, skipped = self._run_several(b, run, blocks, y)
            if skipped == count:
                return y
            reach = 2 * reach if skipped == run else max(skipped, 1)  # no further than it was worth last time
            b += max(skipped, 1)
        return self._summed(x, y)

    def run_block(self, b: int, block: Block, x: Tensor) -> Tensor:
        """Block `b` on x [B, V, N, C]: computed or reused, tile by tile.

        Raises:
            IndexError: a block that does not exist.
            ValueError, TypeError: another shape, dtype or device than the state's, of the input or of what the block
                returns; a block that this pass has been through. Nothing is remembered of the block then.
        """
        self._check_input(b, x)
        if self._who.plain:
            return self._run_plain(b, block, x)
        tiles, forced = self._layout.split(x), self._who.is_forced(self._t, b)
        with self._deciding():
            choice = self._begin().forced(b, tiles) if forced else self._begin().decide(b, tiles)
        self._state.gate_calls += not forced
        y = self._execute(b, block, x, tiles, choice, forced)
        if b == 0 and self._setup.method.probe is not None:
            with self._deciding():
                self._begin().decide_for_all(choice, self._layout.split(y) - tiles)
        self._books.finish(self._t, b)
        return y

    def settle(self) -> None:
        """Write the books of the blocks run so far; done by itself after the last block."""
        self._books.settle()

    def update(
        self,
        *,
        chunk: int | Sequence[int],
        role: Role | Sequence[Role] = Role.DENOISE,
        action: Tensor | None = None,
    ) -> None:
        """Move to another chunk in place, same slots and step: what a captured CUDA graph reads at its next replay."""
        if self._who.plain:
            raise ValueError(
                "expected a pass that may be cached, got one without a step or with every tier off"
            )
        if len(self._who.steps) != 1:
            raise ValueError("expected a pass of its own, got one of a chunk")
        self.settle()
        self._who.update(chunk, role, action)
        self._decider = None

    def _run_ahead(self, first: int, reach: int) -> int:
        """How many blocks from `first` on, at most `reach`, can be decided about from the input of the first."""
        if not self._setup.runs_ahead or self._who.plain:
            return 0
        self._begin()
        looks, last = self._who.looks, min(self._setup.plan.blocks, first + reach)
        b = first
        while b < last and self._who.is_free(self._t, b):
            if looks and b > first and not self._books.in_one_go[self._t][b - 1]:
                break
            b += 1
        return b - first

    def _run_several(self, first: int, run: int, blocks: Sequence[Block], x: Tensor) -> tuple[Tensor, int]:
        """Skip as many of `run` blocks as every tile can, or run the first one, if that is none. Returns how many.

        A later block that is refused is looked at anew, with what it really gets.
        """
        self._check_input(first, x)
        tiles = self._layout.split(x)
        with self._deciding():
            skipped, choice = self._begin().decide_ahead(first, run, tiles)
        self._state.gate_calls += max(skipped, 1)
        if choice is not None:
            y = self._execute(first, blocks[first], x, tiles, choice, False)
            self._books.finish(self._t, first)
            return y, 0
        y = self._layout.merge(self._begin().skip_run(first, skipped, tiles))
        self._books.finish(self._t, first, skipped)
        return y, skipped

    def _summed(self, x: Tensor, y: Tensor) -> Tensor:
        """The output y of a stack, with x plus the sum of all residuals in the rows that skipped every block.

        That is what such a row gets by itself; its rounding must not tell whether another row was computed.
        """
        codes = self._who.codes[self._t]
        if self._state.sums is None or all(map(any, zip(*codes, strict=True))):
            return y
        skipped = (self._books.reason[self._t] == 0).all(-1).all(0).nonzero().squeeze(1)  # rows
        total = self._memory.read_sum() if skipped.numel() else None
        if total is None:
            return y
        total = self._layout.merge(total)
        return y.index_copy(0, skipped, (x + total).index_select(0, skipped))

    def _begin(self) -> Decider:
        """Open the books, at the first block."""
        if self._decider is None or not self._books.is_open:
            self._books.open()
            self._decider = Decider(self._setup, self._books, self._t, self._memory, self._transport)
        return self._decider

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        """Without gradients, on the gate's clock."""
        started = perf_counter_ns()
        with torch.no_grad():
            yield
        self._state.gate_ns += perf_counter_ns() - started

    def _execute(
        self, b: int, block: Block, x: Tensor, tiles: Tensor, choice: Choice, forced: bool
    ) -> Tensor:
        outcome = self._books.outcome[self._t, b]
        keep = partial(self._memory.keep, b, outcome, choice.now, choice.checked)
        job = Job(
            block,
            x,
            tiles,
            skip=choice.reason == 0,
            rows=self._who.rows,
            layout=self._layout,
            predict=partial(self._begin().predict, b, choice),
            keep=keep if self._who.is_reusable(self._t, b) else _drop,
        )
        return whole(job) if forced else EXECUTORS[self._setup.executor](job)

    def _run_plain(self, b: int, block: Block, x: Tensor) -> Tensor:
        y = compute_all(block, x, self._who.rows)
        if self._who.steps:
            off = torch.full((x.shape[0], self._layout.tiles), int(Reason.OFF), device=x.device)
            self._memory.count(b, count_reasons(off))
        return y

    def _check_input(self, b: int, x: Tensor) -> None:
        layout, blocks = self._layout, self._setup.plan.blocks
        if not 0 <= b < blocks:
            raise IndexError(f"expected block in 0..{blocks - 1}, got {b}")
        if self._books.is_open and self._books.done[self._t][b]:
            raise ValueError(f"expected each block once in a pass, got block {b} again")
        rows = self._who.rows
        shape = (len(rows.slots), layout.views, layout.tokens, layout.channels)
        if tuple(x.shape) != shape or x.dtype != self._state.dtype or x.device != rows.index.device:
            raise ValueError(
                f"expected block input {list(shape)} {self._state.dtype} on {rows.index.device}, "
                f"got {list(x.shape)} {x.dtype} on {x.device}"
            )


def _drop(y: Tensor, x: Tensor, chosen: Tensor | None, mask: Tensor | None) -> None:
    """Keep nothing."""
