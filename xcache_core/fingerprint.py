"""What a block's input looked like: a few tokens, the mean token, and the norms that a comparison needs."""

from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES = ("spatial", "mean", "action")
EPS = 1e-12  # added to squared norms and dot products: two zero vectors are alike, zero and anything else are not


class Fingerprint(NamedTuple):
    """Fingerprint of every tile, or of the tiles of n blocks, [n, B, ...] each."""

    tokens: Tensor  # float32 [B, R, Vt, K + 1, C]: sampled tokens, exact copies, and the mean over the tile's tokens

    @property
    def spatial(self) -> Tensor:
        """The sampled tokens, [B, R, Vt, K, C]."""
        return self.tokens[..., :-1, :]

    @property
    def mean(self) -> Tensor:
        """The mean token, [B, R, Vt, C]."""
        return self.tokens[..., -1, :]


class Similarity(NamedTuple):
    """The two metrics of the gate, float32 [B, R]; not finite where an input is not."""

    cosine: Tensor  # the smallest over all entries
    deviation: Tensor | None  # the largest over spatial entries; None where nobody wants to know


def fingerprint(tiles: Tensor, samples: Tensor) -> Fingerprint:
    """Fingerprint of tiles [B, R, Vt, Nt, C]; `samples` int64 [K] are token indices.

    A value that is not finite anywhere in a tile shows in its mean, hence in every cosine taken with it.
    """
    sampled, mean = tiles.index_select(3, samples).float(), mean_token(tiles).unsqueeze(3)
    return Fingerprint(torch.cat([sampled, mean], dim=3))


def sizes(of: Fingerprint, members: Tensor) -> Tensor:
    """What comparisons need to know of the stored side, float32 [..., B, R, G, 3]: squared norms of spatial and of mean, EPS
    added, and mean|spatial|, for each of the G groups of views.
    """
    tokens, members_spatial = of.tokens, members[:, :1]
    squares = group_sum((tokens * tokens).sum(-1), members) + EPS
    count = members_spatial.sum((2, 3)) * tokens.shape[-1]
    return torch.cat([squares, group_sum(tokens.abs().sum(-1), members_spatial) / count], dim=-1)


def mean_token(tiles: Tensor) -> Tensor:
    """Mean over the tokens of [..., Nt, C], float32; half precision cannot hold the sum, the others can."""
    return tiles.mean(-2, dtype=torch.float32 if tiles.dtype == torch.float16 else None).float()


def similarity(
    now: Fingerprint,
    old: Fingerprint,
    old_sizes: Tensor,
    members: Tensor,
    action_cosine: Tensor | None,
    limited: bool = True,
    entries: Collection[str] = ENTRIES,
) -> Similarity:
    """Compare tile by tile.

    `cosine` is the minimum over the entries (spatial and mean of every view group, action) of the cosine; `deviation`
    the maximum over spatial entries of max|now - old| / (mean|old| + eps), where it is `limited`. `action_cosine` [B, R],
    where there is one. Entries that are left out still show what is not finite.
    """
    dots = group_sum((now.tokens * old.tokens).sum(-1), members) + EPS
    squares = group_sum((now.tokens * now.tokens).sum(-1), members) + EPS
    cosine = _smallest(dots, squares, old_sizes, action_cosine, entries)
    return Similarity(cosine, _largest(now.tokens - old.tokens, old_sizes, members) if limited else None)


def similarity_ahead(
    now: Fingerprint,
    old: Fingerprint,
    old_sizes: Tensor,
    members: Tensor,
    action_cosine: Tensor | None,
    limited: bool = True,
    entries: Collection[str] = ENTRIES,
) -> Similarity:
    """The same for n blocks in a row, [n, B, R], from the input of the first one alone.

    `old` [n, B, R, ...] was taken in one pass, so old input and old residual of each block add up to the old input of
    the next. Skips add these residuals again: every input will differ from its old one by what the first does now.
    """
    moved = now.tokens - old.tokens[0]
    products = (old.tokens * moved).sum(-1), (moved * moved).sum(-1).unsqueeze(0)
    summed = group_sum(torch.cat(products), members)
    along, length = summed[:-1], summed[-1]
    dots = old_sizes[..., :2] + along
    cosine = _smallest(dots, dots + along + length, old_sizes, action_cosine, entries)
    return Similarity(cosine, _largest(moved, old_sizes, members) if limited else None)


def _smallest(
    dots: Tensor, squares: Tensor, old_sizes: Tensor, action_cosine: Tensor | None, entries: Collection[str]
) -> Tensor:
    """The smallest cosine, from dot products and squared norms of what is new [..., G, 2], EPS added to both."""
    cosines = dots * (squares * old_sizes[..., :2]).rsqrt()
    left_out = [column for column, entry in enumerate(("spatial", "mean")) if entry not in entries]
    for column in left_out:
        cosines.select(-1, column).mul_(0.0).add_(1.0)
    cosine = cosines.amin((-2, -1)).clamp_max_(1.0)
    if action_cosine is not None and "action" in entries:
        cosine = torch.minimum(cosine, action_cosine)
    return cosine


def _largest(moved: Tensor, old_sizes: Tensor, members: Tensor) -> Tensor:
    """The largest relative change of a sampled token, from changes [..., Vt, K + 1, C]."""
    peak = group_max(moved[..., :-1, :].abs().amax((-2, -1)), members)
    return (peak / (old_sizes[..., 2] + 1e-6)).amax(-1)


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
def group_members(groups: tuple[tuple[int, ...], ...], samples: int, device: torch.device) -> Tensor:
    """Which tokens of a fingerprint are in which entry, float32 [G, 2, Vt, K + 1]: sampled ones, and means, of each group of
    views; shared, so not to be written to.
    """
    with torch.inference_mode(False):
        members = torch.zeros(len(groups), 2, sum(len(group) for group in groups), samples + 1)
        for g, group in enumerate(groups):
            members[g, 0, list(group), :-1] = 1.0
            members[g, 1, list(group), -1] = 1.0
        return members.to(device)


def group_sum(per_token: Tensor, members: Tensor) -> Tensor:
    """[..., Vt, K + 1] summed over each entry: [..., G, n] with members [G, n, ...]. Not a matrix product: those round
    differently for another number of rows.
    """
    return (per_token.flatten(-2)[..., None, None, :] * members.flatten(2)).sum(-1)


def group_max(per_view: Tensor, members: Tensor) -> Tensor:
    """[..., Vt] to the largest of each group [..., G], for numbers >= 0."""
    return (per_view.unsqueeze(-2) * members[:, 0, :, 0]).amax(-1)
