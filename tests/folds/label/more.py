"""Matthews' correlation, the asymmetric losses and Poly-1 as one writes them in plain PyTorch; see `tests.folds.label.plain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.folds.label.plain import Options, Pixels, _areas, _pixel, _reduce, _rows

Cost = Callable[[Tensor, Tensor, Tensor, Tensor, Options], Tensor]


def over_classes(cost: Cost) -> Callable[[Pixels, Options], Tensor]:
    def loss(px: Pixels, options: Options) -> Tensor:
        areas = _areas(px, options)
        n = areas[2].sum(1, keepdim=True)
        included = torch.ones_like(px.v)
        included[0] = 0 if not options.get("include_background", True) else 1
        present, counts = (areas[2] != 0).to(px.v.dtype), (n != 0).to(px.v.dtype).expand_as(areas[2])
        absent = options.get("absent", "skip")
        v = px.v * included
        costs = counts if absent == "count" else present
        row = torch.where(costs * v != 0, v * cost(*areas, n, options), 0)
        if options.get("reduction") == "none":
            return row if options.get("per_image") else row[0]
        shares = present if absent == "skip" else counts
        return _reduce(row.sum(1), (shares * v).sum(1), n[:, 0] != 0, options)

    return loss


def correlation(above: Tensor, below: Tensor, wrong: Tensor) -> Tensor:
    return torch.where(below > 0, above / torch.where(below > 0, below, 1).sqrt(), (wrong == 0).to(above.dtype))


def mcc_cost(both: Tensor, predicted: Tensor, true: Tensor, n: Tensor, options: Options) -> Tensor:
    s = options.get("smooth", 0.0)
    n = torch.where(n == 0, 1, n + 4 * s)
    both, predicted, true = (both + s) / n, (predicted + 2 * s) / n, (true + 2 * s) / n
    below = predicted * true * (1 - predicted) * (1 - true)
    return 1 - correlation(both - predicted * true, below, predicted + true - 2 * both)


def mcc(px: Pixels, options: Options) -> Tensor:
    if options.get("average", "macro") == "macro":
        return over_classes(mcc_cost)(px, options)
    areas = _areas(px, options)
    n = areas[2].sum(1, keepdim=True)
    both, predicted, true = (part / torch.where(n == 0, 1, n) for part in areas)
    below = (px.v * predicted * (1 - predicted)).sum(1) * (px.v * true * (1 - true)).sum(1)
    above = (px.v * (both - predicted * true)).sum(1)
    value = torch.where(n[:, 0] != 0, 1 - correlation(above, below, (predicted + true - 2 * both).sum(1)), 0)
    if options.get("reduction") == "none":
        return value if options.get("per_image") else value[0]
    return _reduce(value, torch.ones_like(value), n[:, 0] != 0, options)


def asymmetric_focal(px: Pixels, options: Options) -> Tensor:
    delta, gamma = options.get("delta", 0.7), options.get("gamma", 2.0)
    tiny = torch.finfo(px.p.dtype).tiny
    factor = torch.where(px.y == 0, (1 - delta) * (1 - px.p[:, 0]).clamp_min(tiny) ** gamma, delta)
    return _pixel(px, px.v[px.y] * factor * -px.at_label(px.logs), px.v[px.y], options)


def poly(px: Pixels, options: Options) -> Tensor:
    gamma = options.get("gamma", 0.0)
    miss = (1 - px.at_label(px.p)).clamp_min(torch.finfo(px.p.dtype).tiny)
    value = miss**gamma * -px.at_label(px.logs) + options.get("epsilon", 1.0) * miss ** (gamma + 1)
    return _pixel(px, px.v[px.y] * value, px.v[px.y], options)


def tversky_cost(both: Tensor, predicted: Tensor, true: Tensor, n: Tensor, options: Options) -> Tensor:
    delta, gamma, s = options.get("delta", 0.7), options.get("gamma", 0.75), options.get("smooth", 1e-7)
    errors = (1 - delta) * (predicted - both) + delta * (true - both)
    below = both + errors + s
    missed = errors / torch.where(below == 0, 1, below)
    tiny = torch.finfo(missed.dtype).tiny
    focal = torch.where(missed > tiny, missed.clamp_min(tiny) ** (1 - gamma), 0)
    return torch.where(torch.arange(both.shape[1], device=both.device) == 0, missed, focal)


def unified_focal(px: Pixels, options: Options) -> Tensor:
    options = {"delta": 0.6, "gamma": 0.5} | options
    share = options.get("balance", 0.5)
    return share * asymmetric_focal(px, options) + (1 - share) * over_classes(tversky_cost)(px, options)


def wasserstein(px: Pixels, options: Options) -> Tensor:
    given, eye = options.get("distances"), torch.eye(px.classes, dtype=px.p.dtype, device=px.p.device)
    matrix = 1 - eye if given is None else torch.tensor(given, dtype=px.p.dtype, device=px.p.device) / max(map(max, given))
    delta = (px.p * matrix[px.y].movedim(-1, 1)).sum(1)
    per_image, smooth = options.get("per_image", False), options.get("smooth", 1e-5)
    wrong, size = (_rows((px.hot * (px.w * x)[:, None]).sum(2), per_image) for x in (delta, torch.ones_like(delta)))
    volume = options.get("weighting", "foreground") == "volume"
    alpha = px.v / (size + 1) if volume else px.v * (torch.arange(px.classes, device=px.v.device) > 0)
    right = 2 * (alpha * (size - wrong)).sum(1)
    errors = ((alpha if volume else 1) * wrong).sum(1)
    counts = size.sum(1) != 0
    value = torch.where(counts, errors / (right + errors + smooth), 0)
    if options.get("reduction") == "none":
        return value if per_image else value[0]
    return _reduce(value, torch.ones_like(value), counts, options)


GRAIN = 1e-7  # scores count as 1 - 1e-7 at most


def exp_log(px: Pixels, options: Options) -> Tensor:
    def cost(both: Tensor, predicted: Tensor, true: Tensor, n: Tensor, options: Options) -> Tensor:
        s = options.get("smooth", 1.0)
        return powered(-((2 * both + s) / (predicted + true + s)).log(), options.get("dice_exponent", 0.3))

    entropy = px.v[px.y] * (-px.at_label(px.logs)).clamp_min(GRAIN) ** options.get("ce_exponent", 0.3)
    ce = _pixel(px, entropy, px.v[px.y], options)
    return options.get("dice_weight", 0.8) * over_classes(cost)(px, options) + options.get("ce_weight", 0.2) * ce


def powered(x: Tensor, exponent: float) -> Tensor:
    return torch.where(x < GRAIN, x / GRAIN * GRAIN**exponent, x.clamp_min(GRAIN) ** exponent)


PLAIN: dict[str, Callable[[Pixels, dict[str, Any]], Tensor]] = {
    "MCCLoss": mcc,
    "AsymmetricFocalLoss": asymmetric_focal,
    "AsymmetricFocalTverskyLoss": over_classes(tversky_cost),
    "UnifiedFocalLoss": unified_focal,
    "PolyLoss": poly,
    "GeneralizedWassersteinDiceLoss": wasserstein,
    "ExpLogLoss": exp_log,
}
