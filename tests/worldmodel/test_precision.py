"""Networks compute in the format that the machine is fast in."""

import pytest
import torch

from worldmodel.model.precision import fast_autocast, fast_dtype


@pytest.mark.parametrize(("fast", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_computes_in_bfloat16_only_where_that_is_fast(
    monkeypatch: pytest.MonkeyPatch, fast: bool, wanted: torch.dtype
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    weight = torch.eye(4)
    assert fast_dtype(torch.device("cpu")) == wanted
    with fast_autocast("cpu"):
        assert (weight @ weight).dtype == wanted
    assert (weight @ weight).dtype == torch.float32
