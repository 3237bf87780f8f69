"""Road users that nobody has seen yet: a patch of their own colour in the light of the day, not a hole.

Pictures can only carry what they show. The layout knows where a newcomer is and what colour it has, the atmosphere how
bright that looks; painted into the carried pictures it is something that the guess can make a car of.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layout.air import Air
from ..layout.channels import INDEX
from .config import RASTER_STRIDE
from .history import History
from .tokenizer import INT8_ONE

_COLOR = slice(INDEX["color_red"], INDEX["color_blue"] + 1)
_HEADING = slice(INDEX["heading_cos"], INDEX["heading_sin"] + 1)
# Glass, tyres and shade take their part of a vehicle's box. Fitted to held-out frames by day.
_BODY_SHARE, _REST = 0.55, 0.25


def paint_newcomers(history: History, layout: Tensor, depth: Tensor, air: Air) -> History:
    """Paint what is a road user and was not seen; it counts as carried then.

    Args:
        history: axes [B, ..., F, ...].
        layout: int8 (127 is 1) or float [B, ..., F, C, h, w].
        depth: [B, ..., F, h, w] metres along the rays.
        air: of the B sessions.
    """
    share = _of_order_one(layout[..., _HEADING, :, :]).square().sum(dim=-3).sqrt()  # of each cell
    unseen = (share > 0) & (history.valid < 0.5)
    touched = unseen.flatten(-2).any(dim=-1)  # images: few of all
    if not bool(touched.any()):
        return history
    share = share.unsqueeze(-3)
    own = _of_order_one(layout[..., _COLOR, :, :]) / share.clamp_min(1 / 8)
    color = air.seen(_BODY_SHARE * own.clamp(max=1) + (1 - _BODY_SHARE) * _REST, depth)
    pictures = history.pictures.clone()
    paint = (part.to(pictures.dtype)[touched] for part in (color, share * unseen.unsqueeze(-3)))
    pictures[touched] = _painted(pictures[touched], *paint)
    return History(pictures, torch.where(unseen & (share.squeeze(-3) > 0.5), 1.0, history.valid))


def _painted(pictures: Tensor, color: Tensor, cover: Tensor) -> Tensor:
    """Pictures [N, 3, H, W], with a share [N, 1, h, w] of every cell in colours [N, 3, h, w]."""
    color, cover = (F.interpolate(x, scale_factor=RASTER_STRIDE) for x in (color, cover))
    return torch.lerp(pictures, color, cover)


def _of_order_one(raster: Tensor) -> Tensor:
    return raster.float() / INT8_ONE if raster.dtype == torch.int8 else raster.float()
