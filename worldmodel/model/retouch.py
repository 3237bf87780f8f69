"""Road users in their own colour: newcomers are painted into the carried pictures, the others are kept from fading.

Pictures can only carry what they show, and what is carried from hand-over to hand-over turns grey. The layout knows where
road users are and what colour they have, the atmosphere how bright that looks. A newcomer starts as a flat patch that
the guess can make a car of; whoever was seen keeps windows and shade, and is tinted a little towards its colour.

Everything is worked out per raster cell and refined to the pixels of those cells that road users fill: few of all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layout.air import Air
from ..layout.channels import INDEX
from .config import RASTER_STRIDE
from .folding import bilinear_taps
from .history import History
from .tokenizer import INT8_ONE

TINT = 0.35  # of the way to the own colour, at every hand-over
SMALL_CELLS = 6.0  # what fills fewer raster cells around a place has no windows to keep and is tinted more, at most all of the way
PAINTED_SHARE = 0.25  # cells that a newcomer fills to more than this count as carried
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
    if not bool((share > 0).any()):
        return history
    own = _of_order_one(layout[..., _COLOR, :, :]) / share.clamp_min(1 / 8).unsqueeze(-3)
    color = air.seen(_BODY_SHARE * own.clamp(max=1) + (1 - _BODY_SHARE) * _REST, depth)
    unseen = (share > 0) & (history.valid < 0.5)
    lead = share.shape[:-2]
    pictures = _retouched(
        history.pictures.flatten(0, -4), color.flatten(0, -4), share.flatten(0, -3), unseen.flatten(0, -3)
    )
    return History(
        pictures.unflatten(0, lead), torch.where(unseen & (share > PAINTED_SHARE), 1.0, history.valid)
    )


def _retouched(pictures: Tensor, color: Tensor, share: Tensor, unseen: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] whose cells [N, h, w] are road users to a share, with colours [N, 3, h, w]."""
    pictures = pictures.clone(memory_format=torch.contiguous_format)
    blocks = pictures.unflatten(-1, (-1, RASTER_STRIDE)).unflatten(-3, (-1, RASTER_STRIDE))  # N 3 h 4 w 4
    n, row, column = torch.nonzero(share > 0).unbind(-1)  # K cells
    pixels = blocks[n, :, row, :, column].float().flatten(-2)  # K 3 16
    known = share * ~unseen
    lack = torch.zeros_like(color)
    lack[n, :, row, column] = color[n, :, row, column] - pixels.mean(dim=-1)
    tint = known[:, None] * _tint(lack, known[:, None])
    coarse = torch.cat([color * share[:, None], tint, share[:, None]], dim=1)
    color, tint, whole = _refined(coarse, n, row, column).split([3, 3, 1], dim=1)  # K C 16
    hole = unseen[n, row, column][:, None, None]
    cover = ((whole - 0.25) * 2).clamp(0, 1) * hole  # edges within about a raster cell
    painted = torch.lerp(pixels + tint * ~hole, color / whole.clamp_min(1e-3), cover).clamp(0, 1)
    blocks[n, :, row, :, column] = painted.unflatten(-1, (RASTER_STRIDE, -1)).to(pictures.dtype)
    return pictures


def _tint(lack: Tensor, share: Tensor) -> Tensor:
    """A part of what road users lack to their colour, in the mean of those cells that surround each."""
    cells = torch.cat([lack * share, share], dim=1)
    # As a convolution: several times as fast as pooling.
    kernel = cells.new_ones(cells.shape[1], 1, _AROUND, _AROUND)
    around = F.conv2d(cells, kernel, padding=_AROUND // 2, groups=cells.shape[1])
    filled = around[:, -1:].clamp_min(1e-3)
    return (SMALL_CELLS / filled).clamp(TINT, 1) * around[:, :-1] / filled


def _refined(coarse: Tensor, n: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The pixels of K cells of images [N, C, h, w], bilinear between the centres of cells: [K, C, 16]."""
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")
    down, across = (
        step.flatten() for step in torch.meshgrid(*[torch.arange(3, device=n.device)] * 2, indexing="ij")
    )
    around = padded[n[:, None], :, row[:, None] + down, column[:, None] + across]  # K 9 C
    return torch.einsum("knc,pn->kcp", around, bilinear_taps(coarse.device).flatten(1))


def _of_order_one(raster: Tensor) -> Tensor:
    return raster.float() / INT8_ONE if raster.dtype == torch.int8 else raster.float()
