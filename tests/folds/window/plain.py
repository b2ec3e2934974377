"""SSIM and MS-SSIM as people write them in PyTorch, at the dtype of their inputs: the yardstick, and the truth in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.contract.case import Data
from tests.folds.window.oracles import BETAS, gaussian

Options = Mapping[str, Any]
MODES = {"reflect": "reflect", "zeros": "constant"}


def mean_around(image: Tensor, options: Options) -> Tensor:
    taps = torch.from_numpy(gaussian(options)).to(image)
    channels, padding = image.shape[1], options.get("padding", "valid")
    if padding != "valid":
        image = functional.pad(image, (len(taps) // 2,) * 4, mode=MODES[padding])
    for kernel in (taps[None, :], taps[:, None]):
        image = functional.conv2d(image, kernel.expand(channels, 1, -1, -1), groups=channels)
    return image


def inner(weight: Tensor, options: Options) -> Tensor:
    radius = options.get("window_size", 11) // 2
    rows, columns = weight.shape[2:]
    return weight[..., radius : rows - radius, radius : columns - radius] if options.get("padding", "valid") == "valid" else weight


def comparisons(p: Tensor, t: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    c1, c2 = ((options.get(k, default) * options.get("data_range", 1.0)) ** 2 for k, default in (("k1", 0.01), ("k2", 0.03)))
    mean_p, mean_t = mean_around(p, options), mean_around(t, options)
    var_p = mean_around(p * p, options) - mean_p**2
    var_t = mean_around(t * t, options) - mean_t**2
    covariance = mean_around(p * t, options) - mean_p * mean_t
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    return luminance, (2 * covariance + c2) / (var_p + var_t + c2)


def mean_of(values: Tensor, weights: Tensor, dim: tuple[int, ...]) -> Tensor:
    total = weights.sum(dim)
    return torch.where(total > 0, (values * weights).sum(dim) / total.where(total > 0, 1), 0)


def reduced(losses: Tensor, weights: Tensor, options: Options) -> Tensor:
    dims, reduction = tuple(range(losses.dim())), options.get("reduction", "mean")
    if options.get("sample_wise"):
        return mean_of(losses, weights, dims[1:]).mean()
    return (
        mean_of(losses, weights, dims)
        if reduction == "mean"
        else (losses * weights).sum()
        if reduction == "sum"
        else losses * weights
    )


def ssim(p: Tensor, t: Tensor, weight: Tensor, options: Options) -> Tensor:
    luminance, contrast = comparisons(p, t, options)
    return reduced(1 - luminance * contrast, inner(weight, options), options)


def ms_ssim(p: Tensor, t: Tensor, weight: Tensor, options: Options) -> Tensor:
    betas = options.get("betas", BETAS)
    product, counts = p.new_ones(p.shape[:2]), p.new_ones(p.shape[:2])
    for scale, beta in enumerate(betas):
        if scale:
            p, t, weight = (functional.avg_pool2d(one, 2) for one in (p, t, weight))
        luminance, contrast = comparisons(p, t, options)
        w = inner(weight, options)
        mean = mean_of(luminance * contrast if scale == len(betas) - 1 else contrast, w, (2, 3))
        product = product * torch.where(mean > 0, mean.where(mean > 0, 1) ** beta, 0)
        counts = counts * (w.sum((2, 3)) > 0)
    return reduced(1 - product, counts, options)


def l1_ssim(p: Tensor, t: Tensor, weight: Tensor, options: Options) -> Tensor:
    options = {"padding": "zeros", **options}
    luminance, contrast = comparisons(p, t, options)
    share, reduction = options.get("ssim_weight", 0.2), options.get("reduction", "mean")
    parts = [((1 - share) * (p - t).abs(), weight), (share * (1 - luminance * contrast), inner(weight, options))]
    if reduction == "none":
        return parts[0][0].new_zeros(()) + sum(mean_of(*part, (2, 3)) for part in parts)
    return parts[0][0].new_zeros(()) + sum(reduced(*part, options) for part in parts)


PLAIN = {"SSIMLoss": ssim, "MSSSIMLoss": ms_ssim, "L1SSIMLoss": l1_ssim}


def evaluate(name: str, data: Data, options: Options) -> Tensor:
    """The value of a registered loss, options as its constructor takes them."""
    p, t, weight = data.pred, data.truth, data.weight
    p = p.sigmoid() if options.get("link") == "sigmoid" else p
    weight = p.new_ones(()) if weight is None else weight
    weight = weight[:, None] if weight.dim() == 3 else weight
    return PLAIN[name](p, t.to(p.dtype), weight.to(p.dtype).expand(p.shape), options)
