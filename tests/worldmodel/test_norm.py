"""The RMS norm that is fast on a CPU says what the plain one says."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from worldmodel.model.norm import RMSNorm, by_length


@given(st.integers(1, 64), st.floats(1e-6, 1e3), st.integers(0, 10))
def test_the_norm_by_length_is_the_rms_norm(width: int, size: float, seed: int) -> None:
    x = size * torch.randn(3, 2, width, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(by_length(x), F.rms_norm(x, (width,)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_and_generating_normalise_alike(dtype: torch.dtype) -> None:
    norm = RMSNorm(64).to(dtype)
    norm.weight.data.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 7, 64, generator=torch.Generator().manual_seed(1)).to(dtype).transpose(1, 2)
    with torch.no_grad():
        generating = norm(x)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(generating, norm(x).detach(), rtol=tolerance, atol=tolerance)


def test_a_vector_of_zeros_stays_zero() -> None:
    assert not by_length(torch.zeros(2, 8)).any()
