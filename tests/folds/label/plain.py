"""The same losses as one writes them in plain PyTorch: the yardstick of the no-worse rule at each dtype.

Softmax, one-hot, multiply, sum, all in the dtype of the logits and differentiated by autograd. lossfold's engines
are asked to be no further from a float64 truth than this is. In float64 it is itself held to `oracles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.contract.case import INTERPOLATED
from tests.shapes import maps

Options = dict[str, Any]


class Pixels:
    """Scores turned into per-pixel tensors [B, C, P] and [B, P], in one dtype."""

    def __init__(self, scores: Tensor, labels: Tensor, weight: Tensor | None, options: Options) -> None:
        batch, self.classes = scores.shape[:2]
        self.link = options.get("link", "softmax")
        x = scores.reshape(batch, self.classes, -1)
        y = labels.reshape(batch, -1).long()
        keep = y != options.get("ignore_index", -100)
        w = torch.ones_like(x[:, 0]) if weight is None else weight.reshape(batch, -1).to(x.dtype)
        self.w = torch.where(keep, w, 0)
        self.y = torch.where(keep, y, 0)
        self.p = x if self.link == "identity" else torch.softmax(x, 1)
        self.logs = torch.log(x.clamp_min(1e-12)) if self.link == "identity" else torch.log_softmax(x, 1)
        self.hot = functional.one_hot(self.y, self.classes).movedim(-1, 1).to(x.dtype)
        given = options.get("class_weight")
        self.v = torch.tensor([1.0] * self.classes if given is None else given, dtype=x.dtype, device=x.device)
        self.shape = labels.shape
        self.labels = labels

    def at_label(self, values: Tensor) -> Tensor:
        return values.gather(1, self.y.unsqueeze(1)).squeeze(1)


def _mean(number: Tensor, share: Tensor, counts: Tensor) -> Tensor:
    """Mean over the rows (images, or the one row of a batch) in which something counts."""
    valid = counts & (share != 0)
    ratio = torch.where(valid, number / torch.where(valid, share, 1), 0 * number)
    return ratio.sum() / valid.sum().clamp_min(1)


def _rows(values: Tensor, per_image: bool) -> Tensor:
    return values if per_image else values.sum(0, keepdim=True)


def _reduce(number: Tensor, share: Tensor, counts: Tensor, options: Options) -> Tensor:
    return number.sum() if options.get("reduction", "mean") == "sum" else _mean(number, share, counts)


def _pixel(px: Pixels, value: Tensor, share: Tensor, options: Options) -> Tensor:
    if options.get("reduction") == "none":
        return (px.w * value).reshape(px.shape)
    per_image = options.get("per_image", False)
    number, total, area = (_rows((px.w * t).sum(1), per_image) for t in (value, share, torch.ones_like(value)))
    return _reduce(number, total, area != 0, options)


def cross_entropy(px: Pixels, options: Options) -> Tensor:
    eps = options.get("label_smoothing", 0.0)
    value = -(1 - eps) * px.v[px.y] * px.at_label(px.logs)
    if eps:
        value = value - eps / px.classes * (px.logs * px.v.view(1, -1, 1)).sum(1)
    return _pixel(px, value, px.v[px.y], options)


def focal(px: Pixels, options: Options) -> Tensor:
    alpha = options.get("alpha")
    scale = torch.tensor(1.0 if alpha is None else alpha, dtype=px.v.dtype, device=px.v.device).expand(px.classes)
    tiny = torch.finfo(px.p.dtype).tiny  # where p is 1, the slope of a power below 1 is not finite; the limit of all is 0
    modulation = (1 - px.at_label(px.p)).clamp_min(tiny) ** options.get("gamma", 2.0)
    value = scale[px.y] * px.v[px.y] * modulation * -px.at_label(px.logs)
    focal_mean = options.get("normalize", "pixels") == "focal"
    return _pixel(px, value, px.v[px.y] * modulation if focal_mean else px.v[px.y], options)


def _areas(px: Pixels, options: Options) -> tuple[Tensor, Tensor, Tensor]:
    w = px.w.unsqueeze(1)
    predicted = px.p**2 if options.get("squared") else px.p
    sums = ((w * px.p * px.hot).sum(2), (w * predicted).sum(2), (w * px.hot).sum(2))
    overlap, area, true = (_rows(t, options.get("per_image", False)) for t in sums)
    return overlap, area, true


def overlap_loss(score: Callable[[Tensor, Tensor, Tensor, Options], tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def loss(px: Pixels, options: Options) -> Tensor:
        areas = _areas(px, options)
        counts = areas[2].sum(1) != 0
        included = torch.ones_like(px.v)
        included[0] = 0 if not options.get("include_background", True) else 1
        micro = options.get("average", "macro") == "micro"
        if micro:
            overlap, area, true = ((t * px.v * included).sum(1, keepdim=True) for t in areas)
        else:
            overlap, area, true = areas
        number, total = score(overlap, area, true, options)
        ratio = torch.where(total != 0, number / torch.where(total != 0, total, 1), 1)
        value = -torch.log(ratio.clamp_min(1e-7)) if options.get("log") else 1 - ratio
        value = value.cosh().log() if options.get("log_cosh") else value
        exponent = options.get("exponent", 1.0)  # below 1, the slope at a perfect score is not finite
        value = value if exponent == 1 else torch.where(value > 0, value.clamp_min(torch.finfo(value.dtype).tiny) ** exponent, 0)
        per_image, none = options.get("per_image", False), options.get("reduction") == "none"
        if micro:
            value = torch.where(counts, value.squeeze(1), 0)
            if none:
                return value if per_image else value[0]
            return _reduce(value, torch.ones_like(value), counts, options)
        absent = options.get("absent", "skip")
        present = (true != 0).to(px.v.dtype)
        costs = torch.ones_like(present) * counts.unsqueeze(1) if absent == "count" else present
        shares = present if absent == "skip" else torch.ones_like(present)
        row = torch.where(costs * included != 0, px.v * value, 0)
        if none:
            return row if per_image else row[0]
        return _reduce(row.sum(1), (shares * included * px.v).sum(1), counts, options)

    return loss


def _dice(o: Tensor, p: Tensor, t: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    s, eps = options.get("smooth", 1.0), options.get("eps", 0.0)
    return 2 * o + s, p + t + s + eps


def _jaccard(o: Tensor, p: Tensor, t: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    s, eps = options.get("smooth", 1.0), options.get("eps", 0.0)
    return o + s, p + t - o + s + eps


def _tversky(o: Tensor, p: Tensor, t: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    s, eps = options.get("smooth", 1.0), options.get("eps", 0.0)
    alpha, beta = options.get("alpha", 0.5), options.get("beta", 0.5)
    return o + s, o + alpha * (p - o) + beta * (t - o) + s + eps


def generalized_dice(px: Pixels, options: Options) -> Tensor:
    overlap, area, true = _areas(px, options | {"squared": False})
    counts = true.sum(1) != 0
    included = torch.ones_like(px.v)
    included[0] = 0 if not options.get("include_background", True) else 1
    present = (true != 0) & (included != 0)
    safe = torch.where(present, true, 1)
    power = {"square": 2, "simple": 1, "uniform": 0}[options.get("weighting", "square")]
    factor = torch.where(present, 1 / safe**power, 0)
    if options.get("absent", "skip") == "count":  # as large as the smallest present class
        missing = ~present & (included != 0)
        factor = torch.where(missing & counts.unsqueeze(1), factor.amax(1, keepdim=True), factor)
    factor = factor * px.v
    s = options.get("smooth", 0.0)
    number, total = 2 * (factor * overlap).sum(1) + s, (factor * (area + true)).sum(1) + s
    valid = counts & (total != 0)
    value = torch.where(valid, 1 - number / torch.where(valid, total, 1), 0)
    if options.get("reduction") == "none":
        return value if options.get("per_image") else value[0]
    return _reduce(value, torch.ones_like(value), counts, options)


dice = overlap_loss(_dice)


def ohem(px: Pixels, options: Options) -> Tensor:
    nll, p = -px.at_label(px.logs), px.at_label(px.p)
    counted, ratio = px.w != 0, options.get("top_k_ratio")
    rows = counted if options.get("per_image") else counted.reshape(1, -1)
    bounds = []
    for row, costs in zip(rows, nll.reshape(rows.shape), strict=True):
        k = min(options.get("min_kept", 100000), int(row.sum())) if ratio is None else math.ceil(ratio * int(row.sum()))
        bounds.append(costs[row].topk(k).values[-1] if k else costs.new_tensor(math.inf))
    hard = nll >= torch.stack(bounds)[:, None]
    hard = (hard if ratio is not None else hard | (p < options.get("thresh", 0.7))) & counted
    values = torch.where(hard, px.v[px.y] * nll, 0)
    return _pixel(px, values, torch.where(hard, px.v[px.y], 0), options)


def _rises(f: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """What each step adds to 1 - IoU as foreground f and background b go wrong along the last dimension, and its union.

    The difference of two Jaccard losses on one denominator: subtracting them would leave few digits of a small step.
    """
    total, wrong = f.sum(-1, keepdim=True), f.cumsum(-1) - f
    union = total + b.cumsum(-1) - b
    first = union == 0  # no foreground at all, and nothing wrong yet: the loss steps from 0 to 1
    safe = torch.where(first, 1, union)
    return torch.where(first, (b > 0).to(b.dtype), (f * safe + b * (total - wrong)) / (safe * (safe + b))), safe


def _lovasz_by_sorting(errors: Tensor, f: Tensor, b: Tensor) -> Tensor:
    """Images and classes come first, pixels last."""
    errors, order = errors.sort(dim=-1, descending=True, stable=True)
    rises, _ = _rises(f.gather(-1, order), b.gather(-1, order))
    return (errors * rises).sum(-1)


def _lovasz_by_histogram(errors: Tensor, f: Tensor, b: Tensor, bins: int) -> Tensor:
    """The same rise over each bin, its foreground and background evenly mixed."""
    bin_ = (errors.detach() * bins).long().clamp(0, bins - 1)

    def collect(share: Tensor) -> Tensor:
        return share.new_zeros((*share.shape[:-1], bins)).scatter_add(-1, bin_, share).flip(-1)  # the largest errors first

    fs, bs = collect(f), collect(b)
    rises, union = _rises(fs, bs)
    some = torch.where(bs != 0, bs, 1)
    w_f = torch.where(bs != 0, torch.log1p(bs / union) / some, 1 / union)
    w_b = torch.where(bs != 0, (rises - fs * w_f) / some, 0)
    return (w_f * collect(f * errors) + w_b * collect(b * errors)).sum(-1)


def lovasz(px: Pixels, options: Options) -> Tensor:
    def rows(values: Tensor) -> Tensor:
        return values if options.get("per_image") else values.movedim(0, 1).reshape(1, px.classes, -1)

    hot = px.hot != 0
    w = px.w.unsqueeze(1).expand_as(px.hot)
    p = torch.where(px.p > 1, 1, torch.where(px.p < 0, 0, px.p))  # clamp has no gradient at 0 and 1 themselves
    errors = torch.where(hot, 1 - p, p)
    errors, f, b = rows(errors), rows(torch.where(hot, w, 0)), rows(torch.where(hot, 0, w))
    exact = options.get("exact", False)
    values = _lovasz_by_sorting(errors, f, b) if exact else _lovasz_by_histogram(errors, f, b, options.get("bins", 4096))
    classes = options.get("classes", "present")
    counts = (f + b != 0).any(-1)
    v = px.v * counts
    if classes == "present":
        v = torch.where((f != 0).any(-1), v, 0)
    elif classes != "all":
        v = v * functional.one_hot(torch.tensor(list(classes)), px.classes).sum(0).to(v)
    values = torch.where(v != 0, v * values, 0)
    if options.get("reduction") == "none":
        return values if options.get("per_image") else values[0]
    return _reduce(values.sum(1), v.sum(1), counts.any(1), options)


def of_map(name: str, p: Tensor, w: Tensor, m: Tensor, hot: Tensor | None, v: Tensor, options: Options) -> Tensor:
    """A loss that weighs probabilities by a map, ``[B, C, P]`` each; of labels their one-hot form says which classes are there."""
    per_image = options.get("per_image", False)
    v = v if options.get("include_background", name != "SkeletonRecallLoss") else torch.cat([0 * v[:1], v[1:]])
    number, weight, size = (_rows(x.sum(2), per_image) for x in (w * p * m, w.expand_as(p), w * m.abs()))
    there = size != 0
    if hot is not None:
        own = _rows((w * hot).sum(2), per_image)
        there = (own != 0) & (own != own.sum(1, keepdim=True))
    counts = there if options.get("absent", "skip") == "skip" else weight != 0
    shares = torch.where(counts, v, 0)
    costs = torch.where(shares != 0, v * COSTS[name](number, weight, size, options), 0)
    if options.get("reduction") == "none":
        return costs if per_image else costs[0]
    return _reduce(costs.sum(1), shares.sum(1), counts.any(1), options)


def _boundary(number: Tensor, weight: Tensor, size: Tensor, options: Options) -> Tensor:
    return number / torch.where(weight != 0, weight, 1)


def _recall(number: Tensor, weight: Tensor, size: Tensor, options: Options) -> Tensor:
    s = options.get("smooth", 1.0)
    return torch.where(size + s != 0, 1 - (number + s) / torch.where(size + s != 0, size + s, 1), 0)


COSTS: dict[str, Callable[[Tensor, Tensor, Tensor, Options], Tensor]] = {"BoundaryLoss": _boundary, "SkeletonRecallLoss": _recall}


def of_labels(name: str) -> Callable[[Pixels, Options], Tensor]:
    def loss(px: Pixels, options: Options) -> Tensor:
        w = None if px.w.requires_grad else maps.numbers_of(px.w != 0)
        found = maps.masks_of(maps.numbers_of(px.labels.long()), px.classes, options.get("ignore_index", -100), w)
        m = torch.from_numpy(maps.PLAIN[name](*found, options)).to(px.p).reshape(px.p.shape)
        return of_map(name, px.p, px.w[:, None], m, px.hot if name == "BoundaryLoss" else None, px.v, options)

    return loss


def ce_dice(px: Pixels, options: Options) -> Tensor:
    weights = options.get("ce_weight", 1.0), options.get("dice_weight", 1.0)
    return weights[0] * cross_entropy(px, options) + weights[1] * dice(px, options)


PLAIN: dict[str, Callable[[Pixels, Options], Tensor]] = {
    "CrossEntropyLoss": cross_entropy,
    "FocalLoss": focal,
    "DiceLoss": dice,
    "JaccardLoss": overlap_loss(_jaccard),
    "TverskyLoss": overlap_loss(_tversky),
    "GeneralizedDiceLoss": generalized_dice,
    "CEDiceLoss": ce_dice,
    "OhemCrossEntropyLoss": ohem,
    "LovaszLoss": lovasz,
    **{name: of_labels(name) for name in COSTS},
}


def evaluate(name: str, scores: Tensor, labels: Tensor, weight: Tensor | None, options: Options) -> Tensor:
    """A loss written in plain PyTorch, in the dtype of `scores`, which are brought to the labels' resolution."""
    if scores.ndim in INTERPOLATED and scores.shape[2:] != labels.shape[1:]:
        corners = options.get("align_corners", False)
        scores = functional.interpolate(scores, labels.shape[1:], mode=INTERPOLATED[scores.ndim], align_corners=corners)
    from tests.folds.label import more

    return options.get("loss_weight", 1.0) * (PLAIN | more.PLAIN)[name](Pixels(scores, labels, weight, options), options)
