import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xcache_core import FlowBank, Layout, Method, Plan, Policy, Reuse, XCache, report, telemetry
from xcache_core.gate import Always
from xcache_core.reuse import coefficient, extrapolate, fit, warp

GRID = (1, 4, 6)


def f64(*x):
    return torch.tensor(x, dtype=torch.float64)


@given(st.floats(-1, 1), st.integers(0, 99))
def test_extrapolation_goes_on_along_the_last_change(a, seed):
    r, previous = torch.randn(2, 1, 2, 1, 3, 4, generator=torch.Generator().manual_seed(seed))
    got = extrapolate(r, previous, f64(a, 0.0)[None])
    torch.testing.assert_close(got[:, 0], r[:, 0] + a * (r - previous)[:, 0])
    assert torch.equal(got[:, 1], r[:, 1])


def test_a_coefficient_of_zero_ignores_what_was_before():
    r = torch.randn(1, 1, 1, 2, 3)
    assert torch.equal(extrapolate(r, torch.full_like(r, math.nan), f64(0.0)[None]), r)


@given(st.integers(0, 20), st.integers(1, 5), st.integers(0, 8))
def test_the_taylor_coefficient_is_the_ratio_of_distances_up_to_the_limit(start, gap, ahead):
    now, last, previous = f64(start + gap + ahead), f64(start + gap), f64(start)
    a = coefficient(Reuse("taylor", limit=2.0), f64(math.nan), now, last, previous, f64(math.inf))
    assert a.item() == min(2.0, ahead / gap)


@pytest.mark.parametrize("order", ["fixed", "fitted", "taylor"])
def test_without_a_usable_previous_residual_the_last_one_is_held(order):
    reuse = Reuse(order, a=0.5)
    none, last, now = f64(math.nan), f64(4.0), f64(5.0)
    assert coefficient(reuse, f64(0.5), now, last, none, f64(math.inf)).item() == 0
    assert coefficient(reuse, f64(0.5), now, last, f64(1.0), f64(3.0)).item() == 0


@given(st.floats(-0.5, 1.5), st.integers(0, 99))
def test_a_fit_finds_the_coefficient_within_its_limits(a, seed):
    last, previous = torch.randn(2, 3, 1, 5, 4, generator=torch.Generator().manual_seed(seed))
    got = fit(last + a * (last - previous), last, previous, 1.0)
    assert got.tolist() == pytest.approx([min(1.0, max(0.0, a))] * 3, abs=1e-4)


def test_nothing_to_fit_gives_no_coefficient():
    same = torch.ones(1, 1, 2, 2)
    assert math.isnan(fit(same, same, same, 1.0).item())


@given(st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([1, 2]))
def test_a_whole_step_of_flow_moves_tokens_and_marks_those_without_a_source(dx, dy, frames):
    field = torch.randn(1, 2, frames * 24, 3)
    flow = torch.tensor([dx, dy], dtype=torch.float32).expand(1, 2, frames * 24, 2)
    moved, inside = warp(field, flow, (frames, 4, 6))
    images, got, known = (x.view(2, frames, 4, 6, -1) for x in (field, moved, inside.float()))
    for row in range(4):
        for column in range(6):
            has_source = 0 <= row + dy < 4 and 0 <= column + dx < 6
            assert (known[:, :, row, column] == has_source).all()
            if has_source:
                torch.testing.assert_close(
                    got[:, :, row, column], images[:, :, row + dy, column + dx], atol=1e-5, rtol=0
                )


def test_half_a_step_mixes_two_tokens():
    field = torch.arange(6.0).view(1, 1, 6, 1)
    moved, _ = warp(field, torch.tensor([0.5, 0.0]).expand(1, 1, 6, 2), (1, 1, 6))
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 5.0]))


def test_warping_keeps_the_dtype():
    assert (
        warp(torch.zeros(1, 1, 6, 2, dtype=torch.bfloat16), torch.zeros(1, 1, 6, 2), (1, 1, 6))[0].dtype
        == torch.bfloat16
    )


def bank(ages=2, valid=True):
    """One column to the right per chunk of age."""
    flow = torch.zeros(ages, 1, 1, 24, 2)
    flow[..., 0] = -torch.arange(1.0, ages + 1).view(-1, 1, 1, 1)
    return FlowBank(flow, torch.full((ages, 1, 1, 24), valid), GRID)


def test_a_bank_takes_the_flow_of_the_age_of_each_token():
    field = torch.arange(24.0).view(1, 1, 24, 1)
    age = torch.tensor([0.0, 1.0, 2.0, 3.0]).repeat_interleave(6).view(1, 1, 24)
    moved, valid = bank()(field, age)
    rows = moved.view(4, 6)
    assert rows[0].tolist() == pytest.approx([0, 1, 2, 3, 4, 5], abs=1e-5)
    assert rows[1, 1:].tolist() == pytest.approx([6, 7, 8, 9, 10])
    assert rows[2, 2:].tolist() == pytest.approx([12, 13, 14, 15])
    assert valid.view(4, 6).sum(1).tolist() == [6, 5, 4, 0]


def moving_cache(**reuse):
    plan = Plan(1, 1, Layout(1, 24, 4, GRID, samples=24))
    return XCache(plan, Policy(front=0, warm_up=1), method=Method(Always(), Reuse(transport=True, **reuse)))


def texture(column):
    """A residual that depends on where in the world a token looks, seen from a camera that moved."""
    world = torch.arange(-10.0, 20.0)
    return (world[10 - column : 16 - column] ** 2).expand(4, 6).reshape(1, 1, 24, 1).expand(1, 1, 24, 4)


@pytest.mark.parametrize(("fill", "edge"), [("hold", 0.0), ("zero", 0.0)])
def test_a_residual_that_moves_with_the_scene_fits_where_a_held_one_does_not(toy, fill, edge):
    cache = moving_cache(fill=fill)
    state, x = cache.new_state(1), torch.zeros(1, 1, 24, 4)
    for n in range(2):
        block = [lambda x, request, n=n: x + texture(n)]
        got = toy.run_pass(cache, state, block, x, slots=[0], chunk=n, step=0, transport=bank())
    assert telemetry(state, 0)["reason"] == [["skipped"]]
    got, true, old = (y.reshape(4, 6, 4) for y in (got, texture(1), texture(0)))
    torch.testing.assert_close(got[:, 1:], true[:, 1:], atol=1e-3, rtol=0)
    torch.testing.assert_close(
        got[:, 0], old[:, 0] if fill == "hold" else torch.zeros(4, 4), atol=1e-3, rtol=0
    )


def test_too_much_without_a_source_is_computed(toy):
    cache = moving_cache(max_invalid=0.1)
    state, x = cache.new_state(1), torch.zeros(1, 1, 24, 4)
    for n in range(2):
        block = [lambda x, request, n=n: x + texture(n)]
        got = toy.run_pass(cache, state, block, x, slots=[0], chunk=n, step=0, transport=bank())
    assert report(cache, state).reasons["occluded"] == 1
    assert torch.equal(got, texture(1))


def test_an_input_that_moved_with_the_scene_counts_as_unchanged(toy):
    plan = Plan(1, 1, Layout(1, 24, 4, GRID, samples=24))
    reasons = {}
    for transport in (False, True):
        method = Method(reuse=Reuse(transport=transport))
        cache = XCache(plan, Policy(front=0, floor=0.99), method=method)
        state, generator = cache.new_state(1), torch.Generator().manual_seed(0)
        world = torch.randn(1, 1, 4, 8, 4, generator=generator)
        for n in range(2):
            x = world[..., 2 - n : 8 - n, :].reshape(1, 1, 24, 4)
            identity = {"transport": bank()} if transport else {}
            toy.run_pass(cache, state, [lambda x, request: 2 * x], x, slots=[0], chunk=n, step=0, **identity)
        reasons[transport] = telemetry(state, 0)["cosine"][0][0]
    assert reasons[False] < 0.5 < 0.7 < reasons[True]
