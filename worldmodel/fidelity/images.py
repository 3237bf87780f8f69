"""Picture error of generated frames against a reference: PSNR and SSIM."""

import torch
import torch.nn.functional as F

MAX_PSNR_DB = 100.0  # reported for equal pictures


def psnr(images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio over the last three axes [dB].

    Args:
        images: uint8 or float 0..255, [..., H, W, 3].
        reference: the same shape.

    Returns:
        float32 [...], at most 100.
    """
    error = (images.float() - reference.float()).square().mean(dim=(-3, -2, -1))
    return (10 * torch.log10(255.0**2 / error.clamp_min(1e-12))).clamp_max(MAX_PSNR_DB)


def ssim(images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Structural similarity on luma with an 11-tap Gaussian window (Wang et al. 2004, eq. 13).

    Args:
        images: uint8 or float 0..255, [..., H, W, 3].
        reference: the same shape.

    Returns:
        float32 [...].
    """
    shape = images.shape[:-3]
    x, y = (_luma(t).reshape(-1, 1, *t.shape[-3:-1]) for t in (images, reference))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x.square()
    var_y = _blur(y * y) - mean_y.square()
    cov = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(-3, -2, -1)).reshape(shape)


def _luma(images: torch.Tensor) -> torch.Tensor:
    """ITU-R BT.601 luma, [..., H, W]."""
    return images.float() @ images.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32)


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Separable Gaussian, sigma 1.5, without padding: [N, 1, H, W] -> [N, 1, H - 10, W - 10]."""
    taps = torch.exp(-torch.arange(-5.0, 6.0, device=x.device).square() / (2 * 1.5**2))
    taps = taps / taps.sum()
    return F.conv2d(F.conv2d(x, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
