"""SSIM and MS-SSIM in float64 NumPy and SciPy, in the textbook's form: means, variances and a covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from tests.contract.case import Data

Array = np.ndarray[Any, np.dtype[Any]]
Options = Mapping[str, Any]
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MODES = {"valid": "constant", "zeros": "constant", "reflect": "mirror"}  # as SciPy calls them


def gaussian(options: Options) -> Array:
    size, sigma = options.get("window_size", 11), options.get("sigma", 1.5)
    if options.get("window") == "uniform":
        return np.full(size, 1 / size)
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    return taps / taps.sum()


def mean_around(image: Array, options: Options) -> Array:
    """The weighted mean in the window around each pixel; "valid" keeps those whose window fits."""
    taps, padding = gaussian(options), options.get("padding", "valid")
    for axis in (-2, -1):
        image = ndimage.correlate1d(image, taps, axis=axis, mode=MODES[padding], cval=0.0)
    return inner(image, options)


def inner(image: Array, options: Options) -> Array:
    radius = options.get("window_size", 11) // 2
    if options.get("padding", "valid") != "valid" or radius == 0:
        return image
    return image[..., radius:-radius, radius:-radius]


def comparisons(p: Array, t: Array, options: Options) -> tuple[Array, Array]:
    """Wang's two factors at every place: of luminance, and of contrast and structure."""
    c1, c2 = ((options.get(k, default) * options.get("data_range", 1.0)) ** 2 for k, default in (("k1", 0.01), ("k2", 0.03)))
    mean_p, mean_t = mean_around(p, options), mean_around(t, options)
    var_p = mean_around(p * p, options) - mean_p**2
    var_t = mean_around(t * t, options) - mean_t**2
    covariance = mean_around(p * t, options) - mean_p * mean_t
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    return luminance, (2 * covariance + c2) / (var_p + var_t + c2)


def mean_of(values: Array, weights: Array) -> float:
    total = weights.sum()
    return float((values * weights).sum() / total) if total else 0.0


def halved(image: Array) -> Array:
    image = image[..., : image.shape[-2] // 2 * 2, : image.shape[-1] // 2 * 2]
    return (image[..., ::2, ::2] + image[..., 1::2, ::2] + image[..., ::2, 1::2] + image[..., 1::2, 1::2]) / 4


def ssim(p: Array, t: Array, weight: Array, options: Options) -> Array:
    luminance, contrast = comparisons(p, t, options)
    loss, w = 1 - luminance * contrast, inner(weight, options)
    if options.get("sample_wise"):
        return np.asarray(np.mean([mean_of(*one) for one in zip(loss, w, strict=True)]))
    reduction = options.get("reduction", "mean")
    return np.asarray({"mean": mean_of(loss, w), "sum": (loss * w).sum(), "none": loss * w}[reduction])


def ms_ssim(p: Array, t: Array, weight: Array, options: Options) -> Array:
    """One sample and channel after the other."""
    betas = options.get("betas", BETAS)
    losses, counts = np.zeros(p.shape[:2]), np.ones(p.shape[:2])
    for index in np.ndindex(losses.shape):
        one, other, w = p[index], t[index], weight[index]
        product = 1.0
        for scale, beta in enumerate(betas):
            if scale:
                one, other, w = halved(one), halved(other), halved(w)
            luminance, contrast = comparisons(one, other, options)
            whole = luminance * contrast if scale == len(betas) - 1 else contrast
            product *= max(0.0, mean_of(whole, inner(w, options))) ** beta
            counts[index] *= inner(w, options).sum() > 0
        losses[index] = (1 - product) * counts[index]
    if options.get("sample_wise"):
        return np.asarray(np.mean([mean_of(*one) for one in zip(losses, counts, strict=True)]))
    reduction = options.get("reduction", "mean")
    return np.asarray({"mean": mean_of(losses, counts), "sum": losses.sum(), "none": losses}[reduction])


def l1_ssim(p: Array, t: Array, weight: Array, options: Options) -> Array:
    """Both means by themselves: of the differences over all pixels, of SSIM over the places of the window."""
    options = {"padding": "zeros", **options}
    luminance, contrast = comparisons(p, t, options)
    share = options.get("ssim_weight", 0.2)
    parts = [((1 - share) * np.abs(p - t), weight), (share * (1 - luminance * contrast), inner(weight, options))]
    if options.get("sample_wise"):
        return np.asarray(np.mean([sum(mean_of(v[i], w[i]) for v, w in parts) for i in range(len(p))]))
    if options.get("reduction", "mean") == "mean":
        return np.asarray(sum(mean_of(v, w) for v, w in parts))
    if options["reduction"] == "sum":
        return np.asarray(sum((v * w).sum() for v, w in parts))
    with np.errstate(invalid="ignore"):
        return sum(np.nan_to_num((v * w).sum((2, 3)) / w.sum((2, 3))) for v, w in parts)


ORACLES = {"SSIMLoss": ssim, "MSSSIMLoss": ms_ssim, "L1SSIMLoss": l1_ssim}


def evaluate(name: str, data: Data, options: Options) -> Array:
    """The value of a registered loss, options as its constructor takes them."""
    p, t = data.pred.detach().double().numpy(), data.truth.detach().double().numpy()
    p = 1 / (1 + np.exp(-p)) if options.get("link") == "sigmoid" else p
    weight = np.ones(1) if data.weight is None else data.weight.double().numpy()
    if weight.ndim == 3:
        weight = weight[:, None]
    return ORACLES[name](p, t, np.broadcast_to(weight, p.shape), options)
