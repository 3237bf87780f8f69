from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xcache_core import Policy, preset, report


def filled(toy, cache, slots=3, chunks=4, seed=0):
    state = cache.new_state(slots)
    inputs = toy.walk(chunks, 2, (slots, *toy.shape), change=0.1, seed=seed)
    toy.rollout(cache, state, toy.blocks, inputs, slots=range(slots))
    return state


def equal(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[name].nan_to_num(9), b[name].nan_to_num(9)) for name in a
    )


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_a_fork_goes_on_like_its_original_and_apart_from_it(toy, seed):
    cache = toy.cache()
    state = filled(toy, cache, seed=seed)
    state.fork(0, 2)
    assert equal(state.slot_state(0), state.slot_state(2))
    x = toy.walk(1, 1, (1, *toy.shape), seed=seed + 1)[0, 0]
    a, b = (toy.run_pass(cache, state, toy.blocks, x, slots=[slot], chunk=9, step=0) for slot in (0, 2))
    assert torch.equal(a, b)
    before = state.slot_state(0)
    toy.run_pass(cache, state, toy.blocks, -x, slots=[2], chunk=10, step=0)
    assert equal(before, state.slot_state(0))
    assert not equal(before, state.slot_state(2))


def test_a_slot_goes_into_another_state_and_goes_on_there(toy):
    cache = toy.cache()
    here, there = filled(toy, cache), cache.new_state(1)
    cache.set_policy(here, 1, "safe")
    there.load_slot_state(0, here.slot_state(1))
    assert equal(here.slot_state(1), there.slot_state(0))
    assert there.slots[0].policy == preset("safe")
    x = torch.randn(1, *toy.shape)
    outs = [
        toy.run_pass(cache, s, toy.blocks, x, slots=[i], chunk=7, step=1) for s, i in ((here, 1), (there, 0))
    ]
    assert torch.equal(*outs)


def test_the_whole_state_makes_a_round_trip(toy):
    cache = toy.cache()
    state = filled(toy, cache)
    state.reset(1, policy=Policy(max_skips=3, protect_step0="strict", budget=0.5), phase=4)
    other = cache.new_state(3)
    other.load_state_dict(state.state_dict())
    assert equal(state.state_dict(), other.state_dict())
    assert state.slots == other.slots
    assert other.slots[1].first_chunk is None


def test_an_exported_slot_does_not_follow_the_state(toy):
    cache = toy.cache()
    state = filled(toy, cache)
    saved = state.slot_state(0)
    copy = {name: tensor.clone() for name, tensor in saved.items()}
    toy.run_pass(cache, state, toy.blocks, torch.randn(1, *toy.shape), slots=[0], chunk=9, step=0)
    assert equal(saved, copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "meta"}, "expected entries"),
        (lambda s: {**s, "extra": s["meta"]}, "expected entries"),
        (lambda s: {**s, "residual": s["residual"][:1]}, "expected residual"),
        (lambda s: {**s, "residual": s["residual"].double()}, "expected residual .* float32, got .* float64"),
    ],
)
def test_a_snapshot_that_does_not_fit_changes_nothing(toy, change, message):
    cache = toy.cache()
    state = filled(toy, cache)
    before = state.state_dict()
    with pytest.raises(ValueError, match=message):
        state.load_slot_state(0, change(state.slot_state(1)))
    with pytest.raises(ValueError, match=message):
        state.load_state_dict(change(state.state_dict()))
    assert equal(before, state.state_dict())


def test_a_reset_touches_one_slot_only(toy):
    cache = toy.cache()
    state = filled(toy, cache)
    others = [state.slot_state(slot) for slot in (0, 2)]
    state.reset(1)
    assert all(equal(old, state.slot_state(slot)) for old, slot in zip(others, (0, 2), strict=True))
    assert report(cache, state, [1]).decisions == 0


def test_bytes_are_those_of_the_planes_and_grow_with_the_slots(toy):
    cache = toy.cache()
    one, four = cache.new_state(1), cache.new_state(4)
    assert four.bytes() == 4 * one.bytes()
    residuals = 2 * 3 * 3 * 12 * 8 * 4
    assert one.bytes() > residuals
    assert cache.new_state(1, dtype=torch.bfloat16).planes["residual"].nbytes == residuals // 2


def test_slots_out_of_range_are_refused_everywhere(toy):
    state = toy.cache().new_state(2)
    for call in (state.reset, state.slot_state, lambda s: state.fork(0, s), lambda s: state.transaction([s])):
        with pytest.raises(IndexError, match=r"expected slots in 0\.\.1, got 2"):
            call(2)


class Broken(Exception):
    pass


@pytest.mark.parametrize("cut", ["frame", "view"])
def test_a_chunk_that_fails_is_undone(toy, cut):
    cache = toy.cache(plan=replace(toy.plan, layout=replace(toy.layout, cut=cut)))
    state = filled(toy, cache)
    before = state.state_dict()

    def chunk():
        with state.transaction([0, 2]):
            for t in range(2):
                toy.run_pass(
                    cache, state, toy.blocks, torch.randn(2, *toy.shape), slots=[0, 2], chunk=4, step=t
                )
            half = cache.enter(state, slots=[0, 2], chunk=5, step=0)
            half.run_block(0, toy.blocks[0], torch.randn(2, *toy.shape))
            raise Broken

    with pytest.raises(Broken):
        chunk()
    assert equal(before, state.state_dict())


def test_a_chunk_that_succeeds_is_kept_and_the_log_is_closed(toy):
    cache = toy.cache()
    state = filled(toy, cache)
    before = state.state_dict()
    with state.transaction([0]):
        toy.run_pass(cache, state, toy.blocks, torch.randn(1, *toy.shape), slots=[0], chunk=4, step=0)
    assert not equal(before, state.state_dict())
    with state.transaction([0]):
        pass


def test_one_session_of_a_batch_can_be_undone_alone(toy):
    cache = toy.cache()
    state = filled(toy, cache)
    before = [state.slot_state(slot) for slot in range(3)]
    undo = state.transaction([0, 1])
    toy.run_pass(cache, state, toy.blocks, torch.randn(2, *toy.shape), slots=[0, 1], chunk=4, step=0)
    undo.rollback([1])
    undo.commit()
    assert equal(before[1], state.slot_state(1))
    assert not equal(before[0], state.slot_state(0))


def test_a_first_chunk_that_fails_is_a_first_chunk_again(toy):
    cache = toy.cache()
    state = cache.new_state(1)

    def chunk():
        with state.transaction([0]):
            toy.run_pass(cache, state, toy.blocks, torch.randn(1, *toy.shape), slots=[0], chunk=0, step=0)
            raise Broken

    with pytest.raises(Broken):
        chunk()
    assert state.slots[0].first_chunk is None


def test_a_transaction_guards_against_changes_in_between(toy):
    state = toy.cache().new_state(2)
    undo = state.transaction([0])
    with pytest.raises(RuntimeError, match="expected no open transaction"):
        state.transaction([1])
    with pytest.raises(RuntimeError, match="slots change between chunks"):
        state.reset(0)
    with pytest.raises(ValueError, match="expected slots of this transaction"):
        undo.rollback([1])
    undo.commit()
    state.reset(0)
