"""What a block's input looked like: a few tokens, the mean token, and the norms that a comparison needs."""

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES = ("spatial", "mean", "action")
EPS = 1e-12  # added to squared norms: two zero vectors are alike, zero and anything else are not


class Fingerprint(NamedTuple):
    """Fingerprint of every tile, or of the tiles of n blocks, [n, B, ...] each. Both float32."""

    spatial: Tensor  # [B, R, Vt, K, C] sampled tokens: exact copies
    mean: Tensor  # [B, R, Vt, C] mean over the tile's tokens


class Similarity(NamedTuple):
    """The two metrics of the gate, float32 [B, R]; not finite where an input is not."""

    cosine: Tensor  # the smallest over all entries
    deviation: Tensor  # the largest over spatial entries


def fingerprint(tiles: Tensor, samples: Tensor) -> Fingerprint:
    """Fingerprint of tiles [B, R, Vt, Nt, C]; `samples` int64 [K] are token indices.

    A value that is not finite anywhere in a tile shows in its mean, hence in every cosine taken with it.
    """
    return Fingerprint(tiles.index_select(3, samples).float(), mean_token(tiles))


def sizes(of: Fingerprint, members: Tensor) -> Tensor:
    """What comparisons need to know of the stored side, float32 [..., B, R, G, 3]: squared norms of spatial and of mean,
    and mean|spatial|, for each of the G groups of views. `members` float32 [Vt, G] says which view is in which.
    """
    flat = of.spatial.flatten(-2)
    squares = group_sum(_products(flat, flat, of.mean, of.mean), members)
    size = group_sum(flat.abs().mean(-1, keepdim=True), members) / members.sum(0).unsqueeze(-1)
    return torch.cat([squares, size], dim=-1)


def mean_token(tiles: Tensor) -> Tensor:
    """Mean over the tokens of [..., Nt, C], float32; half precision cannot hold the sum, the others can."""
    exact = torch.float32 if tiles.dtype == torch.float16 else None
    return tiles.sum(-2, dtype=exact).float() / tiles.shape[-2]


def similarity(
    now: Fingerprint,
    old: Fingerprint,
    old_sizes: Tensor,
    members: Tensor,
    action_cosine: Tensor | None,
    entries: Collection[str] = ENTRIES,
) -> Similarity:
    """Compare tile by tile.

    `cosine` is the minimum over the entries (spatial and mean of every view group, action) of the cosine; `deviation`
    the maximum over spatial entries of max|now - old| / (mean|old| + eps). `action_cosine` [B, R], where there is one.
    Entries that are left out still show what is not finite.
    """
    flat_now, flat_old = now.spatial.flatten(3), old.spatial.flatten(3)
    dots = group_sum(_products(flat_now, flat_old, now.mean, old.mean), members)
    squares = group_sum(_products(flat_now, flat_now, now.mean, now.mean), members)
    peak = group_max((flat_now - flat_old).abs_().amax(-1), members)
    return _metrics(dots, squares, old_sizes, peak, action_cosine, entries)


def similarity_ahead(
    now: Fingerprint,
    old: Fingerprint,
    old_sizes: Tensor,
    members: Tensor,
    action_cosine: Tensor | None,
    entries: Collection[str] = ENTRIES,
) -> Similarity:
    """The same for n blocks in a row, [n, B, R], from the input of the first one alone.

    `old` [n, B, R, ...] was taken in one pass, so old input and old residual of each block add up to the old input of
    the next. Skips add these residuals again: every input will differ from its old one by what the first does now.
    """
    moved = (now.spatial - old.spatial[0]).flatten(3), now.mean - old.mean[0]
    along = group_sum(_products(old.spatial.flatten(4), moved[0], old.mean, moved[1]), members)
    length = group_sum(_products(moved[0], moved[0], moved[1], moved[1]), members)
    squares = old_sizes[..., :2]
    peak = group_max(moved[0].abs().amax(-1), members)
    return _metrics(
        squares + along, squares + (2.0 * along + length), old_sizes, peak, action_cosine, entries
    )


def _metrics(
    dots: Tensor,
    squares: Tensor,
    old_sizes: Tensor,
    peak: Tensor,
    action_cosine: Tensor | None,
    entries: Collection[str],
) -> Similarity:
    """From dot products and squared norms of what is new [..., G, 2], and the largest changes [..., G]."""
    cosines = cosine_of(dots, squares, old_sizes[..., :2]).amin(-2)  # [..., 2]
    left_out = [column for column, entry in enumerate(("spatial", "mean")) if entry not in entries]
    for column in left_out:
        cosines.select(-1, column).mul_(0.0).add_(1.0)
    cosine = cosines.amin(-1)
    if action_cosine is not None and "action" in entries:
        cosine = torch.minimum(cosine, action_cosine)
    return Similarity(cosine, (peak / (old_sizes[..., 2] + 1e-6)).amax(-1))


def _products(spatial_a: Tensor, spatial_b: Tensor, mean_a: Tensor, mean_b: Tensor) -> Tensor:
    """Dot products per view, [..., Vt, 2]."""
    return torch.stack([(spatial_a * spatial_b).sum(-1), (mean_a * mean_b).sum(-1)], dim=-1)


def relative_l1(now: Fingerprint, old: Fingerprint) -> Tensor:
    """mean|now - old| / mean|old| over a tile's sampled tokens, float32 [B, R]."""
    change = (now.spatial - old.spatial).abs_().mean((2, 3, 4))
    return change / (old.spatial.abs().mean((2, 3, 4)) + 1e-6)


def cosine_of(dot: Tensor, norm2_a: Tensor, norm2_b: Tensor) -> Tensor:
    """Cosine from a dot product and squared norms, at most 1; 1 between two zero vectors."""
    return ((dot + EPS) * ((norm2_a + EPS) * (norm2_b + EPS)).rsqrt()).clamp_max(1.0)


def vector_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of vectors [..., A]."""
    return cosine_of((a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1))


@lru_cache(maxsize=64)
def group_members(groups: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """Which view of a tile is in which group, float32 [Vt, G]; shared, so not to be written to."""
    with torch.inference_mode(False):
        members = torch.zeros(sum(len(group) for group in groups), len(groups))
        for g, group in enumerate(groups):
            members[list(group), g] = 1.0
        return members.to(device)


def group_sum(per_view: Tensor, members: Tensor) -> Tensor:
    """[..., Vt, n] summed over the views of each group: [..., G, n]."""
    if members.shape[1] == 1:
        return per_view.sum(-2, keepdim=True)
    return members.mT @ per_view


def group_max(per_view: Tensor, members: Tensor) -> Tensor:
    """[..., Vt] to the largest of each group [..., G], for numbers >= 0."""
    if members.shape[1] == 1:
        return per_view.amax(-1, keepdim=True)
    return (per_view.unsqueeze(-1) * members).amax(-2)
