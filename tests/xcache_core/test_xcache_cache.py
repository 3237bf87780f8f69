"""The whole path through the cache, rule by rule."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xcache_core import KVCycle, Method, Policy, Reason, Reuse, Role, report, telemetry
from xcache_core.gate import Always
from xcache_core.store import Meta

cuts = st.sampled_from(["frame", "view", (1, 2), (3, 2)])
executors = st.sampled_from(["masked", "eager"])


def with_cut(toy, cut):
    return replace(toy.plan, layout=replace(toy.layout, cut=cut))


@settings(max_examples=15)
@given(st.integers(0, 999), cuts, executors, st.sampled_from([0.0, 0.02, 0.5]))
def test_thresholds_that_always_veto_equal_full_compute_bit_for_bit(toy, seed, cut, executor, change):
    cache = toy.cache(toy.veto, with_cut(toy, cut), executor=executor)
    inputs = toy.walk(5, 2, (2, *toy.shape), change=change, seed=seed)
    got = toy.rollout(cache, cache.new_state(2), toy.blocks, inputs, slots=[0, 1])
    assert torch.equal(got, toy.exact(toy.blocks, inputs))


@settings(max_examples=20)
@given(
    st.integers(0, 999),
    cuts,
    st.floats(0.005, 0.4),
    st.sampled_from([None, "bucket"]),
    st.permutations(range(3)),
)
def test_masked_and_eager_give_the_same_pictures_and_the_same_state(toy, seed, cut, change, buckets, slots):
    plan = with_cut(toy, cut)
    tiles = plan.layout.tiles
    sizes = None if buckets is None else sorted({max(1, tiles // 2), tiles})
    inputs = toy.walk(6, 2, (2, *toy.shape), change=change, seed=seed)
    results = []
    for executor in ("masked", "eager"):
        cache = toy.cache(Policy(shadow_every=5), plan, executor=executor, buckets=sizes)
        state = cache.new_state(3)
        out = toy.rollout(cache, state, toy.blocks, inputs, slots=slots[:2], role=KVCycle(4).role)
        results.append((out, state.state_dict()))
    (a, state_a), (b, state_b) = results
    assert torch.equal(a, b)
    for name in state_a:
        torch.testing.assert_close(
            state_a[name], state_b[name], equal_nan=True, rtol=1e-6, atol=1e-7, msg=name
        )


@settings(max_examples=10)
@given(st.integers(0, 999), executors, st.floats(0.005, 0.4))
def test_a_session_does_not_depend_on_who_else_is_in_the_batch(toy, seed, executor, change):
    inputs = toy.walk(6, 2, (3, *toy.shape), change=change, seed=seed)
    cache = toy.cache(executor=executor)
    together = toy.rollout(cache, cache.new_state(5), toy.blocks, inputs, slots=[4, 0, 2])
    for row, slot in ((0, 1), (2, 3)):
        alone = toy.rollout(cache, cache.new_state(5), toy.blocks, inputs[:, :, row : row + 1], slots=[slot])
        assert torch.equal(alone[:, :, 0], together[:, :, row])


def test_rows_of_one_batch_may_differ_in_chunk_role_and_tier(toy):
    cache = toy.cache(toy.loose)
    state = cache.new_state(3)
    cache.set_policy(state, 2, "exact")
    x = torch.randn(3, *toy.shape)
    for chunk in ([0, 10, 5], [1, 11, 6]):
        roles = [Role.DENOISE, Role.KV_UPDATE, Role.DENOISE]
        toy.run_pass(cache, state, toy.blocks, x, slots=[0, 1, 2], chunk=chunk, step=0, role=roles)
    assert [telemetry(state, slot)["reason"][0][1] for slot in range(3)] == ["skipped", "kv_update", "off"]


def test_an_unchanged_input_is_skipped_and_gives_the_same_output(toy):
    cache = toy.cache(toy.loose)
    state, counted = cache.new_state(1), [toy.Counted(block) for block in toy.blocks]
    x = torch.randn(1, *toy.shape)
    first, second = (toy.run_pass(cache, state, counted, x, slots=[0], chunk=n, step=0) for n in range(2))
    assert [block.calls for block in counted] == [1, 1, 1]
    torch.testing.assert_close(first, second)


def test_a_skip_adds_the_stored_residual_to_the_new_input(toy):
    cache = toy.cache(toy.loose, replace(toy.plan, blocks=1))
    state = cache.new_state(1)
    a, b = torch.randn(2, 1, *toy.shape)
    block = toy.blocks[:1]
    toy.run_pass(cache, state, block, a, slots=[0], chunk=0, step=0)
    got = toy.run_pass(cache, state, block, b, slots=[0], chunk=1, step=0)
    torch.testing.assert_close(got, b + (toy.exact(block, a) - a))


def test_only_the_rows_that_changed_are_computed(toy):
    cache = toy.cache(Policy(front=0))
    state, counted = cache.new_state(3), [toy.Counted(block) for block in toy.blocks]
    x = torch.randn(3, *toy.shape)
    toy.run_pass(cache, state, counted, x, slots=[0, 1, 2], chunk=0, step=0)
    moved = x.clone()
    moved[1] = torch.randn(toy.shape)
    got = toy.run_pass(cache, state, counted, moved, slots=[0, 1, 2], chunk=1, step=0)
    assert [block.rows for block in counted] == [4, 4, 4]
    torch.testing.assert_close(got, toy.exact(toy.blocks, moved))


def test_only_the_view_that_changed_is_computed_and_the_block_sees_the_rest(toy):
    plan = with_cut(toy, "view")
    cache = toy.cache(Policy(front=0), plan)
    state, asked = cache.new_state(1), []

    def block(x, request):
        asked.append(request)
        return toy.blocks[0](x, request)

    x = torch.randn(1, *toy.shape)
    toy.run_pass(cache, state, [block] * 3, x, slots=[0], chunk=0, step=0)
    moved = x.clone()
    moved[0, 2] = torch.randn(toy.shape[1:])
    del asked[:]
    toy.run_pass(cache, state, [block] * 3, moved, slots=[0], chunk=1, step=0)
    assert [(r.batch.tolist(), r.view.tolist(), r.tokens, r.everything) for r in asked] == [
        ([0], [2], None, False)
    ] * 3
    assert torch.equal(asked[0].x, moved)


def test_a_region_request_names_its_view_and_tokens(toy):
    plan = replace(with_cut(toy, (1, 2)), blocks=1)
    cache = toy.cache(Policy(front=0), plan)
    state, asked = cache.new_state(2), []

    def block(x, request):
        asked.append((x, request))
        return toy.blocks[0](x, request)

    x = torch.randn(2, *toy.shape)
    toy.run_pass(cache, state, [block], x, slots=[0, 1], chunk=0, step=0)
    moved = x.clone()
    moved[1, 2, [2, 3, 6, 7, 10, 11]] *= -1
    toy.run_pass(cache, state, [block], moved, slots=[0, 1], chunk=1, step=0)
    part, request = asked[-1]
    assert (request.batch.tolist(), request.view.tolist(), request.slots.tolist()) == ([1], [2], [1])
    assert request.tokens.tolist() == [[2, 3, 6, 7, 10, 11]]
    assert torch.equal(part[0, 0], moved[1, 2, request.tokens[0]])


@pytest.mark.parametrize("executor", ["masked", "eager"])
def test_the_first_chunk_after_a_reset_never_sees_an_old_residual(toy, executor):
    policy = replace(toy.loose, warm_up=0)
    cache = toy.cache(policy, executor=executor)
    state = cache.new_state(2)
    a, b = torch.randn(2, 2, *toy.shape)
    toy.run_pass(cache, state, toy.blocks, a, slots=[0, 1], chunk=0, step=0)
    state.reset(1)
    got = toy.run_pass(cache, state, toy.blocks, b, slots=[0, 1], chunk=1, step=0)
    assert torch.equal(got[1], toy.exact(toy.blocks, b)[1])
    assert not torch.equal(got[0], toy.exact(toy.blocks, b)[0])
    assert telemetry(state, 1)["reason"][0] == ["invalid"] * 3


def test_a_kv_update_is_computed_and_refreshes_the_store(toy):
    cache = toy.cache(toy.loose, replace(toy.plan, blocks=1))
    state, block = cache.new_state(1), toy.blocks[:1]
    a, b, c = torch.randn(3, 1, *toy.shape)
    toy.run_pass(cache, state, block, a, slots=[0], chunk=0, step=0)
    exact = toy.run_pass(cache, state, block, b, slots=[0], chunk=1, step=0, role=Role.KV_UPDATE)
    assert torch.equal(exact, toy.exact(block, b))
    got = toy.run_pass(cache, state, block, c, slots=[0], chunk=2, step=0)
    torch.testing.assert_close(got, c + (exact - b))


def test_without_protection_a_kv_update_may_be_skipped(toy):
    cache = toy.cache(replace(toy.loose, kv_steps=0), replace(toy.plan, blocks=1))
    state, counted = cache.new_state(1), toy.Counted(toy.blocks[0])
    for n in range(2):
        toy.run_pass(
            cache,
            state,
            [counted],
            torch.randn(1, *toy.shape),
            slots=[0],
            chunk=n,
            step=0,
            role=Role.KV_UPDATE,
        )
    assert counted.calls == 1


def test_a_pass_without_a_step_is_computed_and_leaves_the_state_alone(toy):
    cache = toy.cache(toy.loose)
    state = cache.new_state(1)
    before = state.state_dict()
    x = torch.randn(1, *toy.shape)
    got = toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=0, step=None)
    assert torch.equal(got, toy.exact(toy.blocks, x))
    after = state.state_dict()
    assert all(
        torch.equal(
            before[name],
            after[name],
        )
        or name in ("host", "meta", "seen")
        for name in before
    )
    assert torch.equal(before["meta"].nan_to_num(7), after["meta"].nan_to_num(7))


@given(st.integers(1, 5))
@settings(max_examples=5)
def test_no_more_than_max_skips_in_a_row(toy, limit):
    cache = toy.cache(replace(toy.loose, max_skips=limit), replace(toy.plan, blocks=1))
    state, counted, calls = cache.new_state(1), toy.Counted(toy.blocks[0]), []
    for n in range(3 * (limit + 1)):
        toy.run_pass(cache, state, [counted], torch.randn(1, *toy.shape), slots=[0], chunk=n, step=0)
        calls.append(counted.calls)
    computed = [n for n, (now, before) in enumerate(zip(calls, [0, *calls], strict=False)) if now > before]
    assert computed == [n for n in range(3 * (limit + 1)) if n % (limit + 1) == 0]
    assert report(cache, state).reasons["stale"] == 2


def test_drift_adds_up_until_the_budget_is_spent(toy):
    plan = replace(toy.plan, blocks=1)
    cache = toy.cache(Policy(front=0, floor=-1, margin=9, max_deviation=1e9, budget=0.05), plan)
    state = cache.new_state(1)
    base = torch.randn(1, *toy.shape)
    turned = base + 0.1 * torch.randn(1, *toy.shape)
    drifts = []
    for n in range(6):
        toy.run_pass(cache, state, toy.blocks[:1], base if n == 0 else turned, slots=[0], chunk=n, step=0)
        drifts.append(state.planes["meta"][0, 0, 0, 0, Meta.DRIFT].item())
    each = drifts[1]
    assert 0 < each < 0.05
    fits = math.floor(0.05 / each)
    assert drifts[1 : fits + 1] == pytest.approx(
        [each * k for k in range(1, fits + 1)][: len(drifts) - 1], rel=1e-4
    )
    assert report(cache, state).reasons["stale"] >= 1


def test_an_older_chunk_than_the_stored_one_is_computed(toy):
    cache = toy.cache(replace(toy.loose, warm_up=0))
    state, x = cache.new_state(1), torch.randn(1, *toy.shape)
    for chunk, role in ((5, Role.DENOISE), (7, Role.KV_UPDATE), (6, Role.DENOISE)):
        toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=chunk, step=0, role=role)
    assert telemetry(state, 0)["reason"][0] == ["stale"] * 3


@pytest.mark.parametrize("executor", ["masked", "eager"])
@pytest.mark.parametrize("cut", ["frame", "view"])
def test_an_input_that_is_not_finite_is_computed_and_never_cached(toy, executor, cut):
    cache = toy.cache(replace(toy.loose, warm_up=0), with_cut(toy, cut), executor=executor)
    state = cache.new_state(2)
    x = torch.randn(2, *toy.shape)
    bad = x.clone()
    bad[0, 1, 7, 3] = math.nan
    for n, value in enumerate((x, bad, x, x)):
        out = toy.run_pass(cache, state, toy.blocks, value, slots=[0, 1], chunk=n, step=0)
        reasons = torch.tensor([Reason[r.upper()] for r in _flat(telemetry(state, 0)["reason"][0])])
        if n == 1:
            assert (reasons == Reason.INVALID).sum() == 3
            assert torch.isfinite(out[1]).all()
        if n == 2:
            assert (reasons == Reason.INVALID).sum() == 3
            assert torch.isfinite(out).all()
        if n == 3:
            assert (reasons == Reason.SKIPPED).all()
    assert _flat(telemetry(state, 1)["reason"][0]).count("skipped") == len(reasons)


def _flat(value):
    return [item for part in value for item in _flat(part)] if isinstance(value, list) else [value]


def test_the_threshold_follows_what_was_seen_and_only_where_the_gate_decides(toy):
    plan = replace(toy.plan, blocks=2)
    cache = toy.cache(Policy(front=1, floor=0.0, rate=0.5), plan)
    state = cache.new_state(1)
    inputs = toy.walk(4, 1, (1, *toy.shape), change=0.05)
    seen, ema = [], []
    for n in range(4):
        toy.run_pass(cache, state, toy.blocks[:2], inputs[n, 0], slots=[0], chunk=n, step=0)
        ema.append(state.planes["meta"][0, :, 0, 0, Meta.EMA].tolist())
        seen.append(telemetry(state, 0)["cosine"][0][1])
    assert all(math.isnan(anchor) for anchor, _ in ema)
    assert math.isnan(ema[0][1])
    assert ema[1][1] == pytest.approx(seen[1])
    assert ema[2][1] == pytest.approx(0.5 * seen[2] + 0.5 * seen[1])


def test_the_action_alone_can_refuse(toy):
    plan = replace(toy.plan, layout=replace(toy.layout, action_size=4))
    cache = toy.cache(Policy(front=0), plan)
    state, x = cache.new_state(1), torch.randn(1, *toy.shape)
    steer = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    for n, action in enumerate((steer, steer, -steer, -steer)):
        toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=n, step=0, action=action)
        expected = ["warm_up", "skipped", "cosine", "skipped"][n]
        assert telemetry(state, 0)["reason"][0] == [expected] * 3


def test_changing_the_tier_drops_what_is_stored(toy):
    cache = toy.cache(replace(toy.loose, warm_up=0))
    state, x = cache.new_state(1), torch.randn(1, *toy.shape)
    toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=0, step=0)
    cache.set_policy(state, 0, "fast")
    toy.run_pass(cache, state, toy.blocks, x, slots=[0], chunk=1, step=0)
    assert telemetry(state, 0)["reason"][0] == ["invalid"] * 3


def test_one_block_at_a_time_does_the_same_as_a_pass(toy):
    cache = toy.cache()
    one, two = cache.new_state(1), cache.new_state(1)
    for n, x in enumerate(toy.walk(4, 1, (1, *toy.shape))[:, 0]):
        whole, y = toy.run_pass(cache, one, toy.blocks, x, slots=[0], chunk=n, step=0), x
        for b, block in enumerate(toy.blocks):
            y = cache.run_block(b, block, y, state=two, slots=[0], chunk=n, step=0)
        assert torch.equal(whole, y)
    assert report(cache, one).reasons == report(cache, two).reasons


def test_a_pass_left_halfway_has_its_books_written_before_the_next(toy):
    cache = toy.cache(toy.loose)
    state, x = cache.new_state(1), torch.randn(1, *toy.shape)
    cache.enter(state, slots=[0], chunk=0, step=0).run_block(0, toy.blocks[0], x)
    at = cache.enter(state, slots=[0], chunk=1, step=0)
    at.run_block(0, toy.blocks[0], x)
    at.run_block(1, toy.blocks[1], x)
    assert telemetry(state, 0)["reason"][0] == ["skipped", "invalid", None]


def test_a_first_order_step_uses_the_two_last_residuals(toy):
    plan = replace(toy.plan, blocks=1)
    every_second = replace(toy.loose, max_skips=1)
    residuals = {
        "hold": lambda r: r[1],
        "fixed": lambda r: r[1] + 0.5 * (r[1] - r[0]),
        "taylor": lambda r: r[1] + 0.5 * (r[1] - r[0]),
    }
    for order, expected in residuals.items():
        cache = toy.cache(every_second, plan, method=Method(Always(), Reuse(order, a=0.5)))
        state, inputs = cache.new_state(1), torch.randn(4, 1, *toy.shape)
        for n, x in enumerate(inputs):
            got = toy.run_pass(cache, state, toy.blocks[:1], x, slots=[0], chunk=n, step=0)
        r = [toy.exact(toy.blocks[:1], inputs[n]) - inputs[n] for n in (0, 2)]
        torch.testing.assert_close(got, inputs[3] + expected(r))


def test_a_fitted_coefficient_finds_a_constant_trend(toy):
    plan = replace(toy.plan, blocks=1)
    cache = toy.cache(
        replace(toy.loose, refresh_every=2, stagger=False), plan, method=Method(Always(), Reuse("fitted"))
    )
    state, base, trend = cache.new_state(1), torch.randn(1, *toy.shape), torch.randn(1, *toy.shape)
    for n in range(8):
        residual = base + n * trend
        got = toy.run_pass(
            cache,
            state,
            [lambda x, request, r=residual: x + r],
            torch.zeros(1, *toy.shape),
            slots=[0],
            chunk=n,
            step=0,
        )
    assert telemetry(state, 0)["reason"][0] == ["skipped"]
    assert state.planes["meta"][0, 0, 0, 0, Meta.FIT].item() == pytest.approx(1.0)
    torch.testing.assert_close(got, base + 6 * trend + 2 * trend)
