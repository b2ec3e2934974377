"""The definition of the dense fold in plain PyTorch; see :mod:`lossfold.folds.label.definition`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.engines.transforms import inside_transform
from lossfold.folds.arithmetic import PROBABILITY_FLOOR, clamped, equals, resize, total
from lossfold.folds.dense.spec import DenseSpec
from lossfold.folds.fold import shares_of
from lossfold.folds.histogram import OCTAVES, REST, Bins, Errors, histogram


class Collected(NamedTuple):
    """What a dense fold returns.

    Attributes:
        sums: ``[B, len(spec.sums), K]`` in float64 (float32 on devices without it).
        table: ``[I, 4, K, bins]`` as the label fold's; foreground is where targets exceed 1/2.
    """

    sums: Tensor
    table: Tensor


class Elements(NamedTuple):
    """Targets, weights and scores ``[B, K, P]``, what follows from the scores, p and 1 - p, and the map, if any."""

    t: Tensor
    w: Tensor
    z: Tensor
    p: Tensor
    q: Tensor
    m: Tensor | None = None


def fold(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec, maps: Tensor | None = None) -> Collected:
    """Sum over the elements, for each image and channel, what ``spec`` names.

    Args:
        scores: ``[B, K, *S]`` logits (links "softmax", "sigmoid") or probabilities; ``[B, K, h, w]`` of another size than the
            targets are brought to it bilinearly, volumes trilinearly.
        targets: ``[B, K, *S]`` numbers in [0, 1]; of integers, ``ignore_index`` does not count (nor the other channels of its
            pixel, where they count together).
        weight: ``[B, *S]`` float or bool pixel weights, ``[B, K, *S]`` weights of elements, or None for 1.
        spec: what to collect.
        maps: ``[B, K, *S]`` floats of the targets' resolution, for the sums that read a map.
    """
    found = elements(scores, targets, weight, spec, maps)
    sums = torch.stack([total(share) for share in _shares(found, spec)], 1)
    table = _table(found, spec.bins) if spec.bins else scores.new_empty(0)
    return Collected(sums, table)


def integrand(
    scores: Tensor, targets: Tensor, weight: Tensor | None, coef: Tensor, spec: DenseSpec, maps: Tensor | None = None
) -> Tensor:
    """Return the fold's integrand: the sum over kinds k of ``coef[k, c]`` times each element's share.

    Args:
        coef: ``[len(spec.sums), K]``; the others as for :func:`fold`.

    Returns:
        ``[B, K, *S]`` (``[B, *S]``, summed over the channels, where these count together) in float32, float64 for float64 scores.
    """
    found = elements(scores, targets, weight, spec, maps)
    values = torch.zeros((), dtype=found.z.dtype, device=scores.device)
    for share, factors in zip(_shares(found, spec), coef.to(values), strict=True):
        values = values + times(factors[:, None], share)
    return values.sum(1).reshape(len(targets), *targets.shape[2:]) if spec.together else values.reshape(targets.shape)


def elements(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec, maps: Tensor | None = None) -> Elements:
    """Bring scores, targets, weights and map together; where nothing counts, all of them are 0."""
    z = resize(scores, targets.shape[2:], spec.align_corners)
    z, t = ((x.flatten(2) if x.dim() > 2 else x[..., None]).contiguous() for x in (z, targets))
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    counted = ~equals(t, spec.ignore_index) if whole else torch.ones((), dtype=torch.bool, device=z.device)
    w = torch.ones((), dtype=z.dtype, device=z.device)
    if weight is not None:
        w = weight.reshape(len(t), t.shape[1] if weight.dim() == targets.dim() else 1, t.shape[2]).contiguous().to(z.dtype)
        if not weight.requires_grad:
            counted = counted & (w != 0)
    if spec.together:
        counted = counted.all(1, keepdim=True) if counted.dim() else counted
    if not inside_transform():
        least, most = (0, 1) if whole else (-0.01, 1.01)  # interpolated targets may be a little outside
        torch._assert_async((~counted | ((t >= least) & (t <= most))).all(), "lossfold: a target is out of range [0, 1]")
    w = torch.where(counted, w, 0.0).expand(t.shape)
    t = torch.where(counted, t.to(z.dtype), 0.0)
    z = torch.where(counted, z, 0.0)
    m = None if maps is None else torch.where(counted, maps.reshape(z.shape).to(z.dtype), 0.0)
    if spec.link == "identity":
        return Elements(t, w, z, z, 1 - z, m)
    p = z.softmax(1) if spec.link == "softmax" else z.sigmoid()
    return Elements(t, w, z, p, 1 - p if spec.link == "softmax" else (-z).sigmoid(), m)


class Parts(NamedTuple):
    """What the sums are made of at every element, ``[B, K, P]``."""

    t: Tensor
    w: Tensor
    p: Tensor
    nll: Tensor  # -log p
    nll_not: Tensor  # -log (1 - p)
    miss: Tensor  # p (1 - t) + (1 - p) t
    ce: Tensor  # -t log p - (1 - t) log (1 - p)
    m: Tensor  # the map


def times(factor: Tensor, value: Tensor) -> Tensor:
    """Multiply, where 0 times infinity is 0: what does not count costs nothing, whatever its logarithm."""
    return factor * torch.where((factor == 0) & value.isinf(), 0.0, value)


SHARES: dict[str, Callable[[Parts, float], Tensor]] = {
    "weight": lambda x, gamma: x.w,
    "target": lambda x, gamma: x.w * x.t,
    "target_sq": lambda x, gamma: x.w * x.t * x.t,
    "map_size": lambda x, gamma: x.w * x.m.abs(),
    "prob": lambda x, gamma: x.w * x.p,
    "prob_sq": lambda x, gamma: x.w * x.p * x.p,
    "both": lambda x, gamma: x.w * x.t * x.p,
    "apart": lambda x, gamma: x.w * (x.p - x.t).abs(),
    "map_prob": lambda x, gamma: x.w * x.p * x.m,
    "nll": lambda x, gamma: times(x.w * x.t, x.nll),
    "nll_all": lambda x, gamma: x.w * x.nll,
    "nll_not": lambda x, gamma: times(x.w - x.w * x.t, x.nll_not),
    "nll_not_all": lambda x, gamma: x.w * x.nll_not,
    "focal": lambda x, gamma: times(x.w * x.t, x.miss**gamma * x.ce),
    "focal_not": lambda x, gamma: times(x.w - x.w * x.t, x.miss**gamma * x.ce),
    "focal_weight": lambda x, gamma: x.w * x.miss**gamma,
    "focal_of": lambda x, gamma: times(x.w * x.t, (1 - x.p).clamp_min(torch.finfo(x.p.dtype).tiny) ** gamma * x.nll),
}
"""What each element adds to each kind of sum."""
WITHOUT_LOGS = ("weight", "target", "target_sq", "map_size", "prob", "prob_sq", "both", "apart", "map_prob")


def _shares(found: Elements, spec: DenseSpec) -> list[Tensor]:
    """Return what each element adds for each sum, ``[B, K, P]``."""
    t, w, z, p, q, m = found
    nll = nll_not = miss = ce = z
    if any(kind not in WITHOUT_LOGS for kind, _ in spec.sums):
        if spec.link == "sigmoid":
            nll, nll_not = -functional.logsigmoid(z), -functional.logsigmoid(-z)
        else:
            nll = -z.log_softmax(1) if spec.link == "softmax" else -p.clamp_min(PROBABILITY_FLOOR).log()
            nll_not = -q.clamp_min(PROBABILITY_FLOOR).log()
        ce = times(t, nll) + times(1 - t, nll_not)
        miss = (p * (1 - t) + q * t).clamp_min(torch.finfo(z.dtype).tiny)  # keeps every power of it differentiable
    return shares_of(Parts(t, w, p, nll, nll_not, miss, ce, z if m is None else m), spec.sums, SHARES)


def errors_of(found: Elements, hinge: bool) -> tuple[Tensor, Tensor]:
    """Return which elements are foreground, and every element's error."""
    foreground = found.t > 0.5
    if hinge:
        return foreground, (1 - torch.where(foreground, found.z, -found.z)).relu()
    return foreground, clamped(torch.where(foreground, found.q, found.p))


def with_errors(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec, hinge: bool) -> tuple[Tensor, Errors]:
    """Return the sums of :func:`fold`, and the errors themselves in place of their histogram."""
    found = elements(scores, targets, weight, spec)
    sums = [total(share) for share in _shares(found, spec)]
    return torch.stack(sums, 1) if sums else scores.new_empty(0), Errors(*errors_of(found, hinge), found.w)


def _table(found: Elements, bins: Bins) -> Tensor:
    """Return the histogram of the errors."""
    foreground, error = errors_of(found, bins.hinge)
    if not bins.hinge:
        place = error * bins.count
        bin_ = place.detach().nan_to_num(0).long().clamp(0, bins.count - 1)
        return histogram(foreground, found.w, bin_, place - bin_, bins)
    each = (bins.count - REST) // OCTAVES
    shifted = (1 + error.detach()).nan_to_num(1, 1, 1)
    octave = shifted.frexp().exponent.long() - 1
    fine = octave < OCTAVES
    unit = torch.ldexp(torch.ones_like(shifted), -octave.clamp_max(OCTAVES + REST - 1))
    place = ((shifted * unit - 1) * torch.where(fine, each, 1)).floor().long().clamp_min(0)
    bin_ = torch.where(fine, octave * each + place, OCTAVES * each + octave - OCTAVES).clamp_max(bins.count - 1)
    scale = unit * torch.where(fine, each, 1)
    lower = torch.where(fine, 1 + place / each, 1.0) / unit
    position = torch.where(error < 2.0**128, (1 + error - lower) * scale, torch.nan)
    return histogram(foreground, found.w, bin_, position, bins)
