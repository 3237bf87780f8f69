"""Folding images to raster cells: the same as torch's own operations, which are slower."""

import torch
import torch.nn.functional as F

from worldmodel.model.folding import cell_means, fold, smooth


def test_folding_is_pixel_unshuffle() -> None:
    x = torch.rand(2, 6, 8, 12)
    torch.testing.assert_close(fold(x), F.pixel_unshuffle(x, 4), rtol=0, atol=0)
    assert fold(x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fold(x, 2.0, -1.0), F.pixel_unshuffle(x * 2 - 1, 4))


def test_means_are_those_of_cells() -> None:
    x = torch.rand(2, 3, 8, 12)
    torch.testing.assert_close(cell_means(fold(x)), F.avg_pool2d(x, 4))


def test_smoothing_is_bilinear_enlargement() -> None:
    means = torch.rand(2, 3, 5, 7)
    enlarged = F.interpolate(means, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(F.pixel_shuffle(smooth(means), 4), enlarged)
