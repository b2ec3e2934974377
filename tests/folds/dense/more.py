"""Matthews' correlation, the asymmetric losses and Poly-1 of dense targets, as one writes them in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.folds.dense.plain import Elements, areas, elementwise, included
from tests.folds.label.more import mcc_cost, tversky_cost

Cost = Callable[[Elements, tuple[Tensor, ...], Tensor], Tensor]


def over_classes(cost: Cost, product: bool = False) -> Callable[[Elements], Tensor]:
    def loss(e: Elements) -> Tensor:
        found = areas(e) if not product else tuple(e.rows((e.w * x).sum(2)) for x in (e.p * e.t, e.p, e.t))
        v, counted, n = included(e), e.counted, e.rows(e.w.sum(2))
        absent, present = e.options.get("absent", "skip"), found[2] != 0
        costs = torch.where((counted if absent == "count" else present) & (v != 0), v * cost(e, found, n), 0)
        if e.options.get("reduction") == "none":
            return costs if e.case.by_image else costs[0]
        return e.settle(costs.sum(1), torch.where(present if absent == "skip" else counted, v, 0).sum(1), counted.any(1))

    return loss


def mcc(e: Elements) -> Tensor:
    if e.options.get("average", "macro") == "macro":
        return over_classes(lambda e, found, n: mcc_cost(*found, n, e.options), product=True)(e)
    n, v = e.rows(e.w.sum(2)), included(e)
    both, predicted, true = (e.rows((e.w * x).sum(2)) / torch.where(n == 0, 1, n) for x in (e.p * e.t, e.p, e.t))
    below = (v * predicted * (1 - predicted)).sum(1) * (v * true * (1 - true)).sum(1)
    value = torch.where(n.sum(1) != 0, 1 - (v * (both - predicted * true)).sum(1) / torch.where(below == 0, 1, below).sqrt(), 0)
    if e.options.get("reduction") == "none":
        return value if e.case.by_image else value[0]
    return e.settle(value, torch.ones_like(value), n.sum(1) != 0)


def tversky(e: Elements, found: tuple[Tensor, ...], n: Tensor) -> Tensor:
    both, predicted, true = found
    if e.case.link != "sigmoid":
        return tversky_cost(both, predicted, true, n, e.options)
    cells = ((n - predicted - true + both, n - predicted, n - true), found)
    # of one class, which is the background; and of one that comes after it
    rest = torch.cat([tversky_cost(*(x[:, k : k + 1] for x in cells[0]), n, e.options) for k in range(n.shape[1])], 1)
    shifted = [torch.cat([x[:, :1], x], 1) for x in cells[1]]
    return (rest + tversky_cost(*shifted, n, e.options)[:, 1:]) / 2  # type: ignore[call-arg]


def modulation(e: Elements, gamma: float) -> Tensor:
    return (e.p * (1 - e.t) + e.q * e.t).clamp_min(torch.finfo(e.p.dtype).tiny) ** gamma


def asymmetric_focal(e: Elements) -> Tensor:
    delta, entropy = e.options.get("delta", 0.7), e.t * e.nll + (1 - e.t) * e.nll_not
    back = modulation(e, e.options.get("gamma", 2.0)) * entropy
    return elementwise(e, e.v * (delta * e.t * e.nll + (1 - delta) * (1 - e.t) * back), e.v)


def poly(e: Elements) -> Tensor:
    gamma, entropy = e.options.get("gamma", 0.0), e.t * e.nll + (1 - e.t) * e.nll_not
    value = modulation(e, gamma) * entropy + e.options.get("epsilon", 1.0) * modulation(e, gamma + 1)
    return elementwise(e, e.v * value, e.v)


PLAIN: dict[str, Callable[[Elements], Tensor]] = {
    "MCCLoss": mcc,
    "AsymmetricFocalLoss": asymmetric_focal,
    "AsymmetricFocalTverskyLoss": over_classes(tversky),
    "PolyLoss": poly,
}
