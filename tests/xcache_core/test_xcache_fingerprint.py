import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xcache_core import Layout
from xcache_core.fingerprint import (
    cosine_of,
    fingerprint,
    group_members,
    mean_token,
    relative_l1,
    similarity,
    vector_cosine,
)

seeds = st.integers(0, 10_000)


def prints(layout, *tiles):
    members = group_members(layout.tile_groups, torch.device("cpu"))
    samples = torch.tensor(layout.sampled)
    return *(fingerprint(layout.split(x), samples, members) for x in tiles), members


def reference(layout, now, old, action_cosine=None):
    """The two metrics, entry by entry as the paper states them, for whole frames."""
    cosines, deviations = [], []
    for group in layout.tile_groups:
        a, b = (x[:, list(group)][:, :, list(layout.sampled)].double() for x in (now, old))
        mean_a, mean_b = (x[:, list(group)].double().mean(2) for x in (now, old))
        cosines += [
            torch.cosine_similarity(p.flatten(1), q.flatten(1)) for p, q in ((a, b), (mean_a, mean_b))
        ]
        deviations.append((a - b).abs().flatten(1).amax(1) / b.abs().flatten(1).mean(1))
    if action_cosine is not None:
        cosines.append(action_cosine.double().flatten())
    return torch.stack(cosines).amin(0), torch.stack(deviations).amax(0)


@given(seeds, st.floats(0.01, 2.0))
def test_metrics_are_minimum_cosine_and_maximum_deviation_over_all_entries(seed, change):
    layout = Layout(views=3, tokens=20, channels=8, grid=(1, 4, 5), groups=((0,), (1, 2)), samples=7)
    generator = torch.Generator().manual_seed(seed)
    old = torch.randn(2, 3, 20, 8, generator=generator)
    now = old + change * torch.randn(2, 3, 20, 8, generator=generator)
    action = torch.rand(2, 1, generator=generator)
    p, q, members = prints(layout, now, old)
    got = similarity(p, q, members, action)
    cosine, deviation = reference(layout, now, old, action)
    torch.testing.assert_close(got.cosine.squeeze(1).double(), cosine, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.deviation.squeeze(1).double(), deviation, atol=1e-4, rtol=1e-4)


@given(st.integers(0, 2))
def test_a_change_in_any_one_view_shows(view):
    layout = Layout(views=3, tokens=20, channels=8, groups=((0,), (1, 2)), samples=20)
    old = torch.randn(1, 3, 20, 8, generator=torch.Generator().manual_seed(1))
    now = old.clone()
    now[:, view] *= -1
    p, q, members = prints(layout, now, old)
    assert similarity(p, q, members, None).cosine.item() < 0.3


def test_views_cut_apart_are_judged_apart():
    layout = Layout(views=3, tokens=20, channels=8, cut="view")
    old = torch.randn(1, 3, 20, 8)
    now = old.clone()
    now[:, 1] *= -1
    p, q, members = prints(layout, now, old)
    got = similarity(p, q, members, None)
    assert got.cosine[0].tolist() == pytest.approx([1, -1, 1], abs=1e-5)
    assert (got.deviation[0, [0, 2]] == 0).all()


def test_the_action_can_be_the_smallest_entry():
    layout = Layout(views=1, tokens=4, channels=8)
    x = torch.randn(1, 1, 4, 8)
    p, q, members = prints(layout, x, x)
    assert similarity(p, q, members, torch.tensor([[0.25]])).cosine.item() == 0.25


@given(seeds, st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_an_input_is_like_itself_in_every_dtype(seed, dtype):
    layout = Layout(views=2, tokens=64, channels=8, samples=9)
    x = (10 * torch.randn(1, 2, 64, 8, generator=torch.Generator().manual_seed(seed))).to(dtype)
    p, q, members = prints(layout, x, x)
    got = similarity(p, q, members, None)
    assert 1 - 1e-6 < got.cosine.item() <= 1
    assert got.deviation.item() == 0


def test_half_precision_does_not_overflow_in_the_mean():
    assert mean_token(torch.full((1, 1000, 4), 1000.0, dtype=torch.float16)).tolist() == [[1000.0] * 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@given(st.integers(0, 63))
def test_one_bad_value_in_any_token_makes_the_cosine_not_finite(bad, token):
    layout = Layout(views=2, tokens=64, channels=8, samples=4)
    old = torch.randn(1, 2, 64, 8)
    now = old.clone()
    now[0, 1, token, 3] = bad
    p, q, members = prints(layout, now, old)
    assert not torch.isfinite(similarity(p, q, members, None).cosine).any()


def test_zero_vectors_are_like_each_other_and_unlike_others():
    zero, one = torch.zeros(3), torch.tensor([1.0, 0.0, 0.0])
    assert vector_cosine(zero, zero).item() == 1
    assert abs(vector_cosine(zero, one).item()) < 1e-5
    assert cosine_of(torch.tensor(4.0), torch.tensor(4.0), torch.tensor(4.0)).item() <= 1


@given(seeds)
def test_relative_l1_is_the_mean_change_over_the_mean_size(seed):
    layout = Layout(views=2, tokens=6, channels=8, groups=((0,), (1,)))
    generator = torch.Generator().manual_seed(seed)
    old, now = torch.randn(2, 1, 2, 6, 8, generator=generator)
    p, q, _ = prints(layout, now, old)
    assert relative_l1(p, q).item() == pytest.approx(
        ((now - old).abs().mean() / old.abs().mean()).item(), rel=1e-4
    )
