"""RMS normalisation whose gain follows the input's number format, so that the fused kernel serves mixed precision too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divide the last axis by its root mean square, times a learned gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> the same."""
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype))
