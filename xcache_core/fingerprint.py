"""What a block's input looked like: a few tokens, the mean token and the action, with the moments a comparison needs."""

from typing import NamedTuple

import torch
from torch import Tensor

from .plan import Layout


class Fingerprint(NamedTuple):
    """Fingerprint of every tile. The entries of the paper are sums over the views of a group."""

    spatial: Tensor  # [B, R, Vt, K, C] sampled tokens, in the input's dtype: exact copies
    mean: Tensor  # float32 [B, R, Vt, C] mean over the tile's tokens
    action: Tensor  # float32 [B, R, A]
    moments: Tensor  # float32 [B, R, Vt, 3]: squared norm and mean magnitude of spatial, squared norm of mean


def fingerprint(tiles: Tensor, samples: Tensor, action: Tensor) -> Fingerprint:
    """Fingerprint of tiles [B, R, Vt, Nt, C]; `samples` int64 [K] are token indices, `action` is float32 [B, A].

    A value that is not finite anywhere in a tile shows in its mean, hence in every cosine taken with it.
    """
    spatial = tiles.index_select(3, samples)
    mean = tiles.mean(3, dtype=torch.float32)
    return Fingerprint(
        spatial, mean, action.unsqueeze(1).expand(-1, tiles.shape[1], -1), _moments(spatial, mean)
    )


def _moments(spatial: Tensor, mean: Tensor) -> Tensor:
    flat = spatial.float().flatten(3)
    return torch.stack([(flat * flat).sum(-1), flat.abs().mean(-1), (mean * mean).sum(-1)], dim=-1)


class Similarity(NamedTuple):
    """The two metrics of the gate, float32 [B, R] each; NaN where something is not finite."""

    cosine: Tensor  # the smallest over all entries
    deviation: Tensor  # the largest over spatial entries


def similarity(current: Fingerprint, old: Fingerprint, layout: Layout, *, eps: float = 1e-6) -> Similarity:
    """Compare tile by tile.

    `cosine` is the minimum over the entries (spatial and mean of every view group, action) of the cosine;
    `deviation` the maximum over spatial entries of max|current - old| / (mean|old| + eps).
    """
    now, was = current.spatial.float().flatten(3), old.spatial.float().flatten(3)
    dots = torch.stack([(now * was).sum(-1), (current.mean * old.mean).sum(-1)], dim=-1)  # [B, R, Vt, 2]
    entries = [dots, current.moments[..., 0::2], old.moments[..., 0::2]]
    dot, norm_now, norm_old = (group_sum(entry, layout) for entry in entries)  # [B, R, groups, 2]
    cosine = cosine_of(dot, norm_now, norm_old).flatten(2)
    if layout.action_size:
        cosine = torch.cat([cosine, _action_cosine(current.action, old.action)], dim=-1)
    peak = group_max((now - was).abs().amax(-1), layout)
    size = group_sum(old.moments[..., 1:2], layout).squeeze(-1) / group_sizes(layout, peak.device)
    return Similarity(cosine.amin(-1), (peak / (size + eps)).amax(-1))


def relative_l1(current: Fingerprint, old: Fingerprint, *, eps: float = 1e-6) -> Tensor:
    """mean|current - old| / mean|old| over a tile's sampled tokens, float32 [B, R]."""
    change = (current.spatial.float() - old.spatial.float()).abs().mean((2, 3, 4))
    return change / (old.moments[..., 1].mean(2) + eps)


def cosine_of(dot: Tensor, norm2_a: Tensor, norm2_b: Tensor) -> Tensor:
    """Cosine from a dot product and squared norms; 1 between two zero vectors, 0 between zero and anything else."""
    cosine = dot * (norm2_a * norm2_b).clamp_min(1e-24).rsqrt()
    return torch.where((norm2_a + norm2_b) < 1e-12, 1.0, cosine).clamp_max(1.0)


def _action_cosine(now: Tensor, was: Tensor) -> Tensor:
    return cosine_of((now * was).sum(-1), (now * now).sum(-1), (was * was).sum(-1)).unsqueeze(-1)


def group_sum(per_view: Tensor, layout: Layout) -> Tensor:
    """[B, R, Vt, ...] summed over the views of each group: [B, R, groups, ...]."""
    if len(layout.tile_groups) == 1:
        return per_view.sum(2, keepdim=True)
    return torch.stack([per_view[:, :, list(group)].sum(2) for group in layout.tile_groups], dim=2)


def group_max(per_view: Tensor, layout: Layout) -> Tensor:
    """[B, R, Vt] to the largest of each group: [B, R, groups]."""
    if len(layout.tile_groups) == 1:
        return per_view.amax(2, keepdim=True)
    return torch.stack([per_view[:, :, list(group)].amax(2) for group in layout.tile_groups], dim=2)


def group_sizes(layout: Layout, device: torch.device) -> Tensor:
    """Views in each group, float32 [groups]."""
    return torch.tensor([float(len(group)) for group in layout.tile_groups], device=device)
