"""Small models and a small world for the cache's tests."""

from types import SimpleNamespace

import pytest
import torch

from xcache_core import Layout, Plan, Policy, Role, XCache


def pytest_runtest_setup(item):
    """Every test draws the same numbers, whichever ran before it."""
    torch.manual_seed(0)


def make_blocks(count, channels, seed=0, scale=0.15):
    """Residual blocks without interaction between tokens: gathered rows and tiles give the same bits."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(channels, generator=generator) * scale for _ in range(count)]
    return [lambda x, request, w=w: x + torch.sin(3 * x) * w for w in weights]


class Counted:
    """A block that counts the tiles or rows it was asked for."""

    def __init__(self, block):
        self.block, self.rows, self.calls = block, 0, 0

    def __call__(self, x, request):
        self.rows += x.shape[0]
        self.calls += 1
        return self.block(x, request)


def run_pass(cache, state, blocks, x, **identity):
    at = cache.enter(state, **identity)
    for b, block in enumerate(blocks):
        x = at.run_block(b, block, x)
    return x


def run_chunk(cache, state, blocks, steps, **identity):
    """All steps [S, B, V, N, C] of a chunk, each as a stack."""
    passes = cache.enter_chunk(state, **identity)
    return torch.stack([at.run_stack(blocks, x) for at, x in zip(passes, steps, strict=True)])


def exact(blocks, x):
    for block in blocks:
        x = block(x, None)
    return x


def rollout(cache, state, blocks, inputs, *, slots, role=Role.DENOISE, action=None, start=0):
    """Outputs [chunks, steps, ...] of inputs [chunks, steps, B, V, N, C]."""
    roles = role if callable(role) else (lambda chunk: role)
    return torch.stack(
        [
            torch.stack(
                [
                    run_pass(
                        cache,
                        state,
                        blocks,
                        x,
                        slots=slots,
                        chunk=start + n,
                        step=t,
                        role=roles(start + n),
                        action=action,
                    )
                    for t, x in enumerate(steps)
                ]
            )
            for n, steps in enumerate(inputs)
        ]
    )


def walk(chunks, steps, shape, *, change=0.02, seed=0):
    """Slowly varying inputs [chunks, steps, *shape]: unrelated between steps, a random walk over chunks."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(1, steps, *shape, generator=generator)
    return start + change * torch.randn(chunks, steps, *shape, generator=generator).cumsum(0)


@pytest.fixture(scope="session")
def toy():
    """Layouts, blocks and loops of toy size."""
    layout = Layout(views=3, tokens=12, channels=8, grid=(1, 3, 4), groups=((0,), (1, 2)), samples=6)
    return SimpleNamespace(
        layout=layout,
        plan=Plan(steps=2, blocks=3, layout=layout),
        shape=(3, 12, 8),
        blocks=make_blocks(3, 8),
        loose=Policy(floor=-1.0, margin=9.0, max_deviation=1e9, front=0, warm_up=1),
        veto=Policy(floor=2.0, front=0),
        make_blocks=make_blocks,
        Counted=Counted,
        run_pass=run_pass,
        run_chunk=run_chunk,
        exact=exact,
        rollout=rollout,
        walk=walk,
        cache=lambda policy="balanced", plan=None, **options: XCache(
            plan or Plan(steps=2, blocks=3, layout=layout), policy, **options
        ),
    )
