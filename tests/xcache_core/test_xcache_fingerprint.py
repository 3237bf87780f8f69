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
    similarity_ahead,
    sizes,
    vector_cosine,
)

seeds = st.integers(0, 10_000)


def prints(layout, *tiles):
    members = group_members(layout.tile_groups, len(layout.sampled), torch.device("cpu"))
    samples = torch.tensor(layout.sampled)
    now, old = (fingerprint(layout.split(x), samples) for x in tiles)
    return now, old, sizes(old, members), members


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
    p, q, *other = prints(layout, now, old)
    got = similarity(p, q, *other, action)
    cosine, deviation = reference(layout, now, old, action)
    torch.testing.assert_close(got.cosine.squeeze(1).double(), cosine, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.deviation.squeeze(1).double(), deviation, atol=1e-4, rtol=1e-4)


@given(st.integers(0, 2))
def test_a_change_in_any_one_view_shows(view):
    layout = Layout(views=3, tokens=20, channels=8, groups=((0,), (1, 2)), samples=20)
    old = torch.randn(1, 3, 20, 8, generator=torch.Generator().manual_seed(1))
    now = old.clone()
    now[:, view] *= -1
    p, q, *other = prints(layout, now, old)
    assert similarity(p, q, *other, None).cosine.item() < 0.3


def test_views_cut_apart_are_judged_apart():
    layout = Layout(views=3, tokens=20, channels=8, cut="view")
    old = torch.randn(1, 3, 20, 8)
    now = old.clone()
    now[:, 1] *= -1
    p, q, *other = prints(layout, now, old)
    got = similarity(p, q, *other, None)
    assert got.cosine[0].tolist() == pytest.approx([1, -1, 1], abs=1e-5)
    assert (got.deviation[0, [0, 2]] == 0).all()


def test_the_action_can_be_the_smallest_entry():
    layout = Layout(views=1, tokens=4, channels=8)
    x = torch.randn(1, 1, 4, 8)
    p, q, *other = prints(layout, x, x)
    assert similarity(p, q, *other, torch.tensor([[0.25]])).cosine.item() == 0.25


@given(seeds, st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_an_input_is_like_itself_in_every_dtype(seed, dtype):
    layout = Layout(views=2, tokens=64, channels=8, samples=9)
    x = (10 * torch.randn(1, 2, 64, 8, generator=torch.Generator().manual_seed(seed))).to(dtype)
    p, q, *other = prints(layout, x, x)
    got = similarity(p, q, *other, None)
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
    p, q, *other = prints(layout, now, old)
    assert not torch.isfinite(similarity(p, q, *other, None).cosine).any()


@given(seeds, st.floats(0.01, 2.0), st.sampled_from(["frame", "view"]))
def test_what_the_first_input_tells_about_later_blocks_is_what_their_own_inputs_tell(seed, change, cut):
    layout = Layout(3, 20, 8, grid=(1, 4, 5), groups=((0,), (1, 2)), cut=cut, samples=7)
    generator = torch.Generator().manual_seed(seed)
    olds = torch.randn(4, 2, 3, 20, 8, generator=generator).cumsum(0)  # inputs of four blocks
    move = change * torch.randn(2, 3, 20, 8, generator=generator)
    action = torch.rand(4, 2, layout.tiles, generator=generator)
    each = [prints(layout, old + move, old) for old in olds]
    apart = [similarity(now, *other, cosine) for (now, *other), cosine in zip(each, action, strict=True)]
    stored = type(each[0][1])(*(torch.stack(part) for part in zip(*(p[1] for p in each), strict=True)))
    members = each[0][3]
    ahead = similarity_ahead(each[0][0], stored, sizes(stored, members), members, action)
    for name in ("cosine", "deviation"):
        expected = torch.stack([getattr(one, name) for one in apart])
        torch.testing.assert_close(getattr(ahead, name), expected, rtol=1e-4, atol=1e-5)


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
    p, q, *_ = prints(layout, now, old)
    assert relative_l1(p, q).item() == pytest.approx(
        ((now - old).abs().mean() / old.abs().mean()).item(), rel=1e-4
    )
