"""The definition of the window fold in plain PyTorch; see :mod:`lossfold.folds.label.definition`.

With s = p + t, d = p - t, E a Gaussian filter and V f = E f² - (E f)², the two factors of SSIM are 1 - u and 1 - v:

    u = (E d)² / (((E s)² + (E d)²) / 2 + c1)        luminance
    v = V d / ((V s + V d) / 2 + c2)                 contrast and structure

because (E s)² - (E d)² = 4 E p E t, and so on. So 1 - SSIM = u + v - u v, which is exactly 0 where the images are equal, and no
difference of large numbers where they are close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.folds.arithmetic import beside, total

Smooth = Callable[[Tensor, Sequence[float]], Tensor]


def fold(pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float) -> Tensor:
    """Sum the errors of SSIM and of its contrast over all places of a window.

    Args:
        pred: ``[B, C, H, W]`` or ``[B, C, D, H, W]``.
        target: the same.
        weight: of the places, ``[B, 1, h, w]`` or ``[B, C, h, w]``, h = H - len(window) + 1, and so on.
        window: the weights along one side.
        c1: SSIM's constant beside squared means.
        c2: SSIM's constant beside variances.

    Returns:
        ``[B, 3, C]``, the sums of KINDS, in float64 (float32 on devices without it).
    """
    pred, target = shielded(pred, target, weight, len(window))
    u, v = errors(pred, target, window, c1, c2)
    ones = torch.ones_like(u)
    shares = [weighted(values, weight) for values in (ones, u + v - u * v, v)]
    return torch.stack([total(share.contiguous().flatten(2)) for share in shares], 1)


def once(
    pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float, border: int
) -> tuple[Tensor]:
    """Sum the errors of SSIM over all places, and the absolute differences over all pixels, ``[B, 2, C]``.

    Args:
        pred, target, window, c1, c2: as for :func:`fold`.
        weight: of pixels; a place has that of the pixel in its middle.
        border: so many zeros stand around the images, the window's radius or none.
    """
    places, inset = weight, len(window) // 2 - border
    for dim in (2, 3) if places is not None else ():
        places = places.narrow(dim, inset, pred.shape[dim] - 2 * inset)  # type: ignore[union-attr]
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    images = [functional.pad(image.to(dtype), (border,) * 4) for image in (pred, target)]
    away = (pred.to(dtype) - target.to(dtype)).abs()
    counted = weighted(away, weight).contiguous().flatten(2)
    return (torch.stack([fold(images[0], images[1], places, window, c1, c2)[:, 1], total(counted)], 1),)


def integrand(pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float) -> Tensor:
    """Return 1 - SSIM at every place of the window, times its weight: ``[B, C, h, w]``."""
    pred, target = shielded(pred, target, weight, len(window))
    u, v = errors(pred, target, window, c1, c2)
    return weighted(u + v - u * v, weight)


def shielded(pred: Tensor, target: Tensor, weight: Tensor | None, taps: int, outside: bool = False) -> tuple[Tensor, Tensor]:
    """Return images that are 0 where no window that counts sees them: they may be infinite or NaN there.

    Args:
        pred, target: images.
        weight: of the windows' places.
        taps: a window's side.
        outside: whether windows reach beyond the images, so that there is a place for each pixel.
    """
    if weight is None or weight.requires_grad:
        return pred, target
    sides = pred.dim() - 2
    pool: Any = functional.max_pool2d if sides == 2 else functional.max_pool3d
    seen = functional.pad((weight != 0).to(torch.float32), (taps // 2 if outside else taps - 1,) * (2 * sides))
    for side in range(sides):  # along one after the other: a window has many more pixels than its sides together
        seen = pool(seen, [taps if one == side else 1 for one in range(sides)], stride=1)
    seen = seen > 0
    return torch.where(seen, pred, 0.0), torch.where(seen, target, torch.zeros_like(target))


def weighted(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the values times their weights; where the weight is 0, nothing."""
    if weight is None:
        return values
    w = weight.to(values.dtype)
    return w * values if w.requires_grad else torch.where(w != 0, w * values, 0.0)


def blur(image: Tensor, window: Sequence[float]) -> Tensor:
    """Filter along each side, where the whole window fits (by sums: convolutions may run in TF32 or in half)."""
    for dim in range(image.dim() - 1, 1, -1):
        size = image.shape[dim] - len(window) + 1
        shares = [weight * image.narrow(dim, k, size) for k, weight in enumerate(window)]
        image = sum(shares[1:], shares[0])
    return image


def errors(
    pred: Tensor, target: Tensor, window: Sequence[float], c1: float, c2: float, smooth: Smooth = blur
) -> tuple[Tensor, Tensor]:
    """Return u and v at every place of the window; ``smooth`` does what :func:`blur` does."""
    dtype = torch.float64 if pred.dtype == torch.float64 else torch.float32
    p, t = (image.to(dtype).contiguous() for image in (pred, target))  # sums are the same bits in every layout
    (mean_s, var_s), (mean_d, var_d) = (moments(image, window, smooth) for image in (p + t, p - t))
    squares_s, squares_d = mean_s * mean_s, mean_d * mean_d
    return squares_d / (0.5 * (squares_s + squares_d) + c1), var_d / (0.5 * (var_s + var_d) + c2)


def moments(image: Tensor, window: Sequence[float], smooth: Smooth) -> tuple[Tensor, Tensor]:
    """Return means and variances; of images far from 0 after a shift, so that the variances keep their digits."""
    low, high = image.detach().nan_to_num(0.0, 0.0, 0.0).flatten(2).aminmax(dim=2)
    shift = beside(torch.zeros_like(low).clamp(low, high), image.dim() - 2)
    shifted = image - shift
    mean = smooth(shifted, window)
    return mean + shift, (smooth(shifted * shifted, window) - mean * mean).clamp(min=0)
