"""X-Cache: run a stack of residual blocks and skip those whose residual from an earlier chunk will do.

    cache = XCache(Plan(steps=4, blocks=10, layout=Layout(views=7, tokens=112, channels=320, grid=(1, 8, 14))))
    state = cache.new_state(slots=8)
    at = cache.enter(state, slots=[0, 3], chunk=n, step=t, role=Role.DENOISE)
    x = at.run_stack(blocks, x)

Identity (slot, chunk, step, block, role) is passed in; nothing is counted, hooked or global. The state is explicit.
"""

from collections.abc import Sequence
from time import perf_counter_ns

import torch
from torch import Tensor

from .books import Books
from .executors import EXECUTORS, Block, ExecutorName, why_no_graph
from .identity import Identity
from .method import XCACHE, Method, Setup
from .passes import Pass
from .plan import Plan
from .presets import preset
from .reuse import Transport
from .schedule import Policy, Role, why_never
from .store import State


class XCache:
    """The cache of one model: stateless itself, any number of `State`s.

    Args:
        plan: steps, blocks and the layout of a block's input.
        policy: the tier of new slots, a `Policy` or the name of a preset.
        method: the pieces; X-Cache as published by default.
        executor: `eager` (host decisions, gathers what must be computed), `masked` (computes everything and selects:
            the reference) or `graph` (device decisions inside a CUDA graph).
        buckets: how many tiles of a row may be computed at once, ascending, the last one all of them; the number is
            raised to the next size with the tiles nearest to a refusal. None: any number.
        strict: refuse a tier that can never skip.

    Raises:
        ValueError: an unknown name, buckets that do not fit the layout, or, when `strict`, a tier that never skips.
    """

    def __init__(
        self,
        plan: Plan,
        policy: Policy | str = "balanced",
        *,
        method: Method = XCACHE,
        executor: ExecutorName = "eager",
        buckets: Sequence[int] | None = None,
        strict: bool = False,
    ) -> None:
        if executor not in EXECUTORS:
            raise ValueError(f"expected executor {', '.join(EXECUTORS)}, got {executor!r}")
        tiles = plan.layout.tiles
        if buckets is not None and (
            list(buckets) != sorted(set(buckets)) or not buckets or buckets[-1] != tiles
        ):
            raise ValueError(f"expected ascending buckets that end with {tiles} tiles, got {list(buckets)}")
        self.plan, self.method = plan, method
        sizes = None if buckets is None else tuple(buckets)
        self.setup = Setup(plan, method, executor, sizes)
        self.strict = strict
        self.policy = self.check_policy(policy)

    def check_policy(self, policy: Policy | str) -> Policy:
        """The policy, by name or as given; a ValueError when this cache is strict and it can never skip."""
        policy = preset(policy) if isinstance(policy, str) else policy
        why = self.why_never(policy)
        if self.strict and why is not None:
            raise ValueError(f"expected a tier that can skip, got one that never does: {why}")
        return policy

    def why_never(self, policy: Policy | None = None) -> str | None:
        """Why a tier can never skip a block here, or None when it can."""
        return why_never(
            policy or self.policy,
            axis=self.method.axis,
            steps=self.plan.steps,
            blocks=self.plan.blocks,
            gated=self.method.gate.adaptive,
        )

    def set_policy(self, state: State, slot: int, policy: Policy | str) -> None:
        """Change the tier of a slot at a chunk boundary; what it has stored is dropped."""
        state.set_policy(slot, self.check_policy(policy))

    def new_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> State:
        """Storage for `slots` sessions whose block input has this dtype and device.

        Raises:
            RuntimeError: when the `graph` executor cannot run on the device; the message says why.
        """
        if self.setup.executor == "graph" and (why := why_no_graph(torch.device(device))) is not None:
            raise RuntimeError(f"expected a device for the graph executor: {why}")
        return State(
            self.plan,
            slots,
            keys=self.plan.steps if self.method.axis == "chunk" else 1,
            prints=self.plan.blocks if self.method.probe is None else 1,
            previous=self.method.reuse.keeps_previous,
            sums=self.setup.runs_ahead and dtype == torch.float32,
            policy=self.policy,
            dtype=dtype,
            device=device,
        )

    def enter(
        self,
        state: State,
        *,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        step: int | None,
        role: Role | Sequence[Role] = Role.DENOISE,
        action: Tensor | None = None,
        transport: Transport | None = None,
    ) -> Pass:
        """One pass over the blocks: row i of its input belongs to `slots[i]`.

        Args:
            state: from `new_state`.
            slots: the session slot of each batch row, each once.
            chunk, role: of every row, or one for all.
            step: 0..S-1; None for a pass that is never cached (the pass on the clean latent).
            action: [B, ...] with `layout.action_size` numbers per row, when there are any.
            transport: moves a cached residual with the scene, when the method asks for it.

        Raises:
            IndexError: a slot or step that does not exist.
            ValueError: lengths or shapes that do not match. The state is unchanged.
        """
        steps = range(0) if step is None else range(step, step + 1)
        return self._passes(state, slots, chunk, steps, role, action, transport)[0]

    def enter_chunk(
        self,
        state: State,
        *,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        role: Role | Sequence[Role] = Role.DENOISE,
        action: Tensor | None = None,
        transport: Transport | None = None,
    ) -> list[Pass]:
        """The passes of a chunk, one for each step, to be run in this order: like `enter`, with the books kept once."""
        steps = range(self.plan.steps)
        if self.method.axis == "chunk":
            return self._passes(state, slots, chunk, steps, role, action, transport)
        apart = [range(step, step + 1) for step in steps]  # what a step stores, the next one reads
        return [self._passes(state, slots, chunk, one, role, action, transport)[0] for one in apart]

    def run_block(
        self,
        b: int,
        block: Block,
        x: Tensor,
        *,
        state: State,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        step: int | None,
        role: Role | Sequence[Role] = Role.DENOISE,
        action: Tensor | None = None,
        transport: Transport | None = None,
    ) -> Tensor:
        """One block of a pass by itself; `enter` once per pass is cheaper and does the same."""
        at = self.enter(
            state, slots=slots, chunk=chunk, step=step, role=role, action=action, transport=transport
        )
        return at.run_block(b, block, x)

    def _passes(
        self,
        state: State,
        slots: Sequence[int],
        chunk: int | Sequence[int],
        steps: range,
        role: Role | Sequence[Role],
        action: Tensor | None,
        transport: Transport | None,
    ) -> list[Pass]:
        """Passes that share their books: one for each step, or one that is never cached where there is none."""
        if self.method.reuse.transport and transport is None:
            raise ValueError("expected a transport, because the method moves residuals, got None")
        started = perf_counter_ns()
        books = Books(self.setup, state, Identity(self.setup, state, slots, chunk, steps, role, action))
        made = [Pass(self.setup, state, books, t, transport) for t in range(max(len(steps), 1))]
        state.gate_ns += perf_counter_ns() - started
        return made
