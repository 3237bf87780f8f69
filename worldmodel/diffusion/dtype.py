"""The number format of weights and KV."""

import torch


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where matrix products are fast in it, float32 elsewhere."""
    fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
