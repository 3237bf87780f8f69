"""What a block's input looked like: a few tokens, the mean token, and the norms that a comparison needs."""

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES = ("spatial", "mean", "action")
EPS = 1e-12  # added to squared norms: two zero vectors are alike, zero and anything else are not


class Fingerprint(NamedTuple):
    """Fingerprint of every tile; G groups of views, each of which is one entry of the paper."""

    spatial: Tensor  # [B, R, Vt, K, C] sampled tokens, in the input's dtype: exact copies
    mean: Tensor  # float32 [B, R, Vt, C] mean over the tile's tokens
    norms: Tensor  # float32 [B, R, G, 2]: squared norms of spatial and of mean


class Similarity(NamedTuple):
    """The two metrics of the gate, float32 [B, R]; not finite where an input is not."""

    cosine: Tensor  # the smallest over all entries
    deviation: Tensor  # the largest over spatial entries


def fingerprint(tiles: Tensor, samples: Tensor, members: Tensor) -> Fingerprint:
    """Fingerprint of tiles [B, R, Vt, Nt, C].

    `samples` int64 [K] are token indices, `members` float32 [Vt, G] says which view is in which group. A value that
    is not finite anywhere in a tile shows in its mean, hence in every cosine taken with it.
    """
    spatial, mean = tiles.index_select(3, samples), mean_token(tiles)
    flat = spatial.float().flatten(3)
    return Fingerprint(spatial, mean, group_sum(_products(flat, flat, mean, mean), members))


def mean_token(tiles: Tensor) -> Tensor:
    """Mean over the tokens of [..., Nt, C], float32; half precision cannot hold the sum, the others can."""
    exact = torch.float32 if tiles.dtype == torch.float16 else None
    return tiles.sum(-2, dtype=exact).float() / tiles.shape[-2]


def similarity(
    now: Fingerprint,
    old: Fingerprint,
    members: Tensor,
    action_cosine: Tensor | None,
    entries: Collection[str] = ENTRIES,
) -> Similarity:
    """Compare tile by tile.

    `cosine` is the minimum over the entries (spatial and mean of every view group, action) of the cosine; `deviation`
    the maximum over spatial entries of max|now - old| / (mean|old| + eps). `action_cosine` [B, R], where there is one.
    Entries that are left out still show what is not finite.
    """
    flat_now, flat_old = now.spatial.float().flatten(3), old.spatial.float().flatten(3)
    dots = group_sum(_products(flat_now, flat_old, now.mean, old.mean), members)
    cosines = cosine_of(dots, now.norms, old.norms).amin(2)  # [B, R, 2]
    cosine = torch.ones_like(cosines[..., 0])
    for column, entry in enumerate(("spatial", "mean")):
        seen = cosines[..., column]
        cosine = torch.minimum(cosine, seen if entry in entries else 0.0 * seen + 1.0)
    if action_cosine is not None and "action" in entries:
        cosine = torch.minimum(cosine, action_cosine)
    peak = group_max((flat_now - flat_old).abs_().amax(-1), members)
    size = group_sum(flat_old.abs().mean(-1, keepdim=True), members).squeeze(-1) / members.sum(0)
    return Similarity(cosine, (peak / (size + 1e-6)).amax(-1))


def _products(spatial_a: Tensor, spatial_b: Tensor, mean_a: Tensor, mean_b: Tensor) -> Tensor:
    """Dot products per view, [B, R, Vt, 2]."""
    return torch.stack([(spatial_a * spatial_b).sum(-1), (mean_a * mean_b).sum(-1)], dim=-1)


def relative_l1(now: Fingerprint, old: Fingerprint) -> Tensor:
    """mean|now - old| / mean|old| over a tile's sampled tokens, float32 [B, R]."""
    flat_old = old.spatial.float()
    return (now.spatial.float() - flat_old).abs_().mean((2, 3, 4)) / (flat_old.abs().mean((2, 3, 4)) + 1e-6)


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
    """[B, R, Vt, n] summed over the views of each group: [B, R, G, n]."""
    if members.shape[1] == 1:
        return per_view.sum(2, keepdim=True)
    return members.mT @ per_view


def group_max(per_view: Tensor, members: Tensor) -> Tensor:
    """[B, R, Vt] to the largest of each group [B, R, G], for numbers >= 0."""
    if members.shape[1] == 1:
        return per_view.amax(2, keepdim=True)
    return (per_view.unsqueeze(-1) * members).amax(2)
