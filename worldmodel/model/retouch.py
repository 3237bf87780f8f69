"""Road users in their own colour: newcomers are painted into the carried pictures, the others are kept from fading.

Pictures can only carry what they show, and what is carried from hand-over to hand-over turns grey. The layout knows where
road users are and what colour they have, the atmosphere how bright that looks. A newcomer starts as a flat patch that
the guess can make a car of; whoever was seen keeps windows and shade, and is tinted a little towards its colour.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layout.air import Air
from ..layout.channels import INDEX
from .config import RASTER_STRIDE
from .history import History
from .tokenizer import INT8_ONE

TINT = 0.2  # of the way, at every hand-over
_COLOR = slice(INDEX["color_red"], INDEX["color_blue"] + 1)
_HEADING = slice(INDEX["heading_cos"], INDEX["heading_sin"] + 1)
# Glass, tyres and shade take their part of a vehicle's box. Fitted to held-out frames by day.
_BODY_SHARE, _REST = 0.55, 0.25
_AROUND = 5  # raster cells over which a tint is worked out: windows stay darker than doors


def retouch(history: History, layout: Tensor, depth: Tensor, air: Air) -> History:
    """Paint road users that nobody saw, which count as carried then, and tint those that somebody did.

    Args:
        history: axes [B, ..., F, ...].
        layout: int8 (127 is 1) or float [B, ..., F, C, h, w].
        depth: [B, ..., F, h, w] metres along the rays.
        air: of the B sessions.
    """
    share = _of_order_one(layout[..., _HEADING, :, :]).square().sum(dim=-3).sqrt()  # of each cell
    touched = (share > 0).flatten(-2).any(dim=-1)  # images: some of all
    if not bool(touched.any()):
        return history
    own = _of_order_one(layout[..., _COLOR, :, :]) / share.clamp_min(1 / 8).unsqueeze(-3)
    color = air.seen(_BODY_SHARE * own.clamp(max=1) + (1 - _BODY_SHARE) * _REST, depth)
    unseen = (share > 0) & (history.valid < 0.5)
    pictures = history.pictures.clone()
    pictures[touched] = _retouched(pictures[touched], color[touched], share[touched], unseen[touched])
    return History(pictures, torch.where(unseen & (share > 0.5), 1.0, history.valid))


def _retouched(pictures: Tensor, color: Tensor, share: Tensor, unseen: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] whose cells [N, h, w] are road users to a share, with colours [N, 3, h, w]."""
    share, unseen = share[:, None], unseen[:, None]
    tint = TINT * _tint(pictures, color, share * ~unseen)
    color, tint, whole = _enlarged(torch.cat([color * share, tint, share], dim=1)).split([3, 3, 1], dim=1)
    hole = F.interpolate(unseen.float(), scale_factor=RASTER_STRIDE)
    cover = ((whole - 0.25) * 2).clamp(0, 1) * hole  # edges within about a raster cell
    painted = torch.lerp(pictures.float() + tint * (1 - hole), color / whole.clamp_min(1e-3), cover)
    return painted.clamp(0, 1).to(pictures.dtype)


def _tint(pictures: Tensor, color: Tensor, share: Tensor) -> Tensor:
    """What road users lack to their colour, in the mean of what surrounds each cell; as much of it as they fill the cell."""
    lack = color - F.avg_pool2d(pictures.float(), RASTER_STRIDE)
    return share * _around(lack * share) / _around(share).clamp_min(1e-3)


def _around(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, _AROUND, stride=1, padding=_AROUND // 2)


def _enlarged(cells: Tensor) -> Tensor:
    return F.interpolate(cells, scale_factor=RASTER_STRIDE, mode="bilinear", align_corners=False)


def _of_order_one(raster: Tensor) -> Tensor:
    return raster.float() / INT8_ONE if raster.dtype == torch.int8 else raster.float()
