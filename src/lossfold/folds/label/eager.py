"""The lean form of the label fold: its sums and their gradient in few steps, with one tensor of the scores' size kept between.

Per pixel, with p = softmax(z), X_c the derivative of the loss by p_c but for the label's own, L that by p_y, q that by -log p_y and
A_c that by -log p_c of every pixel::

    dz_c = w [p_c (X_c - Σ_j p_j X_j + q + Σ_j A_j - L p_y) - A_c] + [c = y] w (L p_y - q)

and for probabilities p = z, dz_c = w (X_c - A_c / p_c) + [c = y] w (L - q / p_y).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.engines.lean import Lean
from lossfold.folds.arithmetic import PROBABILITY_FLOOR, computed_in, minus_times_exp, resize, resize_back, slopes_of, total
from lossfold.folds.bins import Slots as BinSlots
from lossfold.folds.fold import Sum
from lossfold.folds.histogram import Bins
from lossfold.folds.label import definition
from lossfold.folds.label.definition import Collected, hard_pixels
from lossfold.folds.label.definition import integrand as integrand
from lossfold.folds.label.slots import Slots, frame, slots_of, sums_by_class
from lossfold.folds.label.spec import KINDS, LabelSpec

Sums = dict[Sum, Tensor]
FOCAL = ("focal", "focal_weight")


def fold(scores: Tensor, labels: Tensor, weight: Tensor | None, spec: LabelSpec, maps: Tensor | None = None) -> Collected:
    """Compute :func:`lossfold.folds.label.definition.fold`."""
    if any(kind not in KINDS for kind, _ in spec.sums):
        return definition.fold(scores, labels, weight, spec, maps)
    return Collected(*LEAN.run(spec, scores, labels, weight, maps))


def _definition(spec: LabelSpec, scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None) -> Collected:
    return definition.fold(scores, labels, weight, spec, maps)


class Kept(NamedTuple):
    """What the pass keeps for its gradient; without elements what is not needed.

    Attributes:
        state: ``[B, C, P]``: log p, or p where sums read it; then 0 at pixels that do not count.
        y: ``[B, P]``, the labels as :class:`Slots` have them.
        nll: ``[B, P]``, -log p at the labels.
        w: ``[B, P]``, the weights, 0 at pixels that do not count; nothing for 1.
        mask: the hard pixels.
        bins: ``[I, C, N]``, the slots of a histogram.
    """

    state: Tensor
    y: Tensor
    nll: Tensor
    w: Tensor
    mask: Tensor
    bins: Tensor


def has(spec: LabelSpec, *kinds: str) -> bool:
    """Whether one of these kinds of sums is asked for."""
    return any(kind in kinds for kind, _ in spec.sums)


def reads_p(spec: LabelSpec) -> bool:
    """Whether sums read every class's probability, and not the label's -log p alone."""
    return spec.bins is not None or has(spec, "prob", "prob_sq", "prob_at_label", "map_prob")


def _fold(
    spec: LabelSpec, scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None, keep: bool
) -> tuple[Collected, tuple[Tensor, ...]]:
    slots, counts = slots_of(labels, weight, spec.ignore_index, scores.shape[1])
    z = resize(scores, labels.shape[1:], spec.align_corners)
    z = (z.flatten(2) if z.dim() > 2 else z[..., None]).contiguous()
    nothing = z.new_empty(0)
    nll, w, mask, sums = nothing, nothing, nothing.byte(), {}
    out = slots.out if reads_p(spec) or has(spec, "nll_all") or weight is not None or not spec.softmax else slots.y
    if weight is not None:
        w = weight.reshape(slots.y.shape).to(z.dtype).masked_fill(out, 0)
    state = z.log_softmax(1) if spec.softmax else z.masked_fill(out[:, None], 0)
    if has(spec, "nll", "focal", "focal_weight", "hard_weight", "hard_nll"):
        nll = slots.minus_at(state)
        nll = nll if spec.softmax else nll.neg_().clamp_min_(PROBABILITY_FLOOR).log_().neg_()
    if has(spec, "nll_all"):
        log_p = state if spec.softmax else state.clamp_min(PROBABILITY_FLOOR).log_()
        log_p.masked_fill_(out[:, None], 0)
        sums["nll_all", 0.0] = total(log_p * w[:, None] if w.numel() else log_p).neg_()
        del log_p
    if spec.softmax and reads_p(spec):
        state.exp_().masked_fill_(out[:, None], 0)
    if spec.hard:
        p = torch.exp(-nll) if spec.softmax else -slots.minus_at(state)
        mask = hard_pixels(nll, p, ~slots.out, spec.hard).byte()
    kept = Kept(state, slots.y, nll, w, mask, nothing)
    if maps is not None:
        sums |= _sums_of_map(spec, kept, slots.out, maps)
    sums |= _sums_of_p(spec, kept) | _sums_at_label(spec, kept, slots)
    if weight is None:
        sums["weight", 0.0] = counts
    table = nothing
    if spec.bins:
        table, bins = _table(spec.bins, kept, slots, spec.softmax)
        kept = kept._replace(bins=bins)
    collected = Collected(torch.stack([sums[one] for one in spec.sums], 1), table, mask.view(labels.shape) if spec.hard else mask)
    return collected, kept._replace(state=state if spec.softmax else nothing) if keep else ()


def _table(bins: Bins, kept: Kept, slots: Slots, softmax: bool) -> tuple[Tensor, Tensor]:
    """Return the histogram of the errors |[y = c] - p|, and every error's slot."""
    p, _, _, w, _, _ = kept
    found = BinSlots(bins, p.shape)
    place = torch.mul(p, bins.count, out=found.empty(p))
    own = slots.minus_at(p).add_(1).mul_(bins.count).masked_fill_(slots.out, 0)
    place.scatter_(1, slots.within[:, None], own[:, None])
    index, position = found.even(found.rows(place if softmax else place.clamp_(0, bins.count)))
    del place
    found.elements(index).scatter_add_(1, slots.within[:, None], (~slots.out).long().mul_(bins.count)[:, None])
    return found.table(index, position, w[:, None] if w.numel() else ~slots.out[:, None]), found.packed(index)


def _sums_of_p(spec: LabelSpec, kept: Kept) -> Sums:
    sums: Sums = {}
    p, w = kept.state, kept.w
    if has(spec, "prob", "prob_sq"):
        weighted = p * w[:, None] if w.numel() else p
        if has(spec, "prob"):
            sums["prob", 0.0] = total(weighted)
        if has(spec, "prob_sq"):
            sums["prob_sq", 0.0] = total(weighted * p if weighted is p else weighted.mul_(p))
    return sums


def _sums_of_map(spec: LabelSpec, kept: Kept, out: Tensor, maps: Tensor) -> Sums:
    sums: Sums = {}
    m, w = maps.reshape(kept.state.shape).to(kept.state.dtype), kept.w
    for kind in ("map_prob", "map_size"):
        if has(spec, kind):
            share = kept.state * m if kind == "map_prob" else m.abs()
            share = share.mul_(w[:, None]) if w.numel() else share
            sums[kind, 0.0] = total(share.masked_fill_(out[:, None], 0))
    return sums


def _sums_at_label(spec: LabelSpec, kept: Kept, slots: Slots) -> Sums:
    """Return the sums within the pixels of each class."""
    shares: Sums = {}
    _, _, nll, w, mask, _ = kept
    miss = _miss(spec, nll)
    for kind, gamma in spec.sums:
        match kind:
            case "weight" if w.numel():
                shares[kind, gamma] = w
                continue
            case "prob_at_label":
                share = slots.minus_at(kept.state).neg_()
            case "nll":
                share = nll
            case "focal":
                share = miss.pow(gamma).mul_(nll)
            case "focal_weight":
                share = miss.pow(gamma)
            case "hard_weight":
                share = mask.to(nll.dtype)
            case "hard_nll":
                share = torch.where(mask.bool(), nll, 0.0)
                share = share if spec.softmax else share.clamp_min_(0)  # a probability may be a rounding above 1
            case _:
                continue
        shares[kind, gamma] = share * w if w.numel() else share
    return dict(zip(shares, sums_by_class(list(shares.values()), slots).unbind(1), strict=True)) if shares else {}


def _miss(spec: LabelSpec, nll: Tensor) -> Tensor:
    """Return 1 - p at the labels, held above 0, so that every power of it has a derivative."""
    return torch.expm1(-nll).neg_().clamp_min_(torch.finfo(nll.dtype).tiny) if has(spec, *FOCAL) else nll


def _unfold(
    grads: tuple[Tensor | None, ...],
    saved: tuple[Tensor, ...],
    owned: bool,
    spec: LabelSpec,
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    maps: Tensor | None,
) -> Tensor:
    kept, grad, by_bin = Kept(*saved), grads[0], grads[1]
    slots = frame(kept.y, spec.ignore_index, scores.shape[1])
    shape = len(scores), len(spec.sums), scores.shape[1]
    rows = kept.y.new_zeros(shape, dtype=computed_in(scores)) if grad is None else slopes_of(grad, computed_in(scores))
    named = {kind: rows[:, place, :, None] for place, (kind, _) in enumerate(spec.sums)}
    if spec.bins and by_bin is not None:
        named["bins"] = BinSlots(spec.bins, torch.Size((*shape[::2], kept.y.shape[1]))).slopes(kept.bins, by_bin, rows.dtype)
    if maps is not None and "map_prob" in named:
        m = maps.reshape(len(scores), scores.shape[1], -1).to(rows.dtype) * named["map_prob"]
        named["map"] = m.masked_fill_(slots.out[:, None], 0)
    if spec.softmax:
        slope = _through_softmax(spec, kept, slots, rows, named, owned)
    else:
        z = resize(scores, labels.shape[1:], spec.align_corners)
        z = (z.flatten(2) if z.dim() > 2 else z[..., None]).masked_fill(slots.out[:, None], 0)
        slope = _of_probabilities(spec, kept._replace(state=z), slots, rows, named)
    return resize_back(slope, scores, labels.shape[1:], spec.align_corners)


def _through_softmax(spec: LabelSpec, kept: Kept, slots: Slots, rows: Tensor, named: dict[str, Tensor], owned: bool) -> Tensor:
    state, _, nll, w, _, _ = kept
    fix, by_p = _at_label(spec, kept, slots, rows)  # L p_y - q
    if by_p is not None:
        p_y = torch.exp(-nll) if nll.numel() else slots.minus_at(state).neg_()
        fix = by_p.mul_(p_y) if fix is None else fix.addcmul_(by_p, p_y)
    minus = torch.zeros_like(slots.y, dtype=state.dtype) if fix is None else fix  # -(q + Σ A - L p_y)
    if "nll_all" in named:
        minus = (minus - named["nll_all"].sum(1)).masked_fill_(slots.out, 0)
    if reads_p(spec):
        slope = _times_p(state, named)
        if slope is None:
            slope = torch.zeros_like(state)
        else:
            minus = slope.sum(1).add_(minus)
        slope.addcmul_(state, minus[:, None], value=-1)
        if w.numel():
            slope.mul_(w[:, None])
    else:
        if w.numel():
            minus = minus * w
        minus.masked_fill_((nll if nll.numel() else state[:, 0]).isnan(), torch.nan)
        slope = minus_times_exp(minus[:, None], state, owned)
    if "nll_all" in named:
        slope.addcmul_((w if w.numel() else ~slots.out)[:, None], named["nll_all"], value=-1)
    return slope if fix is None else slope.scatter_add_(1, slots.within[:, None], (fix * w if w.numel() else fix)[:, None])


def _times_p(p: Tensor, named: dict[str, Tensor]) -> Tensor | None:
    """Return p_c times the derivative of the loss by p_c, the label's own left aside."""
    slope = p * named["prob"] if "prob" in named else None
    if "bins" in named:
        slope = torch.mul(p, named["bins"], out=torch.empty_like(p)) if slope is None else slope.addcmul_(p, named["bins"])
    if "map" in named:
        slope = torch.mul(p, named["map"], out=torch.empty_like(p)) if slope is None else slope.addcmul_(p, named["map"])
    if "prob_sq" in named:
        square = (p * (2 * named["prob_sq"])).mul_(p)
        slope = square if slope is None else slope.add_(square)
    return slope


def _of_probabilities(spec: LabelSpec, kept: Kept, slots: Slots, rows: Tensor, named: dict[str, Tensor]) -> Tensor:
    p, _, _, w, _, _ = kept
    counted = (w if w.numel() else (~slots.out).to(p.dtype))[:, None]
    slope = counted * named["prob"] if "prob" in named else torch.zeros_like(p)
    if "bins" in named:
        slope.addcmul_(named["bins"].masked_fill((p < 0) | (p > 1), 0), counted)
    if "map" in named:
        slope.addcmul_(named["map"], counted)
    if "prob_sq" in named:
        slope.addcmul_(p * (2 * named["prob_sq"]), counted)
    if "nll_all" in named:
        slope.addcmul_((named["nll_all"] / p).masked_fill_(p < PROBABILITY_FLOOR, 0), counted, value=-1)
    minus_q, by_p = _at_label(spec, kept, slots, rows)
    if minus_q is not None:
        p_y = slots.minus_at(p).neg_()
        through = torch.where(p_y < PROBABILITY_FLOOR, 0.0, minus_q / p_y)
        by_p = through if by_p is None else by_p.add_(through)
    return slope if by_p is None else slope.scatter_add_(1, slots.within[:, None], (by_p * w if w.numel() else by_p)[:, None])


def _at_label(spec: LabelSpec, kept: Kept, slots: Slots, rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return minus the loss's derivatives by each pixel's -log p_y, and those by its p_y: 0 where nothing counts, None for 0."""
    index, table = slots.index, slots.by_class(rows)
    negative = table.neg()
    miss = _miss(spec, kept.nll)
    minus_by_nll, by_p, by_minus_miss = [], [], []
    for place, (kind, gamma) in enumerate(spec.sums):
        match kind:
            case "prob_at_label":
                by_p.append(table[:, place].gather(1, index))
            case "nll":
                minus_by_nll.append(negative[:, place].gather(1, index))
            case "hard_nll":
                minus_by_nll.append(negative[:, place].gather(1, index).mul_(kept.mask.view_as(index)))
            case "focal":  # small factors first: a power of 1 - p may be near the largest number
                g, power = negative[:, place].gather(1, index), miss if gamma == 2 else miss.pow(gamma - 1)
                minus_by_nll.append((power * miss).mul_(g))
                by_minus_miss.append((power * kept.nll).mul_(g.mul_(gamma)))
            case "focal_weight":
                by_minus_miss.append(miss.pow(gamma - 1).mul_(negative[:, place].gather(1, index).mul_(gamma)))
    if by_minus_miss:
        by_p.append(_sum(by_minus_miss))
    if any(gamma < 1 for kind, gamma in spec.sums if kind in FOCAL):  # where 1 - p is held it has no derivative, a large one here
        by_p[-1].masked_fill_(miss <= torch.finfo(miss.dtype).tiny, 0)
    return _sum(minus_by_nll) if minus_by_nll else None, _sum(by_p) if by_p else None


def _sum(tensors: list[Tensor]) -> Tensor:
    for more in tensors[1:]:
        tensors[0] += more
    return tensors[0]


LEAN = Lean(_fold, _unfold, _definition)
