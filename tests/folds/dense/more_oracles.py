"""Matthews' correlation, the asymmetric losses and Poly-1 of dense targets, in float64 NumPy; see `tests.folds.dense.oracles`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.folds.dense.oracles import Channel, Options, areas, at_least, elementwise, grid
from tests.folds.label.oracles.common import Array, settle, weights_of
from tests.folds.label.oracles.more import correlation


def of_classes(
    x: Array, t: Array, w: Array | None, options: Options, cost: Callable[[int, Channel, bool], Any], together: bool = False
) -> Any:
    v = weights_of(options["class_weight"], x.shape[1])
    soft, absent = np.issubdtype(t.dtype, np.floating) and options.get("soft_overlap") != "product", options.get("absent", "skip")
    rows, parts = [], []
    for row in grid(x, t, w, options, together or options["link"] == "softmax").rows:
        costs, shares = np.zeros(len(row), x.dtype), np.zeros(len(row))
        for k in range(0 if options.get("include_background", True) else 1, len(row)):
            present = (row[k].w * row[k].t).sum() != 0
            if present or (absent == "count" and row[k].w.size):
                costs[k] = v[k] * cost(k, row[k], bool(soft))
            if present or (absent != "skip" and row[k].w.size):
                shares[k] = v[k]
        rows.append(costs)
        parts.append((costs.sum(), shares.sum(), any(c.w.size for c in row)))
    if options["reduction"] == "none":
        return np.stack(rows) if options["per_image"] else rows[0]
    return settle(parts, options["reduction"])


def mcc(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    def cost(k: int, c: Channel, soft: bool) -> Any:
        cells = [(c.w * one).sum() for one in (c.p * c.t, c.p * (1 - c.t), (1 - c.p) * c.t, (1 - c.p) * (1 - c.t))]
        return 1 - correlation(*(cell + options.get("smooth", 0.0) for cell in cells))

    if options.get("average") != "joint":
        return of_classes(x, t, w, options, cost)
    v, parts = weights_of(options["class_weight"], x.shape[1]), []
    for row in grid(x, t, w, options, options["link"] == "softmax").rows:
        above = one = other = np.zeros((), x.dtype)
        for k, c in enumerate(row if options.get("include_background", True) else row[1:]):
            share = v[k] * c.w / c.w.sum() if c.w.size else c.w
            p, q = (share * c.p).sum() / v[k], (share * c.t).sum() / v[k]
            above, one, other = above + (share * (c.p - p) * (c.t - q)).sum(), one + v[k] * p * (1 - p), other + v[k] * q * (1 - q)
        something = any(c.w.size for c in row)
        parts.append((1 - above / (one * other) ** 0.5 if something else 0.0, 1.0, something))
    if options["reduction"] == "none":
        values = np.asarray([number for number, _, _ in parts])
        return values if options["per_image"] else values[0]
    return settle(parts, options["reduction"])


def asymmetric_focal_tversky(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    delta, gamma, s = options.get("delta", 0.7), options.get("gamma", 0.75), options.get("smooth", 1e-7)

    def missed(both: Any, predicted: Any, true: Any) -> Any:
        return 1 - (both + s) / (both + (1 - delta) * (predicted - both) + delta * (true - both) + s)

    def cost(k: int, c: Channel, soft: bool) -> Any:
        both, predicted, true = areas(c, soft, False)
        if options["link"] != "sigmoid":
            return (
                missed(both, predicted, true) if k == 0 else at_least(np.asarray(missed(both, predicted, true)), 0.0) ** (1 - gamma)
            )
        n = c.w.sum()
        rest = missed(n - predicted - true + both, n - predicted, n - true)
        return (rest + at_least(np.asarray(missed(both, predicted, true)), 0.0) ** (1 - gamma)) / 2

    return of_classes(x, t, w, options, cost)


def asymmetric_focal(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, delta, gamma = weights_of(options["class_weight"], x.shape[1]), options.get("delta", 0.7), options.get("gamma", 2.0)

    def value(c: Channel, k: int) -> Any:
        miss, entropy = (c.p * (1 - c.t) + c.q * c.t) ** gamma, c.t * c.nll + (1 - c.t) * c.nll_not
        return v[k] * (delta * c.t * c.nll + (1 - delta) * (1 - c.t) * miss * entropy)

    return elementwise(grid(x, t, w, options, False), x.shape, options, value, lambda c, k: v[k] * np.ones(c.w.shape))


def poly(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, epsilon, gamma = weights_of(options["class_weight"], x.shape[1]), options.get("epsilon", 1.0), options.get("gamma", 0.0)

    def value(c: Channel, k: int) -> Any:
        miss = c.p * (1 - c.t) + c.q * c.t
        return v[k] * (miss**gamma * (c.t * c.nll + (1 - c.t) * c.nll_not) + epsilon * miss ** (gamma + 1))

    return elementwise(grid(x, t, w, options, False), x.shape, options, value, lambda c, k: v[k] * np.ones(c.w.shape))


ORACLES: dict[str, Callable[[Array, Array, Array | None, Options], Any]] = {
    "MCCLoss": mcc,
    "AsymmetricFocalLoss": asymmetric_focal,
    "AsymmetricFocalTverskyLoss": asymmetric_focal_tversky,
    "PolyLoss": poly,
}
