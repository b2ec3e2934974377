"""The lean form of the dense fold: its sums and their gradient in few steps, with nothing kept between but the inputs.

Per element, with A = d loss / d p, U that by u = p (1-t) + q t, N and M those by -log p and -log q::

    sigmoid   dz = p q (A + (1-2t) U) - q N + p M
    identity  dz = A + (1-2t) U - N / p + M / q
    softmax   dz_k = p_k (A_k - Σ_j p_j A_j + Σ_j N_j) - N_k
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.engines.lean import Lean
from lossfold.folds.arithmetic import (
    PROBABILITY_FLOOR,
    computed_in,
    log_sigmoid,
    resize,
    resize_back,
    slopes_of,
    softplus,
    times_sigmoid,
    total,
    total_dtype,
)
from lossfold.folds.bins import Slots
from lossfold.folds.dense import definition
from lossfold.folds.dense.definition import Collected
from lossfold.folds.dense.definition import integrand as integrand
from lossfold.folds.dense.spec import KINDS, DenseSpec
from lossfold.folds.fold import Sum

Sums = dict[Sum, Tensor]
FOCAL = ("focal", "focal_not", "focal_weight")


def fold(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec) -> Collected:
    """Compute :func:`lossfold.folds.dense.definition.fold`."""
    rare = spec.link == "softmax" and has(spec, "nll_not", "nll_not_all", *FOCAL)  # no loss asks for that
    if rare or any(kind not in KINDS for kind, _ in spec.sums):
        return definition.fold(scores, targets, weight, spec)
    return Collected(*LEAN.run(spec, scores, targets, weight))


def has(spec: DenseSpec, *kinds: str) -> bool:
    """Whether one of these kinds of sums is asked for."""
    return any(kind in kinds for kind, _ in spec.sums)


def _definition(spec: DenseSpec, scores: Tensor, targets: Tensor, weight: Tensor | None) -> Collected:
    return definition.fold(scores, targets, weight, spec)


class Elements(NamedTuple):
    """Targets and scores ``[B, K, P]``, 0 where nothing counts, and weights ``[B, 1, P]`` or ``[B, K, P]``; None for 1."""

    t: Tensor
    z: Tensor
    w: Tensor | None

    def log(self, link: str) -> Tensor:
        """Return log p."""
        if link == "sigmoid":
            return log_sigmoid(self.z)
        return self.z.log_softmax(1) if link == "softmax" else self.z.clamp_min(PROBABILITY_FLOOR).log_()

    def minus_log_not(self, link: str) -> Tensor:
        """Return -log (1 - p)."""
        return softplus(self.z) if link == "sigmoid" else (1 - self.z).clamp_min_(PROBABILITY_FLOOR).log_().neg_()

    def summed(self, values: Tensor) -> Tensor:
        """Return the weighted sums, ``[B, K]``."""
        return total(values if self.w is None else values * self.w)


def elements(spec: DenseSpec, scores: Tensor, targets: Tensor, weight: Tensor | None, check: bool = False) -> Elements:
    """Bring scores, targets and weights together; see :func:`lossfold.folds.dense.definition.elements`."""
    z = resize(scores, targets.shape[2:], spec.align_corners)
    z, t = ((x.flatten(2) if x.dim() > 2 else x[..., None]).contiguous() for x in (z, targets))
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    out = t == spec.ignore_index if whole else None
    w = None
    if weight is not None:
        w = weight.reshape(len(t), t.shape[1] if weight.dim() == targets.dim() else 1, t.shape[2]).contiguous().to(z.dtype)
        out = w == 0 if out is None else out | (w == 0)
    if out is not None and spec.together and out.shape[1] > 1:
        out = out.any(1, keepdim=True)
    t = t.to(z.dtype)
    if out is not None:
        t, z = torch.where(out, 0.0, t), torch.where(out, 0.0, z)
        w = (~out).to(z.dtype) if w is None else torch.where(out, 0.0, w)
    if check and targets.dtype != torch.bool:
        low, high = (0.0, 1.0) if whole else (-0.01, 1.01)
        least, largest = t.aminmax()
        torch._assert_async((least >= low) & (largest <= high), "lossfold: a target is out of range [0, 1]")
    return Elements(t, z, w)


def _fold(
    spec: DenseSpec, scores: Tensor, targets: Tensor, weight: Tensor | None, keep: bool
) -> tuple[Collected, tuple[Tensor, ...]]:
    """Make the pass; kept is -t log p - (1-t) log q, if the gradient reads it."""
    found = elements(spec, scores, targets, weight, check=True)
    focal = has(spec, "focal", "focal_not")
    p = None
    if has(spec, "prob", "prob_sq", "both", "apart", *FOCAL) or (spec.bins and not spec.bins.hinge):
        p = found.z if spec.link == "identity" else found.z.sigmoid() if spec.link == "sigmoid" else found.z.softmax(1)
    sums = _sums_of_targets(spec, found) | _sums_of_p(spec, found, p)
    cross = _sums_of_logs(spec, found, sums, focal)
    if p is not None and has(spec, *FOCAL):
        _sums_of_focal(spec, found, _miss(spec, found, p), cross, sums)
    table = bins = nothing = scores.new_empty(0)
    if spec.bins:
        table, bins = _table(spec, found, p)
    collected = Collected(torch.stack([sums[one] for one in spec.sums], 1), table)
    return collected, (nothing if cross is None else cross, bins) if keep else ()


def _table(spec: DenseSpec, found: Elements, p: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the histogram of the errors, and every error's slot."""
    bins, (t, z, w) = spec.bins, found
    assert bins is not None
    slots = Slots(bins, z.shape)
    foreground = torch.gt(t, 0.5, out=slots.empty(t.new_empty(0, dtype=torch.bool)))
    error = slots.empty(z)
    if p is None:
        torch.where(foreground, torch.neg(z, out=error), z, out=error).add_(1)
        index, position = slots.octaves(slots.rows(error))
    else:
        q = times_sigmoid(None, z, negative=True) if spec.link == "sigmoid" else 1 - p
        torch.where(foreground, q, p, out=error)
        del q
        index, position = slots.even(slots.rows(error.clamp_(0, 1) if spec.link == "identity" else error).mul_(bins.count))
    del error
    index.add_(slots.rows(foreground), alpha=slots.half)
    return slots.table(index, position, w), slots.packed(index)


def _sums_of_targets(spec: DenseSpec, found: Elements) -> Sums:
    t, _, w = found
    sums: Sums = {}
    for kind, number in spec.sums:
        match kind:
            case "weight" if w is None:
                sums[kind, number] = torch.full(t.shape[:2], t.shape[2], dtype=total_dtype(t), device=t.device)
            case "weight":
                sums[kind, number] = total(w).expand(t.shape[:2])
            case "target":
                sums[kind, number] = found.summed(t)
            case "target_sq":
                sums[kind, number] = found.summed(t * t)
    return sums


def _sums_of_p(spec: DenseSpec, found: Elements, p: Tensor | None) -> Sums:
    sums: Sums = {}
    if p is None:
        return sums
    for kind, number in spec.sums:
        match kind:
            case "prob":
                sums[kind, number] = found.summed(p)
            case "prob_sq":
                sums[kind, number] = found.summed(p * p)
            case "both":
                sums[kind, number] = found.summed(p * found.t)
            case "apart":
                sums[kind, number] = found.summed((p - found.t).abs_())
    return sums


def _sums_of_logs(spec: DenseSpec, found: Elements, sums: Sums, focal: bool) -> Tensor | None:
    """Add the sums of -log p and -log q; return -t log p - (1-t) log q for focal ones."""
    t, cross = found.t, None
    if focal or has(spec, "nll", "nll_all"):
        log = found.log(spec.link)
        if has(spec, "nll_all"):
            sums["nll_all", 0.0] = found.summed(log).neg_()
        cross = log.mul_(t)
        if has(spec, "nll"):
            sums["nll", 0.0] = found.summed(cross).neg_()
        del log
    if not focal:
        cross = None
    if focal or has(spec, "nll_not", "nll_not_all"):
        log = found.minus_log_not(spec.link)
        if has(spec, "nll_not_all"):
            sums["nll_not_all", 0.0] = found.summed(log)
        log.addcmul_(t, log, value=-1)
        if has(spec, "nll_not"):
            sums["nll_not", 0.0] = found.summed(log)
        cross = None if cross is None else log.sub_(cross)
    return cross


def _miss(spec: DenseSpec, found: Elements, p: Tensor) -> Tensor:
    """Return u = p (1-t) + q t, held above 0 where a power of it has no derivative there."""
    q = times_sigmoid(None, found.z, negative=True) if spec.link == "sigmoid" else 1 - found.z
    u = torch.lerp(p, q, found.t, out=q)
    return u.clamp_min_(torch.finfo(u.dtype).tiny) if any(gamma < 1 for kind, gamma in spec.sums if kind in FOCAL) else u


def _sums_of_focal(spec: DenseSpec, found: Elements, u: Tensor, cross: Tensor | None, sums: Sums) -> None:
    for gamma in gammas(spec):
        values = u.pow(gamma)
        if ("focal_weight", gamma) in spec.sums:
            sums["focal_weight", gamma] = found.summed(values)
        if ("focal", gamma) in spec.sums or ("focal_not", gamma) in spec.sums:
            assert cross is not None
            inside = values.mul_(cross) * found.t
            sums["focal", gamma] = found.summed(inside)
            sums["focal_not", gamma] = found.summed(values.sub_(inside))
            del inside
        del values


def gammas(spec: DenseSpec) -> list[float]:
    """Return the powers of focal sums."""
    return list(dict.fromkeys(gamma for kind, gamma in spec.sums if kind in FOCAL))


def _unfold(
    grads: tuple[Tensor | None, ...],
    kept: tuple[Tensor, ...],
    owned: bool,
    spec: DenseSpec,
    scores: Tensor,
    targets: Tensor,
    weight: Tensor | None,
) -> Tensor:
    (grad, by_bin), (cross, bins) = grads, kept
    found, dtype = elements(spec, scores, targets, weight), computed_in(scores)
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
    t, z, _ = found
    slope = through = by_cross = None
    p = z.sigmoid() if has(spec, "prob", "prob_sq", "both", "apart", *FOCAL) or ("error", 0.0) in named else z
    if has(spec, *FOCAL):
        through, by_cross = _focal(spec, t, _miss(spec, found, p), cross, named)
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
    t, z, _ = found
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
    t, p, _ = found
    by_p = _by_p(found, p, named)
    slope = torch.zeros_like(p) if by_p is None else by_p.expand_as(p).clone()
    by_cross = None
    if has(spec, *FOCAL):
        through, by_cross = _focal(spec, t, _miss(spec, found, p), cross, named)
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


LEAN = Lean(_fold, _unfold, _definition)
