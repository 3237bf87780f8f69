import json
from dataclasses import replace

import pytest
import torch

from xcache_core import KVCycle, Policy, last_seen, live_error, report, steer, telemetry


@pytest.fixture
def run(toy):
    def run(policy="balanced", chunks=8, change=0.02, **options):
        cache = toy.cache(policy, **options)
        state = cache.new_state(2)
        inputs = toy.walk(chunks, 2, (2, *toy.shape), change=change)
        toy.rollout(cache, state, toy.blocks, inputs, slots=[0, 1], role=KVCycle(4).role)
        return cache, state

    return run


def test_every_decision_is_counted_once(run):
    cache, state = run()
    seen = report(cache, state)
    assert seen.decisions == sum(seen.reasons.values()) == 8 * 2 * 3 * 2
    assert seen.reasons["kv_update"] == 2 * 2 * 3 * 2
    assert seen.reasons["anchor"] == 6 * 2 * 2
    assert seen.skipped == seen.reasons["skipped"] / seen.decisions
    assert sum(map(sum, seen.reason_matrix["skipped"])) == seen.reasons["skipped"]


def test_slots_are_reported_apart_or_together(run):
    cache, state = run()
    parts = [report(cache, state, [slot]) for slot in range(2)]
    assert sum(part.decisions for part in parts) == report(cache, state).decisions
    with pytest.raises(IndexError, match="expected slots"):
        report(cache, state, [2])


def test_a_report_is_plain_data(run):
    cache, state = run(Policy(shadow_every=3))
    data = json.loads(json.dumps(report(cache, state).to_dict(), allow_nan=False))
    assert data["executor"] == "eager"
    assert data["state_bytes"] == state.bytes()
    assert data["gate_ms"] > 0
    json.dumps(telemetry(state, 0), allow_nan=False)


def test_telemetry_tells_the_last_chunk_by_step_and_block(run):
    _, state = run(Policy(floor=0.5, front=1), chunks=7)
    last = telemetry(state, 0)
    assert [row[0] for row in last["reason"]] == ["anchor", "anchor"]
    assert [row[1] for row in last["reason"]] == ["skipped", "skipped"]
    assert last["age"][0][1] == 2.0
    assert 0.5 < last["cosine"][0][1] <= 1.0
    assert last["cosine"][0][0] is None


def test_what_was_last_seen_does_not_change_with_the_state(run):
    _, state = run(chunks=7)
    before = last_seen(state, 0)["age"].clone()
    kept = last_seen(state, 0)["age"]
    state.reset(0)
    assert torch.equal(kept, before)
    assert torch.isnan(last_seen(state, 0)["age"]).all()


def test_telemetry_has_an_entry_per_tile_where_there_are_several(toy, run):
    plan = replace(toy.plan, layout=replace(toy.layout, cut="view"))
    _, state = run(plan=plan)
    assert len(telemetry(state, 0)["reason"][0][1]) == 3


@pytest.mark.parametrize(
    ("policy", "why"),
    [("exact", "the tier is off"), (Policy(front=3), "all 3 blocks are anchors")],
)
def test_a_tier_that_never_skips_is_said_to(run, policy, why):
    assert report(*run(policy)).never == why


def test_a_run_without_skips_names_the_commonest_reason(run):
    seen = report(*run(change=3.0))
    assert seen.skipped == 0
    assert seen.never == "nothing was skipped; most often: cosine"


def test_a_report_of_nothing_is_empty(toy):
    cache = toy.cache()
    seen = report(cache, cache.new_state(1))
    assert (seen.decisions, seen.skipped, seen.never, seen.shadow_error) == (0, 0.0, None, None)


def test_checked_skips_are_computed_and_their_error_is_the_true_one(toy):
    plan = replace(toy.plan, blocks=1)
    cache = toy.cache(Policy(front=0, floor=-1, margin=9, max_deviation=1e9, shadow_every=1), plan)
    state, (a, b) = cache.new_state(1), torch.randn(2, 1, *toy.shape)
    block = toy.blocks[:1]
    for n, x in enumerate((a, b)):
        got = toy.run_pass(cache, state, block, x, slots=[0], chunk=n, step=0)
    r = [toy.exact(block, x) - x for x in (a, b)]
    assert torch.equal(got, toy.exact(block, b))
    expected = ((r[0] - r[1]).abs().mean() / r[1].abs().mean()).item()
    assert live_error(state, 0) == pytest.approx(expected, rel=1e-5)
    assert report(cache, state).shadow_checks == 1
    assert telemetry(state, 0)["error"][0][0] == pytest.approx(expected, rel=1e-5)


def test_the_live_error_is_known_after_the_first_check_only(toy, run):
    _, state = run(Policy(shadow_every=4))
    assert 0 < live_error(state, 0) < 1
    state.reset(0)
    assert live_error(state, 0) is None


def test_steering_tightens_when_the_error_is_too_large_and_loosens_when_it_is_small():
    policy = Policy(floor=0.96)
    assert steer(policy, 0.2, 0.1).floor == pytest.approx(0.99)
    assert steer(policy, 0.1, 0.1).floor == pytest.approx(0.96)
    assert steer(policy, 0.0, 0.1).floor == pytest.approx(0.84)
    assert steer(Policy(floor=0.6), 0.0, 0.1).floor == 0.5
    with pytest.raises(ValueError, match="expected target > 0"):
        steer(policy, 0.1, 0.0)
