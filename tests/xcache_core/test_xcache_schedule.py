import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcache_core import PRESETS, KVCycle, Policy, Reason, Role, preset
from xcache_core.schedule import forced_codes, forced_reason, shadow_due, why_never

FREE = Policy(warm_up=0, front=0)
small = st.integers(0, 40)


def reason(
    policy=FREE,
    *,
    axis="chunk",
    steps=4,
    blocks=10,
    block=3,
    step=1,
    chunk=5,
    first=0,
    role=Role.DENOISE,
    phase=0,
):
    return forced_reason(
        policy,
        axis=axis,
        steps=steps,
        blocks=blocks,
        block=block,
        step=step,
        chunk=chunk,
        first_chunk=first,
        role=role,
        phase=phase,
    )


@given(
    st.sampled_from([FREE, Policy(warm_up=3), Policy(kv_steps=1, refresh_every=3), Policy(shadow_every=4)]),
    small,
    small,
    st.integers(0, 3),
    st.sampled_from(Role),
    small,
)
def test_of_all_blocks_the_schedule_says_what_it_says_of_each(policy, chunk, first, step, role, phase):
    when = {"step": step, "chunk": first + chunk, "role": role, "phase": phase}
    got = forced_codes(policy, axis="chunk", steps=4, blocks=10, first_chunk=first, **when)
    assert got == tuple(reason(policy, block=b, first=first, **when) for b in range(10))


@given(small, small, st.integers(0, 3), st.integers(0, 9))
def test_without_rules_the_gate_decides(chunk, first, step, block):
    assert reason(chunk=chunk + first, first=first, step=step, block=block) is Reason.SKIPPED


@given(small, small, st.integers(0, 5))
def test_the_first_chunks_after_a_reset_warm_up(chunk, first, warm_up):
    got = reason(replace(FREE, warm_up=warm_up), chunk=first + chunk, first=first)
    assert (got is Reason.WARM_UP) == (chunk < warm_up)


@given(st.integers(0, 9), st.integers(0, 6), st.integers(0, 6))
def test_blocks_at_both_ends_are_anchors(block, front, back):
    got = reason(replace(FREE, front=front, back=back), block=block)
    assert (got is Reason.ANCHOR) == (block < front or block >= 10 - back)


@given(st.integers(0, 3))
def test_step_zero_is_protected_when_asked_and_always_along_the_steps(step):
    assert reason(step=step) is Reason.SKIPPED
    assert (reason(replace(FREE, protect_step0="on"), step=step) is Reason.STEP0) == (step == 0)
    assert (reason(axis="step", step=step) is Reason.STEP0) == (step == 0)


def test_a_strict_step_zero_has_a_higher_floor():
    policy = replace(FREE, protect_step0="strict")
    assert (policy.floor_at(0), policy.floor_at(1)) == (0.999, 0.97)
    assert reason(policy, step=0) is Reason.SKIPPED


def test_kv_updates_are_computed_unless_protection_is_off():
    assert reason(role=Role.KV_UPDATE) is Reason.KV_UPDATE
    assert reason(replace(FREE, kv_steps=0), role=Role.KV_UPDATE) is Reason.SKIPPED


@given(st.integers(1, 8), st.integers(0, 8), st.data())
def test_of_kv_updates_the_last_steps_are_computed(steps, kept, data):
    step = data.draw(st.integers(0, steps - 1))
    got = reason(replace(FREE, kv_steps=kept), role=Role.KV_UPDATE, steps=steps, step=step)
    assert (got is Reason.KV_UPDATE) == (step in list(range(steps))[max(steps - kept, 0) :])
    assert reason(replace(FREE, kv_steps=kept), steps=steps, step=step) is Reason.SKIPPED


def test_a_pass_without_a_step_is_never_cached():
    assert reason(step=None) is Reason.KV_UPDATE
    assert reason(replace(FREE, kv_steps=0), step=None) is Reason.KV_UPDATE


def test_a_tier_that_is_off_wins_over_everything():
    assert reason(replace(FREE, enabled=False), role=Role.KV_UPDATE) is Reason.OFF


@given(st.integers(1, 12), st.integers(0, 9), st.integers(0, 3), st.integers(0, 30), st.booleans())
def test_refreshes_come_once_in_every_window(period, block, step, phase, stagger):
    policy = replace(FREE, refresh_every=period, stagger=stagger)
    due = [
        reason(policy, chunk=n, block=block, step=step, phase=phase) is Reason.STALE
        for n in range(4 * period)
    ]
    assert sum(due) == 4
    assert all(a == b for a, b in zip(due, due[period:], strict=False))


@given(st.integers(1, 10), st.integers(0, 50))
def test_staggered_refreshes_make_every_chunk_cost_about_the_same(period, chunk):
    policy = replace(FREE, refresh_every=period)
    due = sum(reason(policy, chunk=chunk, block=b, step=1) is Reason.STALE for b in range(10))
    assert 10 // period <= due <= -(-10 // period)


@pytest.mark.parametrize("every", [2, 5, 20])
def test_about_one_skip_in_n_is_checked(every):
    due = [
        shadow_due(every, block=b, step=t, chunk=n, phase=0)
        for n in range(200)
        for t in range(4)
        for b in range(10)
    ]
    assert sum(due) / len(due) == pytest.approx(1 / every, rel=0.15)


def test_checks_depend_on_identity_alone():
    assert reason(replace(FREE, shadow_every=1)) is Reason.SHADOW
    assert not shadow_due(0, block=0, step=0, chunk=0, phase=0)


def test_a_cycle_updates_once_and_shares_its_noise():
    cycle = KVCycle(4)
    assert [cycle.role(n) is Role.KV_UPDATE for n in range(8)] == [True, False, False, False] * 2
    assert [cycle.noise_epoch(n) for n in range(8)] == [0] * 4 + [1] * 4
    assert all(KVCycle(1).role(n) is Role.KV_UPDATE for n in range(3))
    with pytest.raises(ValueError, match="expected period >= 1"):
        KVCycle(0)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (Policy(enabled=False), "the tier is off"),
        (Policy(front=6, back=4), "all 10 blocks are anchors"),
        (Policy(max_skips=0), "max_skips is 0"),
        (Policy(refresh_every=1), "refresh_every is 1"),
        (Policy(floor=1.5), "above 1"),
        (Policy(max_deviation=0.0), "max_deviation is 0.0"),
        (Policy(budget=0.0), "budget is 0"),
        (Policy(shadow_every=1), "shadow_every is 1"),
    ],
)
def test_a_tier_that_can_never_skip_is_recognised(policy, why):
    assert why in why_never(policy, axis="chunk", steps=4, blocks=10, gated=True)


def test_one_protected_step_leaves_nothing_to_skip():
    assert "step 0" in why_never(Policy(), axis="step", steps=1, blocks=10, gated=True)
    assert why_never(Policy(), axis="step", steps=2, blocks=10, gated=True) is None


@pytest.mark.parametrize("name", ["safe", "balanced", "fast"])
def test_shipped_tiers_can_skip(name):
    assert why_never(preset(name), axis="chunk", steps=4, blocks=10, gated=True) is None


def test_balanced_has_the_defaults_of_the_paper():
    p = PRESETS["balanced"]
    assert (p.front, p.back, p.warm_up, p.floor, p.margin, p.rate, p.max_deviation) == (
        1,
        0,
        1,
        0.97,
        0.02,
        0.3,
        2.0,
    )
    assert (p.max_skips, p.kv_steps, p.protect_step0, p.budget) == (None, None, "off", math.inf)


def test_an_unknown_tier_is_answered_with_the_names_there_are():
    with pytest.raises(ValueError, match="exact, safe, balanced, fast, got 'turbo'"):
        preset("turbo")


@pytest.mark.parametrize(
    "change",
    [{"rate": 0.0}, {"warm_up": -1}, {"max_skips": -1}, {"kv_steps": -1}, {"protect_step0": "maybe"}],
)
def test_impossible_numbers_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Policy(**change)
