"""The same losses as one writes them in plain PyTorch: the yardstick of the no-worse rule at each dtype.

Softmax, one-hot, multiply, sum, all in the dtype of the logits and differentiated by autograd. lossfold's engines
are asked to be no further from a float64 truth than this is. In float64 it is itself held to `oracles`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

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
        self.v = torch.ones(self.classes, dtype=x.dtype) if given is None else torch.tensor(given, dtype=x.dtype)
        self.shape = labels.shape

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
    scale = torch.tensor(1.0 if alpha is None else alpha, dtype=px.v.dtype).expand(px.classes)
    modulation = (1 - px.at_label(px.p)) ** options.get("gamma", 2.0)
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
        value = value ** options.get("exponent", 1.0)
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
    s = options.get("smooth", 1.0)
    return 2 * o + s, p + t + s


def _jaccard(o: Tensor, p: Tensor, t: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    s = options.get("smooth", 1.0)
    return o + s, p + t - o + s


def _tversky(o: Tensor, p: Tensor, t: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    s, alpha, beta = options.get("smooth", 1.0), options.get("alpha", 0.5), options.get("beta", 0.5)
    return o + s, o + alpha * (p - o) + beta * (t - o) + s


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
}


def evaluate(name: str, scores: Tensor, labels: Tensor, weight: Tensor | None, options: Options) -> Tensor:
    """A loss written in plain PyTorch, in the dtype of `scores`."""
    return options.get("loss_weight", 1.0) * PLAIN[name](Pixels(scores, labels, weight, options), options)
