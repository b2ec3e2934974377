"""The lean form of the dense fold: its sums and their gradient in few steps, with nothing kept between but the inputs.

Per element, with A = d loss / d p, U that by u = p (1-t) + q t, N and M those by -log p and -log q::

    sigmoid   dz = p q (A + (1-2t) U) - q N + p M
    identity  dz = A + (1-2t) U - N / p + M / q
    softmax   dz_k = p_k (A_k - Σ_j p_j A_j + Σ_j N_j) - N_k
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.engines.lean import Lean
from lossfold.folds.arithmetic import (
    times_sigmoid,
    total,
    total_dtype,
)
from lossfold.folds.bins import Slots
from lossfold.folds.dense import definition
from lossfold.folds.dense.definition import Collected
from lossfold.folds.dense.definition import integrand as integrand
from lossfold.folds.dense.elements import FOCAL, OF_P, Elements, Sums, elements, gammas, has, miss_of
from lossfold.folds.dense.slopes import unfold
from lossfold.folds.dense.spec import KINDS, DenseSpec


def fold(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec, maps: Tensor | None = None) -> Collected:
    """Compute :func:`lossfold.folds.dense.definition.fold`."""
    rare = spec.link == "softmax" and has(spec, "nll_not", "nll_not_all", *FOCAL)  # no loss asks for that
    if rare or any(kind not in KINDS for kind, _ in spec.sums):
        return definition.fold(scores, targets, weight, spec, maps)
    return Collected(*LEAN.run(spec, scores, targets, weight, maps))


def _definition(spec: DenseSpec, scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None) -> Collected:
    return definition.fold(scores, targets, weight, spec, maps)


def _fold(
    spec: DenseSpec, scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, keep: bool
) -> tuple[Collected, tuple[Tensor, ...]]:
    """Make the pass; kept is -t log p - (1-t) log q, if the gradient reads it."""
    found = elements(spec, scores, targets, weight, maps, check=True)
    focal = has(spec, "focal", "focal_not")
    p = None
    if has(spec, *OF_P, *FOCAL) or (spec.bins and not spec.bins.hinge):
        p = found.z if spec.link == "identity" else found.z.sigmoid() if spec.link == "sigmoid" else found.z.softmax(1)
    sums = _sums_of_targets(spec, found) | _sums_of_p(spec, found, p)
    cross, unknown = _sums_of_logs(spec, found, sums, focal)
    if p is not None and has(spec, *FOCAL):
        _sums_of_focal(spec, found, miss_of(spec, found, p), cross, unknown, sums)
    if cross is not None and keep:
        cross.nan_to_num_(0.0, SURELY)  # 0 times infinity; and times p q = 0 it has to be 0 for the gradient
    table = bins = nothing = scores.new_empty(0)
    if spec.bins:
        table, bins = _table(spec, found, p)
    collected = Collected(torch.stack([sums[one] for one in spec.sums], 1), table)
    return collected, (nothing if cross is None else cross, bins) if keep else ()


def _table(spec: DenseSpec, found: Elements, p: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the histogram of the errors, and every error's slot."""
    bins, (t, z, w, _) = spec.bins, found
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
    t, _, w, m = found
    sums: Sums = {}
    for kind, number in spec.sums:
        match kind:
            case "weight" if w is None:
                sums[kind, number] = torch.full(t.shape[:2], t.shape[2], dtype=total_dtype(t), device=t.device)
            case "weight" if w is not None:
                sums[kind, number] = total(w).expand(t.shape[:2])
            case "target":
                sums[kind, number] = found.summed(t)
            case "target_sq":
                sums[kind, number] = found.summed(t * t)
            case "map_size" if m is not None:
                sums[kind, number] = found.summed(m.abs())
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
            case "map_prob" if found.m is not None:
                sums[kind, number] = found.summed(p * found.m)
    return sums


def _sums_of_logs(spec: DenseSpec, found: Elements, sums: Sums, focal: bool) -> tuple[Tensor | None, Tensor | None]:
    """Add the sums of -log p and -log q; return -t log p - (1-t) log q for focal ones, and in which channels a score is NaN."""
    t, cross, unknown = found.t, None, None
    if focal or has(spec, "nll", "nll_all"):
        log = found.log(spec.link)
        unknown = _unknown(sums, log)
        if has(spec, "nll_all"):
            sums["nll_all", 0.0] = found.summed(log).neg_()
        cross = log.mul_(t)
        if has(spec, "nll"):
            sums["nll", 0.0] = found.summed_products(cross, unknown).neg_()
        del log
    if not focal:
        cross = None
    if focal or has(spec, "nll_not", "nll_not_all"):
        log = found.minus_log_not(spec.link)
        unknown = _unknown(sums, log) if unknown is None else unknown
        if has(spec, "nll_not_all"):
            sums["nll_not_all", 0.0] = found.summed(log)
        log.addcmul_(t, log, value=-1)
        if has(spec, "nll_not"):
            sums["nll_not", 0.0] = found.summed_products(log, unknown)
        cross = None if cross is None else log.sub_(cross)
    return cross, unknown


def _unknown(sums: Sums, log: Tensor) -> Tensor:
    """Return NaN where a channel of an image has one, else 0, ``[B, K]``; before the logarithms are multiplied."""
    known = sums.get(("prob", 0.0))
    largest = log.amax(2) if known is None else known
    return torch.where(largest.isnan(), torch.nan, 0.0)


def _sums_of_focal(spec: DenseSpec, found: Elements, u: Tensor, cross: Tensor | None, unknown: Tensor | None, sums: Sums) -> None:
    for gamma in gammas(spec):
        values = u.pow(gamma)
        if ("focal_weight", gamma) in spec.sums:
            sums["focal_weight", gamma] = found.summed(values)
        if ("focal", gamma) in spec.sums or ("focal_not", gamma) in spec.sums:
            assert cross is not None and unknown is not None
            inside = values.mul_(cross) * found.t
            sums["focal", gamma] = found.summed_products(inside, unknown)
            sums["focal_not", gamma] = found.summed_products(values.sub_(inside), unknown)
            del inside
        del values


SURELY = 1e30  # what a cross entropy may be at most for the gradient
LEAN = Lean(_fold, unfold, _definition)
