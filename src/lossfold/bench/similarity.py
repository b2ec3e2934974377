"""Structural similarity as people write it in plain PyTorch: the truth of its cases in float64, else the provider "eager"."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW_SIZE, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
SIGMAS, WIDEST = (0.5, 1.0, 2.0, 4.0, 8.0), 33
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(pred: Tensor, target: Tensor, reflected: bool = False) -> Tensor:
    """1 - mean SSIM over all places of a Gaussian window of 11 pixels (Wang et al., 2004), or around every pixel."""
    target = target.to(pred.dtype)
    if reflected:
        borders = (WINDOW_SIZE // 2,) * 2 * (pred.dim() - 2)
        pred, target = (functional.pad(image, borders, mode="reflect") for image in (pred, target))
    luminance, contrast = comparisons(pred, target)
    return 1 - (luminance * contrast).mean()


def l1_ssim(pred: Tensor, target: Tensor) -> Tensor:
    """3-D Gaussian splatting's 0.8 L1 + 0.2 (1 - SSIM), with zeros around the images (Kerbl et al., 2023)."""
    target = target.to(pred.dtype)
    wide_pred, wide_target = (functional.pad(image, (WINDOW_SIZE // 2,) * 4) for image in (pred, target))
    return 0.8 * (pred - target).abs().mean() + 0.2 * ssim(wide_pred, wide_target)


def ms_ssim_l1(pred: Tensor, target: Tensor) -> Tensor:
    """0.84 (1 - l·Π c) + 0.16 G * |p - t| of five windows at full resolution, zeros around the images (Zhao et al., 2017)."""
    target, alike = target.to(pred.dtype), torch.ones_like(pred)
    for sigma in SIGMAS:
        wide_pred, wide_target = (functional.pad(image, (WIDEST // 2,) * 4) for image in (pred, target))
        luminance, contrast = comparisons(wide_pred, wide_target, WIDEST, sigma)
        alike = alike * contrast
    away = filtered(functional.pad((pred - target).abs(), (WIDEST // 2,) * 4), WIDEST, SIGMAS[-1])
    return (0.84 * (1 - luminance * alike) + 0.16 * away).mean()


def ms_ssim(pred: Tensor, target: Tensor) -> Tensor:
    """1 - MS-SSIM of five scales, the mean over images and channels (Wang et al., 2003)."""
    target, scores = target.to(pred.dtype), []
    for scale in range(len(BETAS)):
        if scale:
            pred, target = functional.avg_pool2d(pred, 2), functional.avg_pool2d(target, 2)
        luminance, contrast = comparisons(pred, target)
        last = scale == len(BETAS) - 1
        scores.append((luminance * contrast if last else contrast).flatten(2).mean(2).relu())
    return 1 - (torch.stack(scores, -1) ** pred.new_tensor(BETAS)).prod(-1).mean()


def comparisons(pred: Tensor, target: Tensor, size: int = WINDOW_SIZE, sigma: float = SIGMA) -> tuple[Tensor, Tensor]:
    """SSIM's two factors at every place of the window: of luminance, and of contrast and structure."""
    mean_p, mean_t, square_p, square_t, both = (
        filtered(image, size, sigma) for image in (pred, target, pred * pred, target * target, pred * target)
    )
    var_p, var_t, covariance = square_p - mean_p * mean_p, square_t - mean_t * mean_t, both - mean_p * mean_t
    luminance = (2 * mean_p * mean_t + C1) / (mean_p * mean_p + mean_t * mean_t + C1)
    return luminance, (2 * covariance + C2) / (var_p + var_t + C2)


def filtered(image: Tensor, size: int = WINDOW_SIZE, sigma: float = SIGMA) -> Tensor:
    """The Gaussian means of each channel, where the whole window fits: one depthwise convolution, in volumes one an axis."""
    distances = torch.arange(size, dtype=torch.float64, device=image.device) - size // 2
    row = (-(distances**2) / (2 * sigma**2)).exp()
    row = (row / row.sum()).to(image.dtype)
    channels = image.shape[1]
    if image.dim() == 4:
        return functional.conv2d(image, (row[:, None] * row).expand(channels, 1, -1, -1), groups=channels)
    for sides in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        image = functional.conv3d(image, row.view(1, 1, *sides).expand(channels, 1, *row.view(sides).shape), groups=channels)
    return image
