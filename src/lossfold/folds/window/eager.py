"""The lean form of the window fold: images and their squares filtered together, by one convolution along each side.

With x̃ = x - shift of the two images s = p + t and d = p - t, m̃ = E x̃ and m = m̃ + shift, the fold's u and v are quotients with the
denominators D1 and D2. If a and b_s, b_d are the derivatives of the loss by the means m̃ and by the means of squares::

    α = G (1-v) / D1    b_s = - β v      a = α ((2-u) m_d - u m_s) - b_s m̃_s - b_d m̃_d
    β = (G (1-u) + H) / D2    b_d = β (2-v)    dp = E' a + x̃_s E' b_s + x̃_d E' b_d

where G and H are the derivatives by the sums of both errors and of the contrast's, and E' is the filter's adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossfold.engines.lean import Lean
from lossfold.folds import arithmetic
from lossfold.folds.arithmetic import beside, computed_in, slopes_of, total, total_dtype
from lossfold.folds.filters import constants, convolve, shifted_sum
from lossfold.folds.window import definition
from lossfold.folds.window.definition import shielded

Options = tuple[tuple[float, ...], float, float, bool]  # the window's weights, c1 and c2, whether luminance is asked for


def fold(
    pred: Tensor, target: Tensor, weight: Tensor | None, window: Sequence[float], c1: float, c2: float, whole: bool = True
) -> Tensor:
    """Compute :func:`lossfold.folds.window.definition.fold`; without ``whole`` its second sum is not to be read."""
    return LEAN.run((tuple(window), c1, c2, whole), pred, target, weight)[0]


def _definition(options: Options, pred: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor]:
    return (definition.fold(pred, target, weight, *options[:3]),)


def _fold(
    options: Options, pred: Tensor, target: Tensor, weight: Tensor | None, keep: bool
) -> tuple[tuple[Tensor], tuple[Tensor, ...]]:
    """Make the pass; kept are m̃_s, m̃_d, D2 and v, ``[4, B, C, *s]``, D1 and u, the shifts and the window."""
    window, c1, c2, whole = options
    taps = constants(window, pred.new_empty(0, dtype=computed_in(pred)))
    maps, shift = _filtered_images(pred, target, weight, taps)
    means, variances = maps.split(2)  # type: ignore[no-untyped-call]
    variances.addcmul_(means, means, value=-1).clamp_(min=0)
    powers = (means + shift).square_() if whole else means[:0]
    v = errors = _quotient(variances, c2)
    if whole:
        u = _quotient(powers, c1)
        errors = torch.addcmul(u, u, v, value=-1).add_(v)
    if weight is None:
        count = torch.full(v.shape[:2], math.prod(v.shape[2:]), dtype=total_dtype(v), device=v.device)
    else:
        w = weight.to(v.dtype).contiguous()
        count = total(w.flatten(2)).expand(v.shape[:2])
        v = torch.where(w != 0, w * v, 0.0)
        errors = torch.where(w != 0, w * errors, 0.0) if whole else v
    of_contrast = total(v.flatten(2))
    sums = torch.stack([count, total(errors.flatten(2)) if whole else of_contrast, of_contrast], 1)
    return (sums,), (maps, powers, shift, taps) if keep else ()


def _filtered_images(pred: Tensor, target: Tensor, weight: Tensor | None, taps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of x̃ and of x̃² of s and d, ``[4, B, C, *s]``, and the shifts."""
    images, shift = _images(pred, target, weight, taps, room=4)
    torch.mul(images[:2], images[:2], out=images[2:])
    return filtered(images, taps), shift


def _images(pred: Tensor, target: Tensor, weight: Tensor | None, taps: Tensor, room: int = 2) -> tuple[Tensor, Tensor]:
    """Return s and d less their shifts, ``[2, B, C, *S]`` (with ``room`` for more), and these."""
    p, t = (image.to(taps.dtype).contiguous() for image in shielded(pred, target, weight, len(taps)))
    images = p.new_empty((room, *p.shape))
    torch.add(p, t, out=images[0])
    torch.sub(p, t, out=images[1])
    low, high = images[:2].flatten(3).aminmax(dim=3)
    shift = beside(torch.zeros_like(low).clamp(low, high).nan_to_num_(0.0, 0.0, 0.0), p.dim() - 2)
    images[:2].sub_(shift)
    return images, shift


def _quotient(pair: Tensor, constant: float) -> Tensor:
    """Divide the second of a pair by half its sum and a constant, which the first becomes."""
    pair[0].add_(pair[1]).mul_(0.5).add_(constant)
    return pair[1].div_(pair[0])


def filtered(maps: Tensor, taps: Tensor, adjoint: bool = False) -> Tensor:
    """Filter ``[M, B, C, *S]`` along each side, where the whole window fits; ``adjoint``: apply the transpose."""
    shape = maps.shape[:3]
    planes = maps.flatten(0, 2)
    del maps
    for dim in range(planes.dim() - 1, 0, -1):
        if arithmetic.on_cpu(planes):  # convolutions take longer there
            planes = shifted_sum(planes, taps.tolist(), dim, adjoint)
            continue
        # What lies before the last side are rows; before another one further planes, and what lies behind that are its columns.
        last, sizes = dim == planes.dim() - 1, planes.shape
        flat = planes.flatten(1, dim - 1) if last else planes.flatten(0, dim - 1).flatten(2)
        kernels = taps.view(1, 1, *((1, -1) if last else (-1, 1))).expand(len(flat), 1, -1, -1)
        reach = len(taps) - 1 if adjoint else 0
        flat = convolve(flat, kernels, padding=(0, reach) if last else (reach, 0))[:, 0]
        planes = flat.reshape(*sizes[:dim], -1, *sizes[dim + 1 :])
    return planes.unflatten(0, shape)  # type: ignore[no-any-return, no-untyped-call]


def _unfold(
    grads: tuple[Tensor | None, ...],
    kept: tuple[Tensor, ...],
    owned: bool,
    options: Options,
    pred: Tensor,
    target: Tensor,
    weight: Tensor | None,
) -> Tensor:
    (maps, powers, shift, taps), (grad,) = kept, grads
    assert grad is not None
    _, both, contrast = beside(slopes_of(grad, maps.dtype), pred.dim() - 2).unbind(1)
    maps = maps if owned else maps.clone()
    mean_s, mean_d, below_v, v = maps
    if options[3]:
        below_u, u = powers
        alpha = torch.rsub(v, 1).mul_(both).div_(below_u)
        beta = torch.div(torch.rsub(u, 1).mul_(both).add_(contrast), below_v, out=below_v)
        a = torch.add(mean_d, shift[1])
        a = torch.addcmul(a + a, u, a.add_(mean_s).add_(shift[0]), value=-1, out=a).mul_(alpha)  # (2-u) m_d - u m_s
        del alpha
    else:
        beta, a = torch.div(contrast, below_v, out=below_v), torch.zeros_like(v)
    b_s = torch.mul(beta, v, out=v).neg_()
    b_d = torch.add(b_s, beta, alpha=2, out=beta)
    torch.addcmul(a.addcmul_(mean_s, b_s, value=-1), mean_d, b_d, value=-1, out=mean_d)
    del a
    slopes = maps[1:]  # a, b_d, b_s
    if weight is not None:
        w = weight.to(v.dtype)
        slopes = torch.where(w != 0, slopes * w, 0.0)
    slopes = filtered(slopes, taps, adjoint=True)
    images, _ = _images(pred, target, weight, taps)
    return slopes[0].addcmul_(slopes[1], images[1]).addcmul_(slopes[2], images[0]).to(pred.dtype)


LEAN = Lean(_fold, _unfold, _definition)


def blur(image: Tensor, window: Sequence[float]) -> Tensor:
    """Compute :func:`lossfold.folds.window.definition.blur`, whose gradient is one filter, too."""
    return BLUR.run(tuple(window), image)[0]


def _blur(window: tuple[float, ...], image: Tensor, keep: bool) -> tuple[tuple[Tensor], tuple[Tensor, ...]]:
    return (filtered(image[None], constants(window, image.new_empty(0)))[0],), ()


def _blur_slope(grads: tuple[Tensor | None, ...], kept: object, owned: bool, window: tuple[float, ...], image: Tensor) -> Tensor:
    (grad,) = grads
    assert grad is not None
    return filtered(grad[None], constants(window, image.new_empty(0)), adjoint=True)[0]


BLUR = Lean(_blur, _blur_slope, lambda window, image: (definition.blur(image, window),))
