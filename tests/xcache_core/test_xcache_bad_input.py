"""What is refused, with which words, and that nothing has changed then."""

from dataclasses import replace

import pytest
import torch

from xcache_core import Layout, Method, Plan, Policy, Reuse, XCache
from xcache_core.gate import Always


def same(before, after):
    return all(torch.equal(before[name].nan_to_num(9), after[name].nan_to_num(9)) for name in before)


@pytest.fixture
def running(toy):
    """A cache, its state after two chunks, and an input."""
    cache = toy.cache()
    state = cache.new_state(2)
    x = torch.randn(1, *toy.shape)
    for n in range(2):
        toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=n, step=0)
    return cache, state, x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x[:, :2],
            r"expected block input \[1, 3, 12, 8\] torch.float32 on cpu, got \[1, 2, 12, 8\]",
        ),
        (lambda x: x[..., :4], "got .1, 3, 12, 4"),
        (lambda x: torch.cat([x, x]), "got .2, 3, 12, 8"),
        (lambda x: x.double(), "got .1, 3, 12, 8. torch.float64"),
        (lambda x: x.bfloat16(), "torch.bfloat16"),
    ],
)
def test_another_shape_or_dtype_in_a_session_is_refused(toy, running, change, message):
    cache, state, x = running
    before = state.state_dict()
    with pytest.raises(ValueError, match=message):
        cache.enter(state, slots=[0], chunk=2, step=0).run_block(0, toy.blocks[0], change(x))
    assert same(before, state.state_dict())


@pytest.mark.parametrize(
    ("identity", "error", "message"),
    [
        ({"slots": [2]}, IndexError, r"expected slots in 0\.\.1, got 2"),
        ({"slots": [-1]}, IndexError, "got -1"),
        ({"slots": [0, 0]}, ValueError, "expected each slot once"),
        ({"slots": []}, ValueError, "expected at least one slot"),
        ({"step": 2}, IndexError, r"expected step in 0\.\.1 or None, got 2"),
        ({"chunk": [1, 2]}, ValueError, "expected one chunk, or one for each of 1 rows, got 2"),
        ({"action": torch.zeros(1, 3)}, ValueError, r"expected an action of \[1, 0\] numbers, got \[1, 3\]"),
    ],
)
def test_an_impossible_identity_is_refused(running, identity, error, message):
    cache, state, _ = running
    before = state.state_dict()
    with pytest.raises(error, match=message):
        cache.enter(state, **{"slots": [0], "chunk": 2, "step": 0, **identity})
    assert same(before, state.state_dict())


def test_a_missing_action_is_refused(toy):
    cache = XCache(replace(toy.plan, layout=replace(toy.layout, action_size=2)))
    with pytest.raises(ValueError, match=r"expected an action of \[1, 2\] numbers, got \[1, 0\]"):
        cache.enter(cache.new_state(1), slots=[0], chunk=0, step=0)


@pytest.mark.parametrize("b", [-1, 3])
def test_a_block_that_does_not_exist_is_refused(toy, running, b):
    cache, state, x = running
    with pytest.raises(IndexError, match=r"expected block in 0\.\.2"):
        cache.enter(state, slots=[0], chunk=2, step=0).run_block(b, toy.blocks[0], x)


def test_a_block_that_runs_twice_in_a_pass_is_refused(toy, running):
    cache, state, x = running
    at = cache.enter(state, slots=[0], chunk=2, step=0)
    at.run_block(0, toy.blocks[0], x)
    with pytest.raises(ValueError, match="expected each block once in a pass, got block 0 again"):
        at.run_block(0, toy.blocks[0], x)


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        (lambda x, request: x[..., :4], ValueError, r"expected a block that keeps \[1, 3, 12, 8\] float32"),
        (lambda x, request: x.double(), ValueError, "float64"),
        (lambda x, request: (x, x), TypeError, "returns one tensor, got tuple"),
    ],
)
def test_a_block_that_does_not_keep_its_input_is_refused(toy, running, block, error, message):
    cache, state, x = running
    before = state.state_dict()
    with pytest.raises(error, match=message):
        cache.enter(state, slots=[0], chunk=2, step=1).run_block(1, block, x)
    assert same(before, state.state_dict())


def test_a_block_that_fails_leaves_the_state_as_it_was(toy, running):
    cache, state, x = running

    def broken(x, request):
        raise RuntimeError("out of memory")

    before = state.state_dict()
    with pytest.raises(RuntimeError, match="out of memory"):
        cache.enter(state, slots=[0], chunk=2, step=1).run_block(1, broken, x)
    assert same(before, state.state_dict())


def test_a_state_of_another_plan_is_refused(toy, running):
    _, state, _ = running
    other = XCache(replace(toy.plan, blocks=4))
    with pytest.raises(ValueError, match="expected a state of"):
        other.enter(state, slots=[0], chunk=0, step=0)


def test_strict_refuses_a_tier_that_never_skips(toy):
    with pytest.raises(ValueError, match="all 3 blocks are anchors"):
        toy.cache(Policy(front=3), strict=True)
    cache = toy.cache(strict=True)
    state = cache.new_state(1)
    with pytest.raises(ValueError, match="the tier is off"):
        cache.set_policy(state, 0, "exact")
    assert state.slots[0].policy == cache.policy


@pytest.mark.parametrize("buckets", [[], [3, 1], [1, 2], [1, 1, 3]])
def test_buckets_must_end_with_all_tiles(toy, buckets):
    plan = replace(toy.plan, layout=replace(toy.layout, cut="view"))
    with pytest.raises(ValueError, match="expected ascending buckets that end with 3 tiles"):
        toy.cache(plan=plan, buckets=buckets)


def test_unknown_names_are_answered_with_the_known_ones(toy):
    with pytest.raises(ValueError, match="expected executor masked, eager, graph, got 'lazy'"):
        toy.cache(executor="lazy")
    with pytest.raises(ValueError, match="expected order 'hold', 'fixed', 'fitted' or 'taylor'"):
        Reuse("cubic")
    with pytest.raises(ValueError, match="expected axis 'chunk' or 'step'"):
        Method(axis="time")
    with pytest.raises(ValueError, match="expected a gate that measures for a probe, got Always"):
        Method(Always(), probe="input")


def test_the_graph_executor_says_why_it_cannot_run(toy):
    cache = toy.cache(executor="graph")
    with pytest.raises(RuntimeError, match="it needs a CUDA device, got cpu"):
        cache.new_state(1, device="cpu")


def test_a_method_that_moves_residuals_needs_to_know_how(toy):
    cache = toy.cache(method=Method(reuse=Reuse(transport=True)))
    with pytest.raises(ValueError, match="expected a transport"):
        cache.enter(cache.new_state(1), slots=[0], chunk=0, step=0)
    with pytest.raises(ValueError, match="expected axis 'chunk' for transported residuals"):
        Method(reuse=Reuse(transport=True), axis="step")


def test_a_state_needs_slots():
    with pytest.raises(ValueError, match="expected slots >= 1"):
        XCache(Plan(1, 2, Layout(1, 4, 4))).new_state(0)
