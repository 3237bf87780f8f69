import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xcache_core import Layout, Reason
from xcache_core.fingerprint import fingerprint, group_members, sizes
from xcache_core.gate import (
    Always,
    Comparison,
    DualMetric,
    RelativeL1,
    Table,
    adaptive_threshold,
    pad_to_bucket,
    update_ema,
)

LAYOUT = Layout(views=1, tokens=6, channels=4)
unit = st.floats(-1, 1)


def compare(now, old):
    members, samples = group_members(LAYOUT.tile_groups, 6, torch.device("cpu")), torch.arange(6)
    now, old = (fingerprint(LAYOUT.split(x), samples) for x in (now, old))
    return Comparison(now, old, sizes(old, members), members, None)


def judge(gate, now, old, tau=0.97, max_deviation=2.0):
    return gate.judge(compare(now, old), torch.tensor([[tau]]), torch.tensor([[max_deviation]]), (0, 0))


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


@given(unit, st.floats(0, 1), unit)
def test_the_threshold_is_the_floor_or_the_average_less_the_margin(floor, margin, ema):
    assert adaptive_threshold(f64(ema), f64(floor), f64(margin)).item() == max(floor, ema - margin)


def test_the_threshold_is_the_floor_while_nothing_was_seen():
    assert adaptive_threshold(f64(math.nan), f64(0.9), f64(0.02)).item() == 0.9


@given(st.lists(unit, min_size=1, max_size=20), st.floats(0.01, 1))
def test_the_average_is_exponential_and_starts_at_the_first_observation(seen, rate):
    ema, expected = f64(math.nan), seen[0]
    for i, s in enumerate(seen):
        ema = update_ema(ema, f64(s), f64(rate))
        expected = s if i == 0 else rate * s + (1 - rate) * expected
    assert ema.item() == pytest.approx(expected, abs=1e-12)


@given(st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_leaves_the_average_alone(bad):
    assert update_ema(f64(0.5), f64(bad), f64(0.3)).item() == 0.5
    assert math.isnan(update_ema(f64(math.nan), f64(bad), f64(0.3)).item())


@given(st.floats(0, 3), st.integers(0, 1000), st.floats(-1, 1.1), st.floats(0.01, 5))
def test_both_metrics_must_agree_to_a_skip(change, seed, tau, limit):
    generator = torch.Generator().manual_seed(seed)
    old = torch.randn(1, 1, 6, 4, generator=generator)
    got = judge(DualMetric(), old + change * torch.randn(1, 1, 6, 4, generator=generator), old, tau, limit)
    cosine_fails, deviation_fails = got.cosine.item() < f32(tau), got.deviation.item() >= f32(limit)
    expected = Reason.COSINE if cosine_fails else Reason.DEVIATION if deviation_fails else Reason.SKIPPED
    assert got.reason.item() == expected


def f32(x):
    return torch.tensor(x, dtype=torch.float32).item()


def test_a_threshold_above_one_always_refuses_and_a_deviation_limit_is_strict():
    x = torch.randn(1, 1, 6, 4)
    assert judge(DualMetric(), x, x, tau=1.01).reason.item() == Reason.COSINE
    assert judge(DualMetric(), x, x, max_deviation=0.0).reason.item() == Reason.DEVIATION


def test_one_metric_can_be_left_out():
    old = torch.ones(1, 1, 6, 4)
    far, turned = old.clone(), -old
    far[0, 0, 0, 0] = 4.0
    assert judge(DualMetric(), far, old, tau=-1).reason.item() == Reason.DEVIATION
    assert judge(DualMetric(use_deviation=False), far, old, tau=-1).reason.item() == Reason.SKIPPED
    assert judge(DualMetric(use_cosine=False), turned, old, max_deviation=9).reason.item() == Reason.SKIPPED


def test_entries_of_the_fingerprint_can_be_left_out():
    old = torch.randn(1, 1, 6, 4)
    turned = old.clone()
    turned[
        0, 0, :2
    ] *= -1.0  # the sampled tokens turn; judged by the mean alone, or by nothing, less or not at all
    everything = judge(DualMetric(use_deviation=False), turned, old)
    mean = judge(DualMetric(use_deviation=False, entries=("mean",)), turned, old)
    nothing = judge(DualMetric(use_deviation=False, entries=()), turned, old)
    spatial = judge(DualMetric(use_deviation=False, entries=("spatial",)), turned, old)
    assert everything.cosine.item() == min(mean.cosine.item(), spatial.cosine.item())
    assert mean.cosine.item() != spatial.cosine.item()
    assert nothing.cosine.item() == 1.0
    with pytest.raises(ValueError, match="expected entries of spatial, mean, action, got 'colour'"):
        DualMetric(entries=("colour",))


def test_the_action_is_an_entry_like_the_others():
    x = torch.randn(1, 1, 6, 4)
    seen = compare(x, x)._replace(action_cosine=torch.tensor([[0.5]]))
    limits = torch.tensor([[0.97]]), torch.tensor([[2.0]]), (0, 0)
    assert DualMetric().judge(seen, *limits).reason.item() == Reason.COSINE
    assert DualMetric(entries=("spatial", "mean")).judge(seen, *limits).reason.item() == Reason.SKIPPED


WATCHFUL = [
    DualMetric(),
    DualMetric(use_cosine=False),
    DualMetric(use_cosine=False, use_deviation=False, entries=()),
    RelativeL1(math.inf),
]


@pytest.mark.parametrize("gate", WATCHFUL)
def test_what_is_not_finite_is_invalid_whatever_the_thresholds(gate):
    old = torch.randn(1, 1, 6, 4)
    now = old.clone()
    now[0, 0, 2, 1] = math.nan
    assert judge(gate, now, old, tau=-9, max_deviation=1e30).reason.item() == Reason.INVALID
    assert judge(gate, old, now, tau=-9, max_deviation=1e30).reason.item() == Reason.INVALID


def test_relative_change_is_refused_from_the_threshold_on():
    old = torch.ones(1, 1, 6, 4)
    assert judge(RelativeL1(0.25), old * 1.2, old).reason.item() == Reason.SKIPPED
    assert judge(RelativeL1(0.15), old * 1.2, old).reason.item() == Reason.DEVIATION
    assert judge(RelativeL1(0.15), old * 1.2, old).drift.item() == pytest.approx(0.2, abs=1e-4)


def test_gates_that_do_not_measure_refuse_nothing_and_a_table_tells_the_drift():
    tau, limit = torch.zeros(2, 3), torch.zeros(2, 1)
    assert (Always().judge(None, tau, limit, (0, 0)).reason == 0).all()
    verdict = Table(((0.1, 0.2), (0.3, 0.4))).judge(None, tau, limit, (1, 0))
    assert (verdict.reason == 0).all()
    assert torch.allclose(verdict.drift, torch.tensor(0.3))


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(0, 999))
def test_padding_reaches_the_next_bucket_with_the_nearest_tiles(rows, seed):
    compute = torch.tensor(rows)
    closeness = torch.rand(compute.shape, generator=torch.Generator().manual_seed(seed))
    buckets = (2, 4, 7)
    padded = pad_to_bucket(compute * int(Reason.COSINE), closeness, buckets)
    for before, after, near in zip(compute, padded, closeness, strict=True):
        count = int(before.sum())
        assert int((after > 0).sum()) == next(size for size in (0, *buckets) if size >= count)
        assert (after[before] == Reason.COSINE).all()
        added, left = near[after == Reason.PADDING], near[after == 0]
        assert not added.numel() or not left.numel() or added.min() >= left.max()
