from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xcache_core import BASELINES, KVCycle, Plan, baseline, report
from xcache_core.baselines import calibrator, drift_table, fixed_table

STEP_AXIS = ["first_block", "embedding", "block_l1", "taylor_step"]


def plan_of(toy, steps=4):
    return Plan(steps, 3, toy.layout)


def denoising(chunks, steps, toy, *, change, seed=0):
    """Inputs that change little from step to step and are new in every chunk."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(chunks, 1, 1, *toy.shape, generator=generator)
    return start + change * torch.randn(chunks, steps, 1, *toy.shape, generator=generator).cumsum(1)


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=4)
@given(st.integers(0, 99))
def test_every_baseline_gives_the_same_in_both_executors(toy, name, seed):
    inputs = denoising(5, 4, toy, change=0.03, seed=seed)
    outs = []
    for executor in ("masked", "eager"):
        cache = baseline(name, plan_of(toy), executor=executor)
        state = cache.new_state(1)
        outs.append(toy.rollout(cache, state, toy.blocks, inputs, slots=[0], role=KVCycle(4).role))
    assert torch.equal(*outs)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "never"])
def test_every_baseline_skips_when_nothing_changes(toy, name):
    cache = baseline(name, plan_of(toy))
    state, inputs = cache.new_state(1), torch.randn(1, 1, 1, *toy.shape).expand(5, 4, 1, *toy.shape)
    toy.rollout(cache, state, toy.blocks, inputs, slots=[0])
    assert report(cache, state).skipped > 0.3
    assert report(cache, state).never is None


def test_never_computes_everything(toy):
    cache = baseline("never", plan_of(toy))
    state, inputs = cache.new_state(1), denoising(3, 4, toy, change=0.0)
    assert torch.equal(
        toy.rollout(cache, state, toy.blocks, inputs, slots=[0]), toy.exact(toy.blocks, inputs)
    )
    assert report(cache, state).never == "the tier is off"


def test_always_reuses_whatever_changes_but_not_at_kv_updates(toy):
    cache = baseline("always", plan_of(toy))
    state, inputs = cache.new_state(1), torch.randn(8, 4, 1, *toy.shape)
    toy.rollout(cache, state, toy.blocks, inputs, slots=[0], role=KVCycle(4).role)
    assert report(cache, state).skipped == 0.75 * 2 / 3


@pytest.mark.parametrize("name", STEP_AXIS)
def test_methods_along_the_steps_compute_step_zero_and_forget_the_chunk_before(toy, name):
    cache = baseline(name, plan_of(toy))
    state, inputs = cache.new_state(1), torch.randn(1, 1, 1, *toy.shape).expand(3, 4, 1, *toy.shape)
    toy.rollout(cache, state, toy.blocks, inputs, slots=[0])
    assert report(cache, state).skip_matrix[0] == [0.0] * 3


def test_a_stored_step_of_an_earlier_chunk_is_never_reused(toy):
    cache = baseline("block_l1", plan_of(toy))
    state, x = cache.new_state(1), torch.randn(1, *toy.shape)
    toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=0, step=0)
    toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=1, step=1)
    assert report(cache, state).reasons["stale"] == 3


def test_first_block_cache_decides_for_the_whole_stack(toy):
    cache = baseline("first_block", plan_of(toy))
    for change, decided in ((0.0, 1.0), (3.0, 0.0)):
        state = cache.new_state(1)
        toy.rollout(cache, state, toy.blocks, denoising(4, 4, toy, change=change), slots=[0])
        matrix = report(cache, state).skip_matrix
        assert [row[0] for row in matrix] == [0.0] * 4
        assert all(row[1:] == [decided, decided] for row in matrix[1:])


def test_first_block_cache_compares_with_the_last_computed_step(toy):
    cache = baseline("first_block", plan_of(toy, steps=8))
    state = cache.new_state(1)
    drift = torch.randn(toy.shape)
    inputs = torch.stack(
        [
            torch.randn(toy.shape, generator=torch.Generator().manual_seed(1)) + 0.03 * t * drift
            for t in range(8)
        ]
    )
    toy.rollout(cache, state, toy.blocks, inputs[None, :, None], slots=[0])
    skips = [row[1] for row in report(cache, state).skip_matrix]
    assert 0.0 < sum(skips) < 7.0
    assert skips.index(0.0, 1) > 1


def test_the_embedding_gate_adds_up_small_changes(toy):
    cache = baseline("embedding", plan_of(toy, steps=12))
    state = cache.new_state(1)
    toy.rollout(cache, state, toy.blocks, denoising(1, 12, toy, change=0.05), slots=[0])
    skips = [row[0] for row in report(cache, state).skip_matrix]
    assert [row[1:] for row in report(cache, state).skip_matrix] == [[skip, skip] for skip in skips]
    assert skips[1] == 1.0
    assert 0.0 in skips[2:]
    assert report(cache, state).reasons["stale"] > 0


def test_taylor_along_the_steps_computes_every_second_one_and_follows_a_line(toy):
    plan = replace(plan_of(toy), blocks=1)
    cache = baseline("taylor_step", plan)
    state, base, slope = cache.new_state(1), torch.randn(1, *toy.shape), torch.randn(1, *toy.shape)
    for t in range(4):
        residual = base + t * slope
        got = toy.run_pass(
            cache,
            state,
            [lambda x, request, r=residual: x + r],
            torch.zeros(1, *toy.shape),
            slots=[0],
            chunk=0,
            step=t,
        )
        torch.testing.assert_close(got, base + {0: 0, 1: 0, 2: 2, 3: 3}[t] * slope, atol=1e-5, rtol=1e-4)


def test_a_fixed_table_spends_its_budget(toy):
    plan = plan_of(toy)
    cache = fixed_table(plan, [[0.0] * 3, [0.03, 0.03, 0.1], [0.02, 0.04, 0.0], [0.0, 0.0, 0.0]], budget=0.06)
    state = cache.new_state(1)
    toy.rollout(cache, state, toy.blocks, torch.randn(1, 4, 1, *toy.shape), slots=[0])
    assert report(cache, state).skip_matrix == [[0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]]


def test_a_table_is_calibrated_from_what_reuse_would_have_cost(toy):
    plan = plan_of(toy)
    cache = calibrator(plan)
    state, inputs = cache.new_state(1), denoising(3, 4, toy, change=0.1)
    out = toy.rollout(cache, state, toy.blocks, inputs, slots=[0])
    assert torch.equal(out, toy.exact(toy.blocks, inputs))
    table = drift_table(state)
    assert table[0] == [0.0] * 3
    residuals = toy.exact(toy.blocks[:1], inputs) - inputs
    expected = [
        (
            ((residuals[:, t] - residuals[:, t - 1]).abs().mean((1, 2, 3, 4)))
            / residuals[:, t].abs().mean((1, 2, 3, 4))
        ).mean()
        for t in (1, 2, 3)
    ]
    assert [row[0] for row in table[1:]] == pytest.approx([float(e) for e in expected], rel=1e-4)
    fixed_table(plan, table)


@pytest.mark.parametrize("table", [[[0.0] * 3] * 3, [[0.0] * 2] * 4, [[-1.0] * 3] * 4])
def test_a_table_of_another_shape_is_refused(toy, table):
    with pytest.raises(ValueError, match="expected a table of 4 steps x 3 blocks"):
        fixed_table(plan_of(toy), table)


def test_an_unknown_baseline_is_answered_with_the_names_there_are(toy):
    with pytest.raises(ValueError, match="expected a baseline named never, always, xcache"):
        baseline("best", toy.plan)
