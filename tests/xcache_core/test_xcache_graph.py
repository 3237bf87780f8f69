"""Device-side decisions: conditional nodes in a CUDA graph give what the reference gives."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from xcache_core import Layout, Plan, Policy, XCache, report
from xcache_core.executors import why_no_graph

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PLAN = Plan(1, 3, Layout(views=2, tokens=16, channels=32, grid=(1, 4, 4)))
SHAPE = (2, 2, 16, 32)


class Counting(nn.Module):
    """A residual block that counts on the device how often it really ran."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 32)
        self.register_buffer("ran", torch.zeros((), dtype=torch.int64))

    def forward(self, x, request):
        self.ran.add_(1)
        return x + torch.tanh(self.linear(x))


def stack():
    torch.manual_seed(0)
    return nn.ModuleList([Counting() for _ in range(3)]).cuda().requires_grad_(False)


def run(at, blocks, x):
    for b, block in enumerate(blocks):
        x = at.run_block(b, block, x)
    return x


def captured(cache, state, blocks, static):
    """A pass over two slots as one graph that is replayed for every chunk."""
    at = cache.enter(state, slots=[0, 1], chunk=0, step=0)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.inference_mode():
        run(at, blocks, static)
        at.update(chunk=0)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            out = run(at, blocks, static)
    for slot in range(2):
        state.reset(slot)
    for block in blocks:
        block.ran.zero_()
    return graph, out, at


def walk(chunks, change, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(SHAPE, generator=generator) + change * torch.randn(chunks, *SHAPE, generator=generator)
    ).cuda()


@pytest.mark.parametrize("cut", ["frame", "view", (2, 2)])
@pytest.mark.parametrize("change", [0.0, 0.02, 0.3])
def test_a_captured_pass_gives_what_masked_gives(cut, change):
    plan = replace(PLAN, layout=replace(PLAN.layout, cut=cut))
    assert why_no_graph(torch.device("cuda")) is None
    inputs, blocks, policy = walk(8, change), stack(), Policy(front=0)
    reference = XCache(plan, policy, executor="masked")
    state = reference.new_state(2, device="cuda")
    with torch.inference_mode():
        expected = [
            run(reference.enter(state, slots=[0, 1], chunk=n, step=0), blocks, x)
            for n, x in enumerate(inputs)
        ]
    cache = XCache(plan, policy, executor="graph")
    mine, static = cache.new_state(2, device="cuda"), inputs[0].clone()
    graph, out, at = captured(cache, mine, blocks, static)
    torch.cuda.set_sync_debug_mode("default")
    for n, x in enumerate(inputs):
        at.update(chunk=n)
        static.copy_(x)
        graph.replay()
        torch.testing.assert_close(out, expected[n])
    assert report(cache, mine).reasons == report(reference, state).reasons


def test_a_skipped_block_does_not_run_on_the_device():
    cache = XCache(PLAN, Policy(front=0), executor="graph")
    state, blocks, x = cache.new_state(2, device="cuda"), stack(), walk(1, 0.0)[0]
    graph, _, at = captured(cache, state, blocks, x)
    for n in range(6):
        at.update(chunk=n)
        graph.replay()
    torch.cuda.synchronize()
    assert [block.ran.item() for block in blocks] == [1, 1, 1]
    assert report(cache, state).reasons["skipped"] == 5 * 3 * 2


def test_masked_and_captured_decisions_read_nothing_back():
    cache = XCache(PLAN, Policy(front=0), executor="masked")
    state, blocks, inputs = cache.new_state(2, device="cuda"), stack(), walk(4, 0.05)
    passes = [cache.enter(state, slots=[0, 1], chunk=n, step=0) for n in range(4)]
    with torch.inference_mode():
        run(passes[0], blocks, inputs[0])
        torch.cuda.set_sync_debug_mode("error")
        try:
            for at, x in zip(passes[1:], inputs[1:], strict=True):
                run(at, blocks, x)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_gathered_rows_give_what_masked_gives_on_the_device():
    inputs, blocks = walk(6, 0.1), stack()
    outs = []
    for executor in ("masked", "eager"):
        cache = XCache(PLAN, Policy(front=0), executor=executor)
        state = cache.new_state(2, device="cuda")
        with torch.inference_mode():
            outs.append(
                [
                    run(cache.enter(state, slots=[0, 1], chunk=n, step=0), blocks, x)
                    for n, x in enumerate(inputs)
                ]
            )
    for a, b in zip(*outs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
