"""One pass over the blocks: decide, execute, remember."""

from collections.abc import Sequence
from functools import partial
from time import perf_counter_ns

import torch
from torch import Tensor

from .decide import Choice, Decider
from .executors import EXECUTORS, Block, Job, compute_all, whole
from .identity import Identity
from .memory import Memory
from .method import Setup
from .reason import Reason
from .reuse import Transport
from .schedule import Role
from .store import State


class Pass:
    """Rows of a batch going through the blocks once. Made by `XCache.enter`.

    The books are read before the first block and written after the last one, or when the state is next used.
    """

    def __init__(self, setup: Setup, state: State, who: Identity, transport: Transport | None) -> None:
        self._setup, self._state, self._who, self._transport = setup, state, who, transport
        self._layout = setup.plan.layout
        self._memory = Memory(state, who.rows, who.step or 0, setup.method)
        self._decider: Decider | None = None
        self._choices: dict[int, Choice] = {}

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
        tiles, forced = self._layout.split(x), self._who.is_forced(b)
        with torch.no_grad():
            choice = self._begin().forced(b, tiles) if forced else self._decide(b, tiles)
        y = self._execute(b, block, x, tiles, choice, forced)
        if b == 0 and self._setup.method.probe is not None:
            with torch.no_grad():
                self._begin().decide_for_all(choice, self._layout.split(y) - tiles)
        self._choices[b] = choice
        if b == self._setup.plan.blocks - 1:
            self.settle()
        return y

    def settle(self) -> None:
        """Write the books of the blocks run so far; done by itself after the last block."""
        decider, choices = self._decider, self._choices
        self._decider, self._choices = None, {}
        if self._state.pending is self:
            self._state.pending = None
        if decider is not None and choices:
            started = perf_counter_ns()
            with torch.no_grad():
                record = decider.record(choices)
                self._memory.settle(
                    sorted(choices), decider.books, record, self._who.numbers, self._who.action
                )
            self._state.gate_ns += perf_counter_ns() - started

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
        self.settle()
        self._who.update(chunk, role, action)

    def _begin(self) -> Decider:
        """Read the books, at the first block."""
        if self._decider is None:
            self._state.settle()
            self._state.pending = self
            self._decider = Decider(self._setup, self._who, self._memory, self._transport)
        return self._decider

    def _decide(self, b: int, tiles: Tensor) -> Choice:
        started = perf_counter_ns()
        choice = self._begin().decide(b, tiles)
        self._state.gate_ns += perf_counter_ns() - started
        self._state.gate_calls += 1
        return choice

    def _execute(
        self, b: int, block: Block, x: Tensor, tiles: Tensor, choice: Choice, forced: bool
    ) -> Tensor:
        keep = partial(self._memory.keep, b, choice.outcome, choice.now, choice.checked)
        job = Job(
            block,
            x,
            tiles,
            skip=choice.reason == 0,
            slots=self._who.rows.index,
            layout=self._layout,
            predict=partial(self._begin().predict, b, choice),
            keep=keep if self._who.is_reusable(b) else _drop,
        )
        return whole(job) if forced else EXECUTORS[self._setup.executor](job)

    def _run_plain(self, b: int, block: Block, x: Tensor) -> Tensor:
        y = compute_all(block, x, self._who.rows.index)
        if self._who.step is not None:
            shape = (x.shape[0], self._layout.tiles)
            self._memory.count(b, torch.full(shape, int(Reason.OFF), device=x.device))
        return y

    def _check_input(self, b: int, x: Tensor) -> None:
        layout, blocks = self._layout, self._setup.plan.blocks
        if not 0 <= b < blocks:
            raise IndexError(f"expected block in 0..{blocks - 1}, got {b}")
        if b in self._choices:
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
