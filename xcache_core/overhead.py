"""What deciding costs next to what a block costs: the number to keep small."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from time import perf_counter_ns

import torch
from torch import Tensor, nn

from .cache import XCache
from .executors import ExecutorName, Request
from .plan import Cut, Layout, Plan
from .schedule import Policy
from .store import State


@dataclass(frozen=True)
class Overhead:
    """Times per block of a whole pass in milliseconds: the fastest of some rounds, since the machine may be shared."""

    block_ms: float  # the block alone
    skipped_ms: float  # through the cache, skipped
    computed_ms: float  # through the cache, refused by the gate, computed and stored
    forced_ms: float  # through the cache, computed and stored without asking the gate
    gate_ms: float  # the deciding and bookkeeping inside

    @property
    def gate_share(self) -> float:
        """The gate's cost over the block's."""
        return self.gate_ms / self.block_ms

    @property
    def computed_share(self) -> float:
        """What a refused block costs on top of the bare one, over the bare one."""
        return self.computed_ms / self.block_ms - 1.0


class TransformerBlock(nn.Module):
    """A plain block of the usual size: attention within a view and a 4x MLP, both residual."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.RMSNorm(channels), nn.RMSNorm(channels)])
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor, request: Request) -> Tensor:
        """[n, V, N, C] to the same."""
        q, k, v = (
            self.qkv(self.norms[0](x)).reshape(*x.shape[:3], 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        )
        attended = nn.functional.scaled_dot_product_attention(q, k, v)  # [n, V, heads, N, C / heads]
        x = x + self.out(attended.transpose(2, 3).reshape(x.shape))
        return x + torch.as_tensor(self.mlp(self.norms[1](x)))


def measure_overhead(
    *,
    views: int = 7,
    grid: tuple[int, int, int] = (1, 8, 14),
    channels: int = 320,
    blocks: int = 8,
    batch: int = 1,
    cut: Cut = "frame",
    executor: ExecutorName = "eager",
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
    repeats: int = 15,
) -> Overhead:
    """Time a stack of blocks of this size with and without the cache, in turns, so that a busy machine hits all alike."""
    layout = Layout(views, grid[0] * grid[1] * grid[2], channels, grid, cut=cut, action_size=8)
    stack = [TransformerBlock(channels, channels // 64).to(device, dtype).eval() for _ in range(blocks)]
    x = torch.randn(batch, views, layout.tokens, channels, dtype=dtype, device=device)
    rows = torch.arange(batch, device=device)
    tiers = {
        "skipped": Policy(front=0),
        "computed": Policy(front=0, floor=2.0),
        "forced": Policy(warm_up=1 << 60),
    }
    runs = {"block": lambda chunk: _bare(stack, x, Request(x, rows, rows))}
    states: list[State] = []
    for name, tier in tiers.items():
        cache = XCache(Plan(1, blocks, layout), tier, executor=executor)
        states.append(cache.new_state(batch, dtype=dtype, device=device))
        runs[name] = partial(_cached, cache, states[-1], stack, x)
    with torch.inference_mode():
        times, gate_ms = _alternate(runs, states[:2], repeats, device)
    each = {name: best / blocks for name, best in times.items()}
    return Overhead(each["block"], each["skipped"], each["computed"], each["forced"], gate_ms / blocks)


def _bare(stack: list[TransformerBlock], x: Tensor, request: Request) -> None:
    for block in stack:
        x = block(x, request)


def _cached(cache: XCache, state: State, stack: list[TransformerBlock], x: Tensor, chunk: int) -> None:
    action = torch.ones(x.shape[0], cache.plan.layout.action_size)
    at = cache.enter(state, slots=range(x.shape[0]), chunk=chunk, step=0, action=action)
    at.run_stack(stack, x)


def _alternate(
    runs: dict[str, Callable[[int], None]], gated: list[State], repeats: int, device: str
) -> tuple[dict[str, float], float]:
    """The fastest pass of each and the least time spent on deciding in one, in milliseconds, after a warm-up."""
    best, best_gate = dict.fromkeys(runs, inf), inf
    for chunk in range(repeats + 3):
        for name, run in runs.items():
            started, gate_before = perf_counter_ns(), sum(state.gate_ns for state in gated)
            run(chunk)
            if device != "cpu":
                torch.cuda.synchronize()
            if chunk >= 3:
                best[name] = min(best[name], (perf_counter_ns() - started) / 1e6)
                if name in ("skipped", "computed"):
                    best_gate = min(best_gate, (sum(state.gate_ns for state in gated) - gate_before) / 1e6)
    return best, best_gate
