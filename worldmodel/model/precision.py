"""The number format that networks compute in."""

import torch


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where matrix products are fast in it, float32 elsewhere."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def fast_autocast(device: torch.device | str) -> torch.autocast:
    """For training, whose weights are float32: nothing changes where bfloat16 is only imitated, ten times slower."""
    chosen = torch.device(device)
    return torch.autocast(chosen.type, torch.bfloat16, enabled=fast_dtype(chosen) == torch.bfloat16)
