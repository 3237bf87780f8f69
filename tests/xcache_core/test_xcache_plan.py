from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xcache_core import Layout, Plan
from xcache_core.plan import axis_counts, evenly, sample_tokens

sizes = st.integers(1, 24)
grids = st.tuples(st.integers(1, 4), sizes, sizes)


@given(grids, st.integers(1, 64))
def test_sampled_tokens_are_distinct_ascending_and_inside_the_grid(grid, k):
    tokens = sample_tokens(prod(grid), grid, k)
    assert list(tokens) == sorted(set(tokens))
    assert tokens[0] >= 0
    assert tokens[-1] < prod(grid)


@given(grids, st.integers(1, 64))
def test_few_tokens_are_all_kept(grid, k):
    tokens = sample_tokens(prod(grid), grid, k)
    assert (len(tokens) == prod(grid)) == (prod(grid) <= k or tokens == tuple(range(prod(grid))))


@given(grids, st.integers(4, 64))
def test_the_number_of_samples_is_about_k(grid, k):
    if prod(grid) > k:
        assert k / 2 <= len(sample_tokens(prod(grid), grid, k)) <= 2 * k


@pytest.mark.parametrize(
    ("grid", "counts"),
    [((1, 8, 14), (1, 4, 8)), ((4, 8, 16), (2, 3, 6)), ((1, 100, 1), (1, 32, 1)), ((8, 8, 8), (3, 3, 4))],
)
def test_counts_per_axis_follow_the_proportions_of_the_grid(grid, counts):
    assert sorted(axis_counts(grid, 32)) == sorted(counts)


def test_positions_sit_in_the_middle_of_equal_parts():
    assert evenly(10, 5) == (1, 3, 5, 7, 9)
    assert evenly(7, 1) == (3,)
    assert evenly(4, 4) == (0, 1, 2, 3)


def test_tokens_without_a_grid_are_taken_evenly_on_the_line():
    assert sample_tokens(100, None, 4) == evenly(100, 4)


@given(st.sampled_from(["frame", "view", (1, 2), (3, 1), (3, 2)]), st.sampled_from([1, 2]))
def test_splitting_into_tiles_and_merging_gives_the_input_back(cut, frames):
    layout = Layout(views=2, tokens=12 * frames, channels=3, grid=(frames, 3, 4), cut=cut)
    x = torch.randn(2, 2, 12 * frames, 3)
    tiles = layout.split(x)
    assert tiles.shape == (2, layout.tiles, layout.tile_views, layout.tile_tokens, 3)
    assert torch.equal(layout.merge(tiles), x)


def test_a_tile_holds_the_tokens_that_its_index_names():
    layout = Layout(views=2, tokens=24, channels=1, grid=(2, 3, 4), cut=(1, 2))
    x = torch.arange(48.0).view(1, 2, 24, 1)
    tiles = layout.split(x)
    for tile in range(layout.tiles):
        view, part = divmod(tile, layout.parts)
        assert torch.equal(tiles[0, tile, 0], x[0, view, list(layout.tile_token_index[part])])


def test_a_number_per_tile_reaches_all_of_its_tokens():
    layout = Layout(views=2, tokens=4, channels=1, grid=(1, 2, 2), cut=(2, 1))
    assert layout.spread(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[[1, 1, 2, 2], [3, 3, 4, 4]]]


def test_the_whole_frame_is_the_special_case_of_one_tile(toy):
    assert (toy.layout.tiles, toy.layout.tile_views, toy.layout.tile_tokens) == (1, 3, 12)
    assert replace(toy.layout, cut="view").tiles == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 0}, "expected views >= 1, got 0"),
        ({"grid": (1, 3, 5)}, "expected a grid of 12 tokens"),
        ({"groups": ((0,), (0, 1))}, "holds? each of 3 views once"),
        ({"cut": "camera"}, "expected cut 'frame', 'view' or"),
        ({"cut": (2, 1)}, "divides 3 rows, got 2"),
        ({"grid": None, "cut": (1, 2)}, "expected a grid for cut"),
        ({"action_size": -1}, "action_size >= 0"),
    ],
)
def test_an_impossible_layout_is_refused(toy, change, message):
    with pytest.raises(ValueError, match=message):
        replace(toy.layout, **change)


def test_a_plan_needs_steps_and_blocks(toy):
    with pytest.raises(ValueError, match="expected steps >= 1"):
        Plan(0, 3, toy.layout)
