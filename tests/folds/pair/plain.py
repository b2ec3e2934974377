"""Every loss of a pair as people write it in PyTorch, at the dtype of its inputs: the yardstick, and the truth in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.contract.case import Data
from tests.folds.pair.oracles import WITHOUT_MAPS

Options = Mapping[str, Any]
Part = tuple[float, Tensor, Tensor | None]


def mean_of(values: Tensor, weights: Tensor, dim: tuple[int, ...]) -> Tensor:
    total = weights.sum(dim)
    return torch.where(total > 0, (values * weights).sum(dim) / total.where(total > 0, 1), 0)


def reduced(parts: list[Part], options: Options, by_pixel: bool) -> Tensor:
    total: Any = 0.0
    for factor, values, given in parts:
        weights = torch.ones_like(values) if given is None else given.to(values.dtype).expand(values.shape)
        reduction = options.get("reduction", "mean")
        dims = tuple(range(values.dim()))
        if options.get("sample_wise"):
            found = mean_of(values, weights, dims[1:]).mean()
        elif reduction == "mean":
            found = mean_of(values, weights, dims)
        elif reduction == "sum":
            found = (values * weights).sum()
        else:
            found = values * weights if by_pixel else mean_of(values, weights, dims[2:])
        total = total + factor * found
    return total  # type: ignore[no-any-return]


def scale(options: Options, p: Tensor) -> float:
    area = options.get("reference_area")
    return area / p[0, 0].numel() if area else 1.0


def l1(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> list[Part]:
    return [(scale(options, p), functional.l1_loss(p, t, reduction="none"), w)]


def mse(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> list[Part]:
    return [(1.0, functional.mse_loss(p, t, reduction="none"), w)]


def smooth_l1(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> list[Part]:
    return [(scale(options, p), functional.smooth_l1_loss(p, t, reduction="none", beta=options.get("beta", 1.0)), w)]


def huber(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> list[Part]:
    return [(1.0, functional.huber_loss(p, t, reduction="none", delta=options.get("delta", 1.0)), w)]


def charbonnier(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> list[Part]:
    return [(1.0, ((p - t) ** 2 + options.get("eps", 1e-12)).sqrt(), w)]


def known(function: Callable[..., list[Part]]) -> Callable[..., list[Part]]:
    return lambda p, t, region, options: function(p, t, region == 0, options)


def filtered(image: Tensor, kernel: Tensor, mode: str) -> Tensor:
    flat = image.reshape(-1, 1, *image.shape[-2:])
    reach = kernel.shape[-1] // 2
    return functional.conv2d(functional.pad(flat, (reach,) * 4, mode=mode), kernel[None, None]).view(image.shape)


def matting_gradient(p: Tensor, t: Tensor, region: Tensor, options: Options) -> list[Part]:
    mode = {"replicate": "replicate", "zeros": "constant"}[options.get("padding", "replicate")]
    sobel = p.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    values: Any = 0.0
    for kernel in (sobel, sobel.T):
        of_p, of_t = filtered(p, kernel, mode), filtered(t, kernel, mode)
        values = values + (of_p - of_t).abs() + options.get("smoothness", 0.01) * of_p.abs()
    return [(scale(options, p), values, region)]


def gradient(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> list[Part]:
    mode = {"replicate": "replicate", "zeros": "constant"}[options.get("padding", "zeros")]
    sobel = p.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return [(1.0, sum((filtered(p, one, mode) - filtered(t, one, mode)).abs() for one in (sobel, sobel.T)), w)]


def total_variation(p: Tensor, t: None, w: Tensor | None, options: Options) -> list[Part]:
    across, down = p[..., 1:] - p[..., :-1], p[..., 1:, :] - p[..., :-1, :]
    values = [one**2 if options.get("order") == "l2" else one.abs() for one in (across, down)]
    weights = (None, None) if w is None else (w[..., :-1], w[..., :-1, :])
    return [(1.0, v, u) for v, u in zip(values, weights, strict=True)]


def psnr(p: Tensor, t: Tensor, w: Tensor | None, options: Options) -> Tensor:
    weights = torch.ones_like(p) if w is None else w.to(p.dtype).expand(p.shape)
    dims = tuple(range(1, p.dim()))
    counted = weights.sum(dims) > 0
    each = torch.where(counted, 10 / math.log(10) * (mean_of((p - t) ** 2, weights, dims) + 1e-8).log(), 0)
    if options.get("sample_wise"):
        return each.mean()
    return {"none": each, "sum": each.sum()}.get(options.get("reduction", "mean"), each.sum() / counted.sum())


def laplacian(p: Tensor, t: Tensor, region: Tensor | None, options: Options) -> list[Part]:
    levels, parts = options.get("levels", 5), []
    row = p.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = row[:, None] * row
    d, w = p - t, None if region is None else region.to(p.dtype)
    for level in range(levels):
        rows, columns = (side // 2 * 2 for side in d.shape[-2:])
        if min(d.shape[-2:]) < 4:
            break
        d, w = d[..., :rows, :columns], None if w is None else w[..., :rows, :columns]
        small = filtered(d, kernel, "reflect")[..., ::2, ::2]
        stuffed = torch.zeros_like(d)
        stuffed[..., ::2, ::2] = small
        parts.append((2**level / levels, (d - 4 * filtered(stuffed, kernel, "reflect")).abs(), w))
        d, w = small, None if w is None else functional.avg_pool2d(w, 2)
    if options.get("residual"):
        parts.append((2**levels / levels, d.abs(), w))
    return parts or [(0.0, p.abs(), None)]


def cross_entropy(p: Tensor, t: Tensor, region: None, options: Options) -> list[Part]:
    return [(1.0, functional.binary_cross_entropy(p, t, reduction="none"), None)]


def focal(p: Tensor, t: Tensor, region: None, options: Options) -> list[Part]:
    missing = 1 - (p * t + (1 - p) * (1 - t))
    return [(1.0, missing**2 * functional.binary_cross_entropy(p, t, reduction="none"), None)]


PLAIN: dict[str, Callable[..., list[Part]]] = {
    "L1Loss": l1,
    "MSELoss": mse,
    "SmoothL1Loss": smooth_l1,
    "HuberLoss": huber,
    "CharbonnierLoss": charbonnier,
    "L1CompositionLoss": l1,
    "MSECompositionLoss": mse,
    "CharbonnierCompLoss": charbonnier,
    "UnknownL1Loss": l1,
    "KnownL1Loss": known(l1),
    "KnownSmoothL1Loss": known(smooth_l1),
    "MattingGradientLoss": matting_gradient,
    "LaplacianPyramidLoss": laplacian,
    "GradientLoss": gradient,
    "TVLoss": total_variation,
    "MaskedTVLoss": total_variation,
}
WHOLE: dict[str, Callable[..., Tensor]] = {"PSNRLoss": psnr}
TERMS: dict[str, tuple[Callable[..., list[Part]], bool]] = {  # and whether the region is theirs
    "unknown_l1_loss": (l1, True),
    "known_l1_loss": (known(l1), True),
    "loss_pha_laplacian": (laplacian, False),
    "loss_gradient_penalty": (matting_gradient, True),
    "smooth_l1_loss": (lambda p, t, w, options: smooth_l1(p, t, w, {}), False),
    "known_smooth_l1_loss": (known(smooth_l1), True),
    "cross_entropy_loss": (cross_entropy, False),
    "focal_loss": (focal, False),
}
DEFAULTS = ["unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty"]


def term(name: str, p: Tensor, t: Tensor, region: Tensor, options: Options) -> Tensor:
    function, regional = TERMS[name]
    return reduced(function(p, t, region if regional else None, options), {}, False)


def matting(p: Tensor, t: Tensor, region: Tensor, options: Options) -> Tensor:
    found: Any = sum(term(name, p, t, region, options) for name in options.get("losses", DEFAULTS))
    return found  # type: ignore[no-any-return]


def mixed(p: Tensor, t: Tensor, region: Tensor, options: Options) -> Tensor:
    total: Any = 0.0
    tolerance = options.get("tolerance", 0.0)
    for one in zip(p.split(1), t.split(1), region.split(1), strict=True):
        binary = bool(((one[1] <= tolerance) | (one[1] >= 1 - tolerance)).all())
        names = options.get("segmentation", ["known_smooth_l1_loss"]) if binary else options.get("matting", DEFAULTS)
        total = total + matting(*one, {**options, "losses": names}) / len(p)
    return total  # type: ignore[no-any-return]


SETS = {"MattingLoss": matting, "MixedMattingLoss": mixed}


def evaluate(name: str, data: Data, options: Options) -> Tensor:
    """The value of a registered loss (of a set, its total), options as its constructor takes them."""
    p, *others, region = data.call
    assert p is not None
    if options.get("link", options.get("alpha_link")) == "sigmoid":
        p = p.sigmoid()
    if region is not None and region.dim() < p.dim():
        region = region[:, None]
    if len(others) == 3:
        p = p * others[0] + (1 - p) * others[1]
    if name in SETS:
        return SETS[name](p, others[-1], region, options)  # type: ignore[arg-type]  # its region is there
    target = others[-1] if others else None
    if name in WHOLE:
        return WHOLE[name](p, target, region, options)
    return reduced(PLAIN[name](p, target, region, options), options, name not in WITHOUT_MAPS)
