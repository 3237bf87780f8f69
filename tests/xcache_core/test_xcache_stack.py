"""A whole stack at once does what its blocks do one after another, for less."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xcache_core import BASELINES, KVCycle, Method, Plan, Policy, Reason, XCache, baseline, report, telemetry
from xcache_core.books import Books
from xcache_core.decide import Decider
from xcache_core.gate import Always, Table
from xcache_core.rows import Rows
from xcache_core.store import Meta
from xcache_core.sums import Sums

CYCLE = KVCycle(4)
cuts = st.sampled_from(["frame", "view", (3, 2)])
policies = st.sampled_from(
    [
        Policy(front=0),
        Policy(front=1, back=1, floor=0.9, margin=1.0, max_deviation=9.0),
        Policy(front=0, budget=0.02),
        Policy(front=0, max_skips=1, protect_step0="on"),
        Policy(shadow_every=3, refresh_every=5),
    ]
)


BLIND = Policy(front=0, floor=-1.0, margin=2.0, max_deviation=math.inf, max_skips=2)


def deep(toy, cut="frame", blocks=6):
    return Plan(2, blocks, replace(toy.layout, cut=cut, action_size=2))


def both_ways(toy, cache, slots, inputs, blocks, actions):
    """Outputs and states of a rollout, block by block and stack by stack."""
    results = []
    for whole in (False, True):
        state, out = cache.new_state(4), []
        for n, steps in enumerate(inputs):
            who = {"slots": slots, "chunk": n, "role": CYCLE.role(n), "action": actions[n]}
            if whole:
                out.append(toy.run_chunk(cache, state, blocks, steps, **who))
            else:
                passes = [toy.run_pass(cache, state, blocks, x, step=t, **who) for t, x in enumerate(steps)]
                out.append(torch.stack(passes))
        results.append((torch.stack(out), state))
    return results


def assert_same(naive, fast, tolerance=1e-4):
    (a, state_a), (b, state_b) = naive, fast
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    planes_a, planes_b = state_a.state_dict(), state_b.state_dict()
    assert torch.equal(planes_a["counts"], planes_b["counts"])
    for name in planes_a:
        torch.testing.assert_close(
            planes_a[name], planes_b[name], equal_nan=True, rtol=tolerance, atol=tolerance, msg=name
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), cuts, policies, st.floats(0.001, 0.3), st.permutations(range(4)))
def test_a_stack_decides_computes_and_remembers_what_its_blocks_do_one_by_one(
    toy, seed, cut, policy, change, slots
):
    cache, blocks = XCache(deep(toy, cut), policy), toy.make_blocks(6, 8, seed=seed)
    inputs = toy.walk(7, 2, (2, *toy.shape), change=change, seed=seed)
    actions = 1 + 0.1 * torch.randn(7, 2, 2, generator=torch.Generator().manual_seed(seed))
    assert_same(*both_ways(toy, cache, slots[:2], inputs, blocks, actions))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "never"])
def test_every_baseline_does_the_same_as_a_stack(toy, name):
    cache, blocks = baseline(name, deep(toy)), toy.make_blocks(6, 8)
    inputs, actions = toy.walk(7, 2, (2, *toy.shape), change=0.05), torch.ones(7, 2, 2)
    assert_same(*both_ways(toy, cache, [0, 1], inputs, blocks, actions))


def test_a_table_is_followed_by_a_stack(toy):
    gate = Table(((0.0,) * 6, (0.1, 0.2, 0.1, 0.3, 0.1, 0.1)))
    cache = XCache(deep(toy), Policy(front=0, warm_up=0, budget=0.15), method=Method(gate, axis="step"))
    inputs, actions = toy.walk(3, 2, (1, *toy.shape)), torch.ones(3, 1, 2)
    naive, fast = both_ways(toy, cache, [0], inputs, toy.make_blocks(6, 8), actions)
    assert_same(naive, fast)
    assert telemetry(fast[1], 0)["reason"][1] == [
        "skipped",
        "stale",
        "skipped",
        "stale",
        "skipped",
        "skipped",
    ]


def assert_sums_follow(state):
    """Whatever is remembered of a sum is what its residuals add up to, bit for bit."""
    fresh, rows = Sums(state.planes["residual"]), Rows(range(len(state)), 1, state.device)
    for key in range(2):
        assert torch.equal(state.sums.of(key, rows), fresh.of(key, rows))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.lists(st.sampled_from(["undo", "fork", "load", "reset", "tier"]), max_size=4))
def test_sums_of_residuals_follow_them_through_whatever_happens_to_a_slot(toy, seed, events):
    cache, blocks = XCache(deep(toy), Policy(front=0, floor=0.95)), toy.make_blocks(6, 8, seed=seed)
    state, action = cache.new_state(3), torch.ones(2, 2)
    inputs = toy.walk(10, 2, (2, *toy.shape), change=0.2, seed=seed)
    saved = state.slot_state(0)
    for n, steps in enumerate(inputs):
        with state.transaction([0, 1]) as undo:
            toy.run_chunk(cache, state, blocks, steps, slots=[0, 1], chunk=n, action=action)
            event = events[n // 2] if n % 2 and n // 2 < len(events) else None
            if event == "undo":
                undo.rollback([1])
        assert_sums_follow(state)
        if event == "fork":
            state.fork(1, 2)
        elif event == "load":
            state.load_slot_state(1, saved)
        elif event == "reset":
            state.reset(0)
        elif event == "tier":
            cache.set_policy(state, 1, "fast")
        assert_sums_follow(state)
        saved = state.slot_state(0)


def test_a_stack_that_is_skipped_is_one_addition(toy, monkeypatch):
    cache, blocks = XCache(deep(toy), BLIND), toy.make_blocks(6, 8)
    state, x, action = cache.new_state(1), torch.randn(1, *toy.shape), torch.ones(1, 2)
    exact = cache.enter(state, slots=[0], chunk=0, step=0, action=action).run_stack(blocks, x)
    first = cache.enter(state, slots=[0], chunk=1, step=0, action=action).run_stack(blocks, x)
    torch.testing.assert_close(first, exact)
    monkeypatch.setattr(Sums, "_add_up", None)  # once is enough
    again = cache.enter(state, slots=[0], chunk=2, step=0, action=action).run_stack(blocks, x)
    assert torch.equal(again, first)


@pytest.mark.parametrize("name", ["executor", "dtype", "method"])
def test_sums_are_kept_where_they_are_used(toy, name):
    plan = deep(toy)
    assert XCache(plan).new_state(1).sums is not None
    without = {
        "executor": XCache(plan, executor="masked").new_state(1),
        "dtype": XCache(plan).new_state(1, dtype=torch.bfloat16),
        "method": baseline("first_block", plan).new_state(1),
    }
    assert without[name].sums is None


@pytest.mark.parametrize("tier", [Policy(front=0, floor=-1.0), BLIND])
def test_a_chunk_of_skips_leaves_the_books_that_any_chunk_leaves(toy, monkeypatch, tier):
    states = []
    for short in (True, False):
        cache, blocks = XCache(deep(toy), tier), toy.make_blocks(6, 8)
        state, inputs = cache.new_state(3), toy.walk(4, 2, (2, *toy.shape), change=0.001)
        if not short:
            monkeypatch.setattr(Books, "_write_skips", Books._write)
        for n, steps in enumerate(inputs):
            toy.run_chunk(cache, state, blocks, steps, slots=[1, 2], chunk=n, action=torch.ones(2, 2))
        states.append(state.state_dict())
    for name, plane in states[0].items():
        torch.testing.assert_close(plane, states[1][name], equal_nan=True, rtol=0, atol=0, msg=name)
    assert states[0]["counts"][..., 1:, Reason.SKIPPED].unique().tolist() == [2 if tier is BLIND else 3]


def test_in_half_precision_skips_add_up_bit_for_bit(toy):
    plan, blocks = deep(toy), toy.make_blocks(6, 8)
    cache = XCache(plan, toy.loose)
    inputs = toy.walk(6, 2, (1, *toy.shape), change=0.05).bfloat16()
    results = []
    for whole in (False, True):
        state, out = cache.new_state(1, dtype=torch.bfloat16), []
        for n, steps in enumerate(inputs):
            at = [cache.enter(state, slots=[0], chunk=n, step=t, action=torch.ones(1, 2)) for t in range(2)]
            for t, x in enumerate(steps):
                for b in range(6) if not whole else []:
                    x = at[t].run_block(b, half(blocks[b]), x)
                out.append(at[t].run_stack([half(block) for block in blocks], x) if whole else x)
        results.append((torch.stack(out), report(cache, state).reasons))
    (a, reasons_a), (b, reasons_b) = results
    assert torch.equal(a, b)
    assert reasons_a == reasons_b
    assert reasons_a["skipped"] == 5 * 2 * 6


def half(block):
    """In bfloat16, whatever the block's weights are."""
    return lambda x, request: block(x, request).bfloat16()


class Looks:
    """Counts how often an input is looked at."""

    def __init__(self, monkeypatch):
        self.single = self.ahead = 0
        self._watch(monkeypatch, "_judge", "single")
        self._watch(monkeypatch, "_look_ahead", "ahead")

    def _watch(self, monkeypatch, name, counter):
        original = getattr(Decider, name)

        def counted(*args):
            setattr(self, counter, getattr(self, counter) + 1)
            return original(*args)

        monkeypatch.setattr(Decider, name, counted)


def test_blocks_computed_in_one_pass_are_skipped_with_one_look(toy, monkeypatch):
    cache, blocks = XCache(deep(toy), toy.loose), [toy.Counted(block) for block in toy.make_blocks(6, 8)]
    state, inputs = cache.new_state(1), toy.walk(3, 2, (1, *toy.shape))
    looks = Looks(monkeypatch)
    for n in range(3):
        toy.run_chunk(cache, state, blocks, inputs[n], slots=[0], chunk=n, action=torch.ones(1, 2))
    assert [block.calls for block in blocks] == [2] * 6  # at chunk 0, at two steps
    assert (looks.single, looks.ahead) == (0, 2 * 2)


def test_a_tier_that_refuses_nothing_has_its_inputs_not_looked_at(toy, monkeypatch):
    monkeypatch.setattr("xcache_core.decide.fingerprint", None)
    cache, blocks = XCache(deep(toy), BLIND), [toy.Counted(block) for block in toy.make_blocks(6, 8)]
    state, action = cache.new_state(1), torch.ones(1, 2)
    for n in range(7):
        toy.run_chunk(cache, state, blocks, torch.randn(2, 1, *toy.shape), slots=[0], chunk=n, action=action)
    assert [block.calls for block in blocks] == [2 * 3] * 6  # chunks 0, 3 and 6
    assert telemetry(state, 0)["cosine"] == [[None] * 6] * 2


@pytest.mark.parametrize(
    "change",
    [{"floor": 0.0}, {"margin": 0.1}, {"max_deviation": 9.0}, {"budget": 1.0}, {"protect_step0": "strict"}],
)
def test_whatever_could_refuse_asks_for_a_look(change):
    assert not BLIND.looks
    assert replace(BLIND, **change).looks


@pytest.mark.parametrize("executor", ["eager", "masked"])
def test_a_deviation_is_seen_where_it_is_limited(toy, executor):
    cache, blocks = XCache(deep(toy), Policy(front=0), executor=executor), toy.make_blocks(6, 8)
    state, inputs = cache.new_state(2), toy.walk(2, 2, (2, *toy.shape), change=0.01)
    cache.set_policy(state, 1, Policy(front=0, max_deviation=math.inf))
    for n, steps in enumerate(inputs):
        toy.run_chunk(cache, state, blocks, steps, slots=[0, 1], chunk=n, action=torch.ones(2, 2))
    limited, free = (telemetry(state, slot) for slot in (0, 1))
    assert limited["reason"] == free["reason"] == [["skipped"] * 6] * 2
    assert all(0 < value < 2 for row in limited["deviation"] for value in row)
    assert free["deviation"] == [[None] * 6] * 2
    assert all(0.9 < value <= 1 for row in free["cosine"] for value in row)


@pytest.mark.parametrize("executor", ["eager", "masked"])
def test_a_session_that_is_not_looked_at_does_not_mind_one_that_is(toy, executor):
    cache, blocks = XCache(deep(toy), Policy(front=0), executor=executor), toy.make_blocks(6, 8)
    inputs, outs = toy.walk(6, 2, (2, *toy.shape), change=0.3), []
    for slots, rows in (([0, 1], [0, 1]), ([1], [1])):
        state = cache.new_state(2)
        cache.set_policy(state, 1, BLIND)
        for n in range(6):
            action = torch.ones(len(slots), 2)
            out = toy.run_chunk(cache, state, blocks, inputs[n][:, rows], slots=slots, chunk=n, action=action)
        outs.append(out[:, -1])
        seen = telemetry(state, 1)
        assert seen["reason"] == [["stale" if n % 3 == 0 else "skipped"] * 6] * 2
        assert seen["cosine"] == [[None] * 6] * 2
    assert torch.equal(*outs)


def test_a_block_computed_by_itself_ends_a_look_and_begins_another(toy, monkeypatch):
    cache, blocks = XCache(deep(toy), toy.loose), toy.make_blocks(6, 8)
    state, x, action = cache.new_state(1), torch.randn(1, *toy.shape), torch.ones(1, 2)
    cache.enter(state, slots=[0], chunk=0, step=0, action=action).run_stack(blocks, x)
    state.planes["meta"][0, 3, 0, 0, Meta.VALID] = 0.0
    looks = Looks(monkeypatch)
    cache.enter(state, slots=[0], chunk=1, step=0, action=action).run_stack(blocks, x + 0.01)
    assert telemetry(state, 0)["reason"][0] == ["skipped"] * 3 + ["invalid"] + ["skipped"] * 2
    assert looks.ahead == 1 + 1 + 2  # 0-2, refused at 3, 4 and 5 with growing confidence
    looks.ahead = 0
    cache.enter(state, slots=[0], chunk=2, step=0, action=action).run_stack(blocks, x + 0.02)
    assert looks.ahead == 3  # 0-2, 3, 4-5: computed in three passes


def test_a_method_that_must_see_every_input_is_run_block_by_block(toy, monkeypatch):
    looks = Looks(monkeypatch)
    cache = baseline("block_l1", deep(toy))
    toy.run_chunk(
        cache,
        cache.new_state(1),
        toy.make_blocks(6, 8),
        toy.walk(1, 2, (1, *toy.shape))[0],
        slots=[0],
        chunk=0,
        action=torch.ones(1, 2),
    )
    assert (looks.single, looks.ahead) == (6, 0)


@pytest.mark.parametrize("executor", ["eager", "masked"])
def test_an_input_that_is_not_finite_refuses_the_whole_stack(toy, executor):
    cache = XCache(deep(toy), replace(toy.loose, warm_up=0), executor=executor)
    state, x, blocks = cache.new_state(2), torch.randn(2, *toy.shape), toy.make_blocks(6, 8)
    bad = x.clone()
    bad[0, 1, 7, 3] = torch.nan
    for n, value in enumerate((x, bad, x)):
        at = cache.enter(state, slots=[0, 1], chunk=n, step=0, action=torch.ones(2, 2))
        out = at.run_stack(blocks, value)
        expected = ["invalid"] * 6 if n else ["warm_up"] * 6
        assert telemetry(state, 0)["reason"][0] == (expected if n else ["invalid"] * 6)
    assert torch.isfinite(out).all()
    assert telemetry(state, 1)["reason"][0] == ["skipped"] * 6


def test_rows_that_refuse_are_computed_and_the_others_skip(toy):
    cache, counted = XCache(deep(toy), Policy(front=0)), [toy.Counted(b) for b in toy.make_blocks(6, 8)]
    state, x, action = cache.new_state(3), torch.randn(3, *toy.shape), torch.ones(3, 2)
    cache.enter(state, slots=[0, 1, 2], chunk=0, step=0, action=action).run_stack(counted, x)
    moved = x.clone()
    moved[1] = torch.randn(toy.shape)
    got = cache.enter(state, slots=[0, 1, 2], chunk=1, step=0, action=action).run_stack(counted, moved)
    assert [block.rows for block in counted] == [4] * 6
    torch.testing.assert_close(got, toy.exact(toy.make_blocks(6, 8), moved))


def test_a_chunk_keeps_its_books_once_and_may_be_left_halfway(toy):
    cache, blocks = XCache(deep(toy), toy.loose), toy.make_blocks(6, 8)
    state, x, action = cache.new_state(1), torch.randn(1, *toy.shape), torch.ones(1, 2)
    first, second = cache.enter_chunk(state, slots=[0], chunk=0, action=action)
    first.run_stack(blocks, x)
    assert state.pending is not None
    second.run_block(0, blocks[0], x)
    assert telemetry(state, 0)["reason"] == [["warm_up"] * 6, ["warm_up"] + [None] * 5]
    assert state.pending is None
    second.run_block(1, blocks[1], x)  # goes on after somebody has looked
    assert telemetry(state, 0)["reason"][1] == ["warm_up"] * 2 + [None] * 4


def test_what_a_chunk_did_is_undone_as_a_whole(toy):
    cache, blocks = XCache(deep(toy), Policy(front=0)), toy.make_blocks(6, 8)
    state, inputs = cache.new_state(2), toy.walk(3, 2, (1, *toy.shape), change=0.3)
    for n in range(2):
        toy.run_chunk(cache, state, blocks, inputs[n], slots=[1], chunk=n, action=torch.ones(1, 2))
    before = state.state_dict()
    undo = state.transaction([1])
    first, _ = cache.enter_chunk(state, slots=[1], chunk=2, action=torch.ones(1, 2))
    first.run_stack(blocks, inputs[2, 0])
    undo.rollback()
    after = state.state_dict()
    assert all(torch.equal(before[name].nan_to_num(9), after[name].nan_to_num(9)) for name in before)


def test_another_number_of_blocks_is_refused(toy):
    cache = XCache(deep(toy), method=Method(Always()))
    state = cache.new_state(1)
    at = cache.enter(state, slots=[0], chunk=0, step=0, action=torch.ones(1, 2))
    with pytest.raises(ValueError, match="expected 6 blocks, got 3"):
        at.run_stack(toy.blocks, torch.randn(1, *toy.shape))
    assert report(cache, state).decisions == 0


def test_a_pass_that_is_never_cached_runs_the_stack_and_counts_it_as_off(toy):
    cache, blocks = XCache(deep(toy), "exact"), toy.make_blocks(6, 8)
    state, x = cache.new_state(1), torch.randn(1, *toy.shape)
    for step in (None, 0):
        at = cache.enter(state, slots=[0], chunk=0, step=step, action=torch.ones(1, 2))
        assert torch.equal(at.run_stack(blocks, x), toy.exact(blocks, x))
    assert report(cache, state).reasons[Reason.OFF.label] == 6
