"""The definition of the label fold in plain PyTorch: what every faster engine has to equal.

It runs on any device and dtype PyTorch has and is differentiable any number of times; so do those of the other folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.engines.transforms import inside_transform
from lossfold.folds.arithmetic import PROBABILITY_FLOOR, clamped, resize, total, total_dtype
from lossfold.folds.fold import shares_of
from lossfold.folds.histogram import Bins, Errors, histogram
from lossfold.folds.label.spec import Hard, LabelSpec


class Collected(NamedTuple):
    """What a label fold returns.

    Attributes:
        sums: ``[B, len(spec.sums), C]`` in float64 (float32 on devices without it).
        table: ``[I, 4, C, bins]``, I = B or 1: weight and Σ position of the foreground, then of the background; empty without
            bins. A position is the place inside the bin, 0 to 1; weights have no gradient.
        kept: ``[B, *S]`` uint8, 1 at the hard pixels; empty if nobody asks for them.
    """

    sums: Tensor
    table: Tensor
    kept: Tensor


class Pixels(NamedTuple):
    """Every pixel's part: labels, weights and ``counted`` are ``[B, 1, P]``, the scores and the map, if any, ``[B, C, P]``."""

    y: Tensor
    w: Tensor
    counted: Tensor
    z: Tensor
    log_p: Tensor
    m: Tensor | None = None


def fold(scores: Tensor, labels: Tensor, weight: Tensor | None, spec: LabelSpec, maps: Tensor | None = None) -> Collected:
    """Sum over the pixels, for each image and class, what ``spec`` names.

    Args:
        scores: ``[B, C, *S]`` logits (link "softmax") or probabilities; ``[B, C, h, w]`` of another size than the labels are
            brought to it bilinearly, volumes trilinearly.
        labels: ``[B, *S]`` integers in ``[0, C)`` or ``ignore_index``.
        weight: ``[B, *S]`` float or bool pixel weights, or None for 1.
        spec: what to collect.
        maps: ``[B, C, *S]`` floats of the labels' resolution, for the sums that read a map.
    """
    found = pixels(scores, labels, weight, spec, maps)
    kept = _kept(found, spec.softmax, spec.hard) if spec.hard else None
    classes = scores.shape[1]
    shares = _shares(found, spec, kept)
    sums = [sums_by_label(share, found.y, classes) if share.shape[1] == 1 else total(share) for share in shares]
    empty = scores.new_empty(0)
    table = _table(found, spec.softmax, spec.bins) if spec.bins else empty
    mask = empty.byte() if kept is None else kept.byte().reshape(labels.shape)
    return Collected(torch.stack(sums, 1), table, mask)


def integrand(
    scores: Tensor, labels: Tensor, weight: Tensor | None, coef: Tensor, kept: Tensor, spec: LabelSpec, maps: Tensor | None = None
) -> Tensor:
    """Return the fold's integrand: the sum over kinds k and classes c of ``coef[k, c]`` times each pixel's share.

    Args:
        coef: ``[len(spec.sums), C]``; the others as for :func:`fold`.
        kept: its mask of the hard pixels; may be empty if nobody asks for them.

    Returns:
        ``[B, *S]`` in float32 (float64 for float64 scores), 0 at ignored pixels.
    """
    found = pixels(scores, labels, weight, spec, maps)
    shares = _shares(found, spec, kept.reshape(found.y.shape) if spec.hard else None)
    values = torch.zeros((), dtype=found.z.dtype, device=scores.device)
    for share, factors in zip(shares, coef.to(values), strict=True):
        at_label = share.shape[1] == 1
        factor = factors[found.y] if at_label else factors[:, None]
        part = torch.where(factor == 0, 0.0, share * factor)  # of a class without weight -log p may be infinite
        values = values + (part if at_label else part.sum(1, keepdim=True))
    return values.reshape(labels.shape)


def pixels(scores: Tensor, labels: Tensor, weight: Tensor | None, spec: LabelSpec, maps: Tensor | None = None) -> Pixels:
    """Bring everything together at every pixel; those that do not count get label 0, scores 0, weight 0, map 0."""
    classes = scores.shape[1]
    y = labels.flatten(1)[:, None].long() if labels.dim() > 1 else labels[:, None, None].long()
    counted = y != spec.ignore_index
    if not inside_transform():  # there, the indexing below finds a bad label
        torch._assert_async(
            (~counted | ((y >= 0) & (y < classes))).all(),
            f"lossfold: a label is out of range [0, {classes}) and is not ignore_index={spec.ignore_index}",
        )
    scores = resize(scores, labels.shape[1:], spec.align_corners)
    z = (scores.flatten(2) if scores.dim() > 2 else scores[..., None]).contiguous()
    w = torch.ones((), dtype=z.dtype, device=z.device)
    if weight is not None:
        w = weight.reshape(y.shape).to(z.dtype)
        if not weight.requires_grad:
            counted = counted & (w != 0)
    w = torch.where(counted, w, 0.0)
    y = torch.where(counted, y, 0)
    z = torch.where(counted, z, 0.0)  # an ignored pixel's scores take no part: they may be infinite or NaN
    m = None if maps is None else torch.where(counted, maps.reshape(z.shape).to(z.dtype), 0.0)
    return Pixels(y, w, counted, z, z.log_softmax(1) if spec.softmax else z.clamp_min(PROBABILITY_FLOOR).log(), m)


class Parts(NamedTuple):
    """What the sums are made of at every pixel: ``[B, 1, P]``, but for p, log_p and the map, ``[B, C, P]``."""

    y: Tensor
    w: Tensor
    log_p: Tensor
    p: Tensor
    nll: Tensor  # -log p_y
    miss: Tensor  # 1 - p_y
    hard: Tensor
    m: Tensor  # the map, [B, C, P]


def not_below_0(nll: Tensor) -> Tensor:
    """Return -log p, 0 where a probability is a rounding above 1 (by which hard pixels are ordered); its slope stays."""
    return torch.where(nll < 0, nll - nll.detach(), nll)


SHARES: dict[str, Callable[[Parts, float], Tensor]] = {
    "weight": lambda x, gamma: x.w,
    "prob": lambda x, gamma: x.w * x.p,
    "prob_sq": lambda x, gamma: x.w * x.p * x.p,
    "prob_at_label": lambda x, gamma: x.w * x.p.gather(1, x.y),
    "nll": lambda x, gamma: x.w * x.nll,
    "nll_all": lambda x, gamma: -x.w * x.log_p,
    "focal": lambda x, gamma: x.w * x.miss**gamma * x.nll,
    "focal_weight": lambda x, gamma: x.w * x.miss**gamma,
    "hard_weight": lambda x, gamma: torch.where(x.hard, x.w, 0.0),
    "hard_nll": lambda x, gamma: torch.where(x.hard, x.w * not_below_0(x.nll), 0.0),
    "map_prob": lambda x, gamma: x.w * x.p * x.m,
    "map_size": lambda x, gamma: x.w * x.m.abs(),
}
"""What each pixel adds to each kind of sum: ``[B, 1, P]`` for the label's class, or ``[B, C, P]`` for every class."""
WITHOUT_P = ("weight", "nll", "nll_all", "focal", "focal_weight", "hard_weight", "hard_nll", "map_size")


def _shares(pixels: Pixels, spec: LabelSpec, kept: Tensor | None) -> list[Tensor]:
    """Return what each pixel adds for each sum."""
    y, w, _, z, log_p, m = pixels
    nll = -log_p.gather(1, y)
    miss = -torch.expm1(-nll) if spec.softmax else 1 - z.gather(1, y)
    miss = miss.clamp_min(torch.finfo(z.dtype).tiny)  # keeps every power of it differentiable at p = 1
    p = log_p.exp() if spec.softmax and any(kind not in WITHOUT_P for kind, _ in spec.sums) else z
    hard = torch.zeros_like(y, dtype=torch.bool) if kept is None else kept.bool()
    return shares_of(Parts(y, w, log_p, p, nll, miss, hard, z if m is None else m), spec.sums, SHARES)


def _kept(pixels: Pixels, softmax: bool, hard: Hard) -> Tensor:
    """Return the mask of the hard pixels, ``[B, 1, P]``."""
    y, _, counted, z, log_p, _ = pixels
    p = (z.detach().softmax(1) if softmax else z.detach()).gather(1, y)
    return hard_pixels(-log_p.detach().gather(1, y)[:, 0], p[:, 0], counted[:, 0], hard)[:, None]


def hard_pixels(nll: Tensor, p: Tensor, counted: Tensor, hard: Hard) -> Tensor:
    """Return the mask of the hard pixels, given -log p and p at the labels and which pixels count, all ``[B, P]``."""
    # -log p orders pixels also where p is 0; its bits, as an integer, order like the number itself; NaN comes first.
    nll = nll.clamp_min(0).nan_to_num(nan=torch.inf, posinf=torch.inf) + 0.0
    bits = torch.where(counted, nll.view(torch.int64 if nll.dtype == torch.float64 else torch.int32), -1)
    rows = bits if hard.per_image else bits.reshape(1, -1)
    count = (rows >= 0).sum(1)
    wanted = (
        torch.full_like(count, hard.min_kept) if hard.ratio is None else (count.to(total_dtype(nll)) * hard.ratio).ceil().long()
    )
    bound = _kth_largest(rows, wanted.minimum(count).clamp_min(1))
    infinite = torch.full_like(nll[:1, :1], torch.inf).view(bits.dtype).flatten() if nll.numel() else bound
    bound = torch.where(wanted > 0, bound, infinite)
    return counted & ((p < hard.thresh) | (bits >= bound[:, None]))


def _kth_largest(bits: Tensor, k: Tensor) -> Tensor:
    """Return the k-th largest of each row, ``[R]``, for integers of which at least k are not negative: digit by digit."""
    pixels, size = bits.shape[1], 8 * bits.element_size()
    width = 16 if pixels >= 2**16 else 8 if pixels >= 2**8 else 4
    found = torch.zeros_like(k)
    before = bits.new_zeros(()).expand(bits.shape)  # the digits above, of negative numbers -1
    for shift in range(size - width, -1, -width):
        digits = bits >> shift
        digit = torch.where((before == found[:, None]) & (digits >= 0), digits & (2**width - 1), 2**width).long()
        before = digits
        counts = torch.zeros((len(bits), 2**width + 1), dtype=torch.int64, device=bits.device)
        counts = counts.scatter_add(1, digit, torch.ones_like(digit[:1, :1]).expand(digit.shape))[:, :-1]
        above = counts.flip(1).cumsum(1).flip(1)
        here = ((above >= k[:, None]).sum(1, keepdim=True) - 1).clamp_min(0)
        k = k - (above - counts).gather(1, here)[:, 0]
        found = (found << width) | here[:, 0]
    return found.to(bits.dtype)


def with_errors(scores: Tensor, labels: Tensor, weight: Tensor | None, spec: LabelSpec) -> tuple[Tensor, Errors]:
    """Return the sums of :func:`fold`, and the errors themselves, |[y = c] - p|, in place of their histogram."""
    found = pixels(scores, labels, weight, spec)
    sums = [
        sums_by_label(share, found.y, scores.shape[1]) if share.shape[1] == 1 else total(share)
        for share in _shares(found, spec, None)
    ]
    return torch.stack(sums, 1) if sums else scores.new_empty(0), _errors(found, spec.softmax)


def _errors(pixels: Pixels, softmax: bool) -> Errors:
    y, w, _, z, log_p, _ = pixels
    foreground = y == torch.arange(z.shape[1], device=z.device)[:, None]
    p = log_p.exp() if softmax else clamped(z)
    return Errors(foreground, torch.where(foreground, 1 - p, p), w.expand(len(z), 1, z.shape[2]))


def _table(pixels: Pixels, softmax: bool, bins: Bins) -> Tensor:
    """Return the histogram of the errors, ``[I, 4, C, bins]``; see :class:`Collected`."""
    foreground, error, w = _errors(pixels, softmax)
    place = error * bins.count
    bin_ = place.detach().nan_to_num(0).long().clamp(0, bins.count - 1)
    return histogram(foreground, w, bin_, place - bin_, bins)


def sums_by_label(share: Tensor, y: Tensor, classes: int) -> Tensor:
    """Sum ``[B, 1, P]`` within the pixels of each label: ``[B, C]``, in float64 and always in the same order."""
    if share.device.type == "cpu":
        zeros = share.new_zeros((len(share), classes), dtype=total_dtype(share))
        return zeros.scatter_add(1, y.squeeze(1), share.squeeze(1).to(zeros.dtype))
    # On other devices scatter_add adds in whatever order threads arrive; a masked sum does not.
    here = y == torch.arange(classes, device=y.device)[:, None]
    return total(torch.where(here, share, 0.0))
