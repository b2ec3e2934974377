"""The gradient of the dense fold, written out; see :mod:`lossfold.folds.dense.eager`."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.folds.arithmetic import (
    PROBABILITY_FLOOR,
    computed_in,
    resize_back,
    slopes_of,
    times_sigmoid,
)
from lossfold.folds.bins import Slots
from lossfold.folds.dense.definition import integrand as integrand
from lossfold.folds.dense.elements import FOCAL, OF_P, Elements, Sums, elements, gammas, has, miss_of
from lossfold.folds.dense.spec import DenseSpec


def unfold(
    grads: tuple[Tensor | None, ...],
    kept: tuple[Tensor, ...],
    owned: bool,
    spec: DenseSpec,
    scores: Tensor,
    targets: Tensor,
    weight: Tensor | None,
    maps: Tensor | None,
) -> Tensor:
    """Return the gradient of the scores, given those of the sums and of the histogram."""
    (grad, by_bin), (cross, bins) = grads, kept
    found, dtype = elements(spec, scores, targets, weight, maps), computed_in(scores)
    shape = len(scores), len(spec.sums), scores.shape[1]
    rows = found.z.new_zeros(shape) if grad is None else slopes_of(grad, dtype)
    named = {one: rows[:, place, :, None] for place, one in enumerate(spec.sums)}
    by_error = None
    if spec.bins and by_bin is not None:
        by_error = Slots(spec.bins, found.z.shape).slopes(bins, by_bin, dtype).contiguous()
        if spec.link == "identity":
            by_error.masked_fill_((found.z < 0) | (found.z > 1), 0)
        if not spec.bins.hinge:
            named["error", 0.0] = by_error
    of_link = {"sigmoid": _through_sigmoid, "softmax": _through_softmax, "identity": _of_probabilities}[spec.link]
    slope = of_link(spec, found, named, cross)
    if spec.bins and spec.bins.hinge and by_error is not None:
        slope = by_error.add_(slope)
    if found.w is not None:
        slope.mul_(found.w)
    return resize_back(slope, scores, targets.shape[2:], spec.align_corners)


def _by_p(found: Elements, p: Tensor, named: Sums) -> Tensor | None:
    """Return A without the focal sums' part."""
    slope = named.get(("prob", 0.0))
    both, square, apart = (named.get((kind, 0.0)) for kind in ("both", "prob_sq", "apart"))
    if both is not None:
        slope = torch.lerp(both * 0 if slope is None else slope, both if slope is None else slope + both, found.t)
    if square is not None:
        slope = p * (2 * square) if slope is None else torch.addcmul(slope, p, 2 * square)
    by_map = named.get(("map_prob", 0.0))
    if by_map is not None:
        assert found.m is not None
        slope = found.m * by_map if slope is None else torch.addcmul(slope, found.m, by_map)
    error = named.get(("error", 0.0))
    if error is not None:
        slope = error if slope is None else error.add_(slope)
    if apart is not None:
        sign = (p - found.t).sign_()
        slope = sign.mul_(apart) if slope is None else torch.addcmul(slope, sign, apart)
    return slope


def _focal(spec: DenseSpec, t: Tensor, u: Tensor, cross: Tensor, named: Sums) -> tuple[Tensor, Tensor | None]:
    """Return the loss's derivative by p through u, and that by -t log p - (1-t) log q."""
    by_miss = by_cross = None
    for gamma in gammas(spec):
        focal, focal_not, alone = (named.get((kind, gamma)) for kind in FOCAL)
        power = u.pow(gamma - 1)  # small factors first: it may be near the largest number
        if focal is not None or focal_not is not None:
            zero = torch.zeros_like(rows_of(focal, focal_not))
            share = torch.lerp(zero if focal_not is None else focal_not, zero if focal is None else focal, t)
            part = (power * u).mul_(share)
            by_cross = part if by_cross is None else by_cross.add_(part)
            del part
            share.mul_(cross)
            power.mul_(share if alone is None else share.add_(alone))
            del share
        else:
            power.mul_(rows_of(alone))
        if gamma < 1:  # where u is held it has no derivative, a large one here
            power.masked_fill_(u <= torch.finfo(u.dtype).tiny, 0)
        if gamma != 1:
            power.mul_(gamma)
        by_miss = power if by_miss is None else by_miss.add_(power)
        del power
    assert by_miss is not None
    return by_miss.addcmul_(by_miss, t, value=-2), by_cross


def rows_of(*found: Tensor | None) -> Tensor:
    """Return the first row that there is."""
    return next(one for one in found if one is not None)


def _through_sigmoid(spec: DenseSpec, found: Elements, named: Sums, cross: Tensor) -> Tensor:
    t, z, _, _ = found
    slope = through = by_cross = None
    p = z.sigmoid() if has(spec, *OF_P, *FOCAL) or ("error", 0.0) in named else z
    if has(spec, *FOCAL):
        through, by_cross = _focal(spec, t, miss_of(spec, found, p), cross, named)
    minus_n, m = named.get(("nll", 0.0)), named.get(("nll_not", 0.0))
    minus_n = minus_n if minus_n is None else -minus_n
    if by_cross is not None:
        minus_n = -by_cross if minus_n is None else minus_n - by_cross
        m = by_cross if m is None else by_cross.add_(m)
    del by_cross
    if m is not None or minus_n is not None:  # p M but for its factor 1 - t, and - q N but for t
        slope = torch.zeros_like(z) if m is None else times_sigmoid(m, z)
        falling = z.new_zeros(()).expand_as(z) if minus_n is None else times_sigmoid(minus_n, z, negative=True)
        slope.lerp_(falling, t)
        del falling
    del m, minus_n
    for kind, sign in (("nll_all", -1), ("nll_not_all", 1)):
        if (kind, 0.0) in named:
            part = times_sigmoid(sign * named[kind, 0.0], z, negative=sign < 0)
            slope = part if slope is None else slope.add_(part)
    by_p = _by_p(found, p, named)
    if through is not None:
        by_p = through if by_p is None else through.add_(by_p)
    if by_p is not None:
        part = p.mul_(times_sigmoid(by_p, z, negative=True))
        slope = part if slope is None else slope.add_(part)
    return torch.zeros_like(z) if slope is None else slope


def _through_softmax(spec: DenseSpec, found: Elements, named: Sums, cross: Tensor) -> Tensor:
    t, z, _, _ = found
    by_log = None
    if ("nll", 0.0) in named:
        by_log = t * named["nll", 0.0]
    if ("nll_all", 0.0) in named:
        every = named["nll_all", 0.0]
        by_log = every.expand_as(z) if by_log is None else by_log.add_(every)
    p = z.softmax(1)
    by_p = _by_p(found, p, named)
    dot = None if by_log is None else by_log.sum(1, keepdim=True)
    if by_p is None:
        slope = torch.zeros_like(p) if dot is None else p.mul_(dot)
    else:
        slope = p * by_p
        inner = slope.sum(1, keepdim=True)
        slope.addcmul_(p, inner if dot is None else inner.sub_(dot), value=-1)
    return slope if by_log is None else slope.sub_(by_log)


def _of_probabilities(spec: DenseSpec, found: Elements, named: Sums, cross: Tensor) -> Tensor:
    t, p, _, _ = found
    by_p = _by_p(found, p, named)
    slope = torch.zeros_like(p) if by_p is None else by_p.expand_as(p).clone()
    by_cross = None
    if has(spec, *FOCAL):
        through, by_cross = _focal(spec, t, miss_of(spec, found, p), cross, named)
        slope.add_(through)
    for kind, negated in (("nll", False), ("nll_not", True)):
        part = named.get((kind, 0.0))
        if by_cross is not None:
            part = by_cross if part is None else by_cross + part
        if part is not None:
            part = part * (1 - t if negated else t)
        every = named.get((f"{kind}_all", 0.0))
        if every is not None:
            part = every if part is None else part + every
        if part is not None:
            x = 1 - p if negated else p
            slope.add_((part / x).masked_fill_(x < PROBABILITY_FLOOR, 0), alpha=1 if negated else -1)
    return slope
