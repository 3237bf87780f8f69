"""What the executors spend, and the captured path without a CUDA device."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from xcache_core import Policy, XCache
from xcache_core.executors import why_no_graph
from xcache_core.overhead import measure_overhead


class ReadsBack(Exception):
    """Something would have waited for the device, or copied from the host."""


class NoHostTraffic(TorchDispatchMode):
    """Refuses what reads a value back, has a shape that depends on values, or makes a tensor from host numbers."""

    refused = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "item")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in func.name() for name in self.refused):
            raise ReadsBack(func.name())
        return func(*args, **(kwargs or {}))


class FakeCapture:
    """Stands in for a graph under capture: like one, it records the body whatever the predicate says."""

    def __init__(self):
        self.predicates, self.open = [], False

    def begin_capture_to_if_node(self, predicate):
        assert predicate.shape == ()
        self.predicates.append(predicate.clone())
        self.open = True

    def end_capture_to_conditional_node(self):
        assert self.open
        self.open = False


@pytest.fixture
def capture(monkeypatch):
    fake = FakeCapture()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(torch.cuda.CUDAGraph, "get_currently_capturing_graph", lambda: fake, raising=False)
    return fake


@pytest.mark.parametrize("cut", ["frame", "view", (3, 2)])
@pytest.mark.parametrize("change", [0.0, 0.02, 0.5])
def test_the_captured_path_gives_what_masked_gives(toy, capture, cut, change):
    plan = replace(toy.plan, layout=replace(toy.layout, cut=cut))
    inputs, policy = toy.walk(6, 1, (2, *toy.shape), change=change), Policy(front=1, shadow_every=4)
    masked = XCache(plan, policy, executor="masked")
    states = [masked.new_state(2), masked.new_state(2)]
    expected = toy.rollout(masked, states[0], toy.blocks, inputs, slots=[0, 1])
    got = toy.rollout(XCache(plan, policy, executor="graph"), states[1], toy.blocks, inputs, slots=[0, 1])
    assert torch.equal(got, expected)
    a, b = (state.state_dict() for state in states)
    decisive = set(a) - {"seen"}  # the captured gate looks at forced blocks as well
    assert all(torch.equal(a[name].nan_to_num(9), b[name].nan_to_num(9)) for name in decisive)


def test_the_condition_of_a_captured_block_is_that_some_tile_must_be_computed(toy, capture):
    cache = XCache(toy.plan, Policy(front=0), executor="graph")
    state = XCache(toy.plan, Policy(front=0), executor="masked").new_state(2)
    x = torch.randn(2, *toy.shape)
    moved = x.clone()
    moved[1] *= -1
    for n, value in enumerate((x, x, moved)):
        toy.run_pass(cache, state, toy.blocks, value, slots=[0, 1], chunk=n, step=0)
    assert [bool(p) for p in capture.predicates] == [True] * 3 + [False] * 3 + [True] * 3


def test_one_pass_moved_from_chunk_to_chunk_in_place_does_what_new_passes_do(toy, capture):
    plan = replace(toy.plan, layout=replace(toy.layout, action_size=2))
    cache = XCache(plan, Policy(front=0, refresh_every=4), executor="graph")
    reference = XCache(plan, Policy(front=0, refresh_every=4), executor="masked")
    mine, other = reference.new_state(1), reference.new_state(1)
    actions = torch.randn(6, 1, 2)
    at = cache.enter(mine, slots=[0], chunk=0, step=0, action=actions[0])
    for n, x in enumerate(toy.walk(6, 1, (1, *toy.shape))[:, 0]):
        at.update(chunk=n, action=actions[n])
        got = x
        for b, block in enumerate(toy.blocks):
            got = at.run_block(b, block, got)
        expected = toy.run_pass(
            reference, other, toy.blocks, x, slots=[0], chunk=n, step=0, action=actions[n]
        )
        assert torch.equal(got, expected)


def test_a_pass_that_is_never_cached_has_nothing_to_move(toy):
    cache = toy.cache("exact")
    with pytest.raises(ValueError, match="expected a pass that may be cached"):
        cache.enter(cache.new_state(1), slots=[0], chunk=0, step=0).update(chunk=1)


@pytest.mark.parametrize("executor", ["masked", "graph"])
@pytest.mark.parametrize("cut", ["frame", (3, 2)])
def test_masked_and_captured_decisions_read_nothing_back_to_the_host(toy, capture, executor, cut):
    plan = replace(toy.plan, layout=replace(toy.layout, cut=cut))
    buckets = [1, plan.layout.tiles] if plan.layout.tiles > 1 else None
    policy = Policy(front=0, budget=0.5, shadow_every=2)
    cache = XCache(plan, policy, executor=executor, buckets=buckets)
    state = XCache(plan, policy, executor="masked").new_state(2)
    inputs = toy.walk(4, 1, (2, *toy.shape))[:, 0]
    for n in range(2):  # warm-up: constants are made
        toy.run_pass(cache, state, toy.blocks, inputs[n], slots=[0, 1], chunk=n, step=0)
    passes = [cache.enter(state, slots=[0, 1], chunk=n, step=0) for n in (2, 3)]
    for at, x in zip(passes, inputs[2:], strict=True):
        with NoHostTraffic():
            for b, block in enumerate(toy.blocks):
                x = at.run_block(b, block, x)


def test_the_guard_against_host_traffic_notices_the_eager_executor(toy):
    cache = toy.cache(Policy(front=0, warm_up=0))
    at = cache.enter(cache.new_state(1), slots=[0], chunk=0, step=0)
    with pytest.raises(ReadsBack), NoHostTraffic():
        at.run_block(0, toy.blocks[0], torch.randn(1, *toy.shape))


def test_a_device_without_conditional_nodes_is_named():
    assert why_no_graph(torch.device("cpu")) == "it needs a CUDA device, got cpu"


def test_overhead_is_measured_next_to_the_block_itself():
    got = measure_overhead(views=2, grid=(1, 4, 4), channels=64, blocks=2, dtype=torch.float32, repeats=2)
    assert 0 < got.gate_ms < got.skipped_ms
    assert got.computed_ms > got.block_ms / 2
    assert got.gate_share == got.gate_ms / got.block_ms
