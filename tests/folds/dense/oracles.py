"""Float64 NumPy written from the formulas of the dense losses; it knows nothing of lossfold.

Elements that do not count are dropped from each channel's arrays. All arithmetic runs on complex numbers, so that
a complex step differentiates it; comparisons and orders go by the real part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from tests.folds.label.oracles.common import FLOOR, SCORE_FLOOR, Array, at_least, settle, weights_of
from tests.folds.label.oracles.lovasz import by_sorting, jaccard_loss
from tests.shapes import maps

Options = dict[str, Any]


@dataclass
class Channel:
    """The elements of one channel that count, of an image or of all."""

    t: Array
    w: Array
    z: Array
    p: Array
    q: Array
    nll: Array
    nll_not: Array


@dataclass
class Grid:
    """All elements ``[B, K, P]``."""

    rows: list[list[Channel]]
    counted: Array
    w: Array
    whole: Channel


def softplus(z: Array) -> Array:
    """log(1 + exp z), for large z too."""
    large = np.real(z) > 0
    small = np.where(large, -z, z)
    return np.where(large, z, 0) + np.log1p(np.exp(small))


def grid(x: Array, targets: Array, weight: Array | None, options: Options, together: bool) -> Grid:
    batch, classes = x.shape[:2]
    z, t = x.reshape(batch, classes, -1), targets.reshape(batch, classes, -1)
    counted = np.ones(t.shape, bool)
    if np.issubdtype(t.dtype, np.integer):
        counted = t != options.get("ignore_index", -100)
    w = np.ones(t.shape)
    if weight is not None:
        given = np.asarray(weight, np.float64)
        w = np.broadcast_to(given.reshape(batch, classes if given.ndim == x.ndim else 1, -1), t.shape)
    counted = counted & (w != 0)
    if together:
        counted = np.broadcast_to(counted.all(axis=1, keepdims=True), counted.shape)
    z, t, w = np.where(counted, z, 0), np.where(counted, t, 0).astype(np.float64), np.where(counted, w, 0)
    link = options["link"]
    if link == "identity":
        p, q = z, 1 - z
        nll, nll_not = -np.log(at_least(p, FLOOR)), -np.log(at_least(q, FLOOR))
    elif link == "softmax":
        shifted = z - np.real(z).max(axis=1, keepdims=True)
        nll = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
        p, q = np.exp(-nll), -np.expm1(-nll)
        nll_not = -np.log(at_least(q, FLOOR))
    else:
        nll, nll_not = softplus(-z), softplus(z)
        p, q = np.exp(-nll), np.exp(-nll_not)
    whole = Channel(t, w, z, p, q, nll, nll_not)

    def channel(rows: Any, k: int) -> Channel:
        keep = counted[rows, k]
        return Channel(*(field[rows, k][keep] for field in vars(whole).values()))

    images: list[Any] = [[i] for i in range(batch)] if options["per_image"] else [list(range(batch))]
    return Grid([[channel(rows, k) for k in range(classes)] for rows in images], counted, w, whole)


def elementwise(
    g: Grid,
    shape: tuple[int, ...],
    options: Options,
    value: Callable[[Channel, int], Any],
    share: Callable[[Channel, int], Any],
    *,
    joint: bool = False,
) -> Any:
    """`value` and `share` of the denominator are of channel k's elements, before their weights; `joint`: maps are per pixel."""
    classes = g.counted.shape[1]
    if options["reduction"] == "none":
        all_of_it = [[field[:, k] for field in vars(g.whole).values()] for k in range(classes)]
        found = np.stack([g.w[:, k] * value(Channel(*fields), k) for k, fields in enumerate(all_of_it)], 1)
        found = np.where(g.counted, found, 0)
        return found.sum(axis=1).reshape(shape[0], *shape[2:]) if joint else found.reshape(shape)
    parts = []
    for row in g.rows:
        number = sum((c.w * value(c, k)).sum() for k, c in enumerate(row))
        total = sum((c.w * share(c, k)).sum() for k, c in enumerate(row))
        parts.append((number, total, any(c.w.size for c in row)))
    return settle(parts, options["reduction"])


def binary_cross_entropy(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, classes = weights_of(options["class_weight"], x.shape[1]), x.shape[1]
    given = options.get("pos_weight")
    a = np.broadcast_to(np.asarray(1.0 if given is None else given, np.float64), (classes,))
    eps = options.get("label_smoothing", 0.0)

    def value(c: Channel, k: int) -> Any:
        smooth = (1 - eps) * c.t + eps / 2
        return v[k] * (a[k] * smooth * c.nll + (1 - smooth) * c.nll_not)

    return elementwise(grid(x, t, w, options, False), x.shape, options, value, lambda c, k: v[k] * np.ones(c.w.shape))


def cross_entropy(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, classes, eps = weights_of(options["class_weight"], x.shape[1]), x.shape[1], options.get("label_smoothing", 0.0)

    def value(c: Channel, k: int) -> Any:
        return v[k] * ((1 - eps) * c.t + eps / classes) * c.nll

    def share(c: Channel, k: int) -> Any:
        return np.ones(c.w.shape) / classes

    return elementwise(grid(x, t, w, options, True), x.shape, options, value, share, joint=True)


def focal(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, alpha, gamma = weights_of(options["class_weight"], x.shape[1]), options.get("alpha"), options.get("gamma", 2.0)
    a = np.broadcast_to(np.asarray(0.5 if alpha is None else alpha, np.float64), (x.shape[1],))
    twice = 2.0 if alpha is None else 1.0
    if options["link"] == "softmax":
        excluding = grid(x, t, w, options, True)
        scale = np.ones(x.shape[1]) if alpha is None else a
        value = lambda c, k: v[k] * scale[k] * c.t * c.q**gamma * c.nll  # noqa: E731
        return elementwise(excluding, x.shape, options, value, lambda c, k: v[k] * c.t, joint=True)

    def modulation(c: Channel) -> Any:
        return (c.p * (1 - c.t) + c.q * c.t) ** gamma

    def value(c: Channel, k: int) -> Any:
        factor = twice * (a[k] * c.t + (1 - a[k]) * (1 - c.t))
        return v[k] * factor * modulation(c) * (c.t * c.nll + (1 - c.t) * c.nll_not)

    def share(c: Channel, k: int) -> Any:
        return v[k] * (modulation(c) if options.get("normalize") == "focal" else np.ones(c.w.shape))

    return elementwise(grid(x, t, w, options, False), x.shape, options, value, share)


def areas(c: Channel, soft: bool, squared: bool) -> tuple[Any, Any, Any]:
    """Overlap, predicted and true area; soft masks overlap by half of what their areas exceed their difference."""
    if squared:
        return (c.w * c.p * c.t).sum(), (c.w * c.p**2).sum(), (c.w * c.t**2).sum()
    predicted, true = (c.w * c.p).sum(), (c.w * c.t).sum()
    apart = np.where(np.real(c.p) > c.t, c.p - c.t, c.t - c.p)
    return (predicted + true - (c.w * apart).sum()) / 2 if soft else (c.w * c.p * c.t).sum(), predicted, true


def overlap(score: Callable[[Any, Any, Any, Options], tuple[Any, Any]]) -> Callable[..., Any]:
    def loss(x: Array, t: Array, w: Array | None, options: Options) -> Any:
        v = weights_of(options["class_weight"], x.shape[1])
        first = 0 if options.get("include_background", True) else 1
        soft = np.issubdtype(t.dtype, np.floating) and options.get("soft_overlap") != "product"
        absent = options.get("absent", "skip")

        def cost(both: Any, predicted: Any, true: Any) -> Any:
            above, below = score(both, predicted, true, options)
            ratio = above / below if below != 0 else 1.0 + 0 * above
            raw = -np.log(at_least(np.asarray(ratio), SCORE_FLOOR)) if options.get("log") else 1 - ratio
            raw = np.log(np.cosh(raw)) if options.get("log_cosh") else raw
            exponent = options.get("exponent", 1.0)
            return raw if exponent == 1 else at_least(np.asarray(raw), 0.0) ** exponent  # rounding may leave -1e-17

        rows, parts = [], []
        for row in grid(x, t, w, options, options["link"] == "softmax").rows:
            found = [areas(c, soft, options.get("squared", False)) for c in row]
            counted = [c.w.size > 0 for c in row]
            if options.get("average") == "micro":
                number = cost(*(sum(v[k] * found[k][i] for k in range(first, len(row))) for i in range(3))) if any(counted) else 0.0
                rows.append(np.asarray(number))
                parts.append((number, 1.0, any(counted)))
                continue
            costs, shares = np.zeros(len(row), x.dtype), np.zeros(len(row))
            for k in range(first, len(row)):
                present = found[k][2] != 0
                if present or (absent == "count" and counted[k]):
                    costs[k] = v[k] * cost(*found[k])
                if present or (absent != "skip" and counted[k]):
                    shares[k] = v[k]
            rows.append(costs)
            parts.append((costs.sum(), shares.sum(), any(counted)))
        if options["reduction"] == "none":
            return np.stack(rows) if options["per_image"] else rows[0]
        return settle(parts, options["reduction"])

    return loss


def _dice(both: Any, predicted: Any, true: Any, options: Options) -> tuple[Any, Any]:
    s, eps = options.get("smooth", 1.0), options.get("eps", 0.0)
    return 2 * both + s, predicted + true + s + eps


def _jaccard(both: Any, predicted: Any, true: Any, options: Options) -> tuple[Any, Any]:
    s, eps = options.get("smooth", 1.0), options.get("eps", 0.0)
    return both + s, predicted + true - both + s + eps


def _tversky(both: Any, predicted: Any, true: Any, options: Options) -> tuple[Any, Any]:
    s, eps = options.get("smooth", 1.0), options.get("eps", 0.0)
    alpha, beta = options.get("alpha", 0.5), options.get("beta", 0.5)
    return both + s, both + alpha * (predicted - both) + beta * (true - both) + s + eps


def generalized_dice(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, s = weights_of(options["class_weight"], x.shape[1]), options.get("smooth", 0.0)
    included = range(0 if options.get("include_background", True) else 1, x.shape[1])
    power = {"square": 2, "simple": 1, "uniform": 0}[options.get("weighting", "square")]
    soft = np.issubdtype(t.dtype, np.floating) and options.get("soft_overlap") != "product"
    parts = []
    for row in grid(x, t, w, options, options["link"] == "softmax").rows:
        found = [areas(c, soft, False) for c in row]
        sizes = {k: found[k][2] for k in included if found[k][2] != 0}
        if options.get("absent") == "count" and sizes:
            sizes |= {k: min(sizes.values()) for k in included if k not in sizes}
        number = 2 * sum(v[k] * found[k][0] / size**power for k, size in sizes.items()) + s
        total = sum(v[k] * (found[k][1] + found[k][2]) / size**power for k, size in sizes.items()) + s
        counts = any(c.w.size for c in row) and total != 0
        parts.append((1 - number / total if counts else 0.0, 1.0, counts))
    if options["reduction"] == "none":
        values = np.asarray([number for number, _, _ in parts])
        return values if options["per_image"] else values[0]
    return settle(parts, options["reduction"])


def hinge_bin(m: Array, bins: int) -> Array:
    """16 octaves of 1 + m, each in bins/16 equal parts; of every further octave one bin."""
    octave = np.floor(np.log2(1 + m)).astype(np.int64)
    each = bins // 16
    part = np.floor(((1 + m) / 2.0**octave - 1) * each).astype(np.int64)
    return np.where(octave < 16, octave * each + part, 16 * each + octave - 16)


def equal_bin(m: Array, bins: int) -> Array:
    return np.minimum((m * bins).astype(np.int64), bins - 1)


def in_bins(errors: Array, foreground: Array, w: Array, bin_: Array) -> Any:
    """The Lovász extension with every bin's foreground and background evenly mixed."""
    G = w[foreground].sum()  # noqa: N806 - the paper's letters
    F = B = 0.0  # noqa: N806
    total: Any = 0.0
    for k in np.unique(bin_)[::-1]:
        ours, theirs = (bin_ == k) & foreground, (bin_ == k) & ~foreground
        f, b = w[ours].sum(), w[theirs].sum()
        rise = jaccard_loss(G, F + f, B + b) - jaccard_loss(G, F, B)
        w_f = (np.log1p(b / (G + B)) / b if b else 1 / (G + B)) if f else 0.0
        total = total + w_f * (w[ours] * errors[ours]).sum()
        if b:
            total = total + (rise - f * w_f) / b * (w[theirs] * errors[theirs]).sum()
        F, B = F + f, B + b  # noqa: N806
    return total


def lovasz_errors(c: Channel, link: str) -> tuple[Array, Array]:
    """Which elements are foreground, and every element's error."""
    foreground = c.t > 0.5
    if link == "hinge":
        margin = 1 - np.where(foreground, c.z, -c.z)
        return foreground, np.where(np.real(margin) > 0, margin, 0)
    error = np.where(foreground, c.q, c.p)
    return foreground, np.where(np.real(error) > 1, 1.0, np.where(np.real(error) < 0, 0.0, error))


def lovasz(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    v, classes, link = weights_of(options["class_weight"], x.shape[1]), options.get("classes", "present"), options["link"]
    bins, place = options.get("bins", 4096), hinge_bin if link == "hinge" else equal_bin
    rows, parts = [], []
    for row in grid(x, t, w, options, False).rows:
        values, shares = np.zeros(len(row), x.dtype), np.zeros(len(row))
        for k in range(len(row)) if isinstance(classes, str) else classes:
            foreground, errors = lovasz_errors(row[k], link)
            if foreground.any() if classes == "present" and link != "hinge" else row[k].w.size:
                if options.get("exact"):
                    value = by_sorting(errors, foreground, row[k].w)
                else:
                    value = in_bins(errors, foreground, row[k].w, place(np.real(errors), bins))
                values[k], shares[k] = v[k] * value, v[k]
        rows.append(values)
        parts.append((values.sum(), shares.sum(), any(c.w.size for c in row)))
    if options["reduction"] == "none":
        return np.stack(rows) if options["per_image"] else rows[0]
    return settle(parts, options["reduction"])


def of_map(name: str) -> Callable[[Array, Array, Array | None, Options], Any]:
    """A loss that weighs probabilities by a map of the targets."""

    def value(x: Array, t: Array, w: Array | None, options: Options) -> Any:
        together = options["link"] == "softmax"
        g = grid(x, t, w, options, together)
        inside, counted = maps.masks_of_targets(t, options.get("ignore_index", -100), together, g.w.reshape(t.shape))
        m = maps.MAPS[name](inside, counted, options)
        return maps.loss(name, g.whole.p, g.w, m.reshape(g.w.shape), inside.reshape(g.w.shape), options | {"loss_weight": 1.0})

    return value


def structure(x: Array, t: Array, w: Array | None, options: Options) -> Any:
    k, s, v = options.get("kernel_size", 31), options.get("smooth", 1.0), weights_of(options["class_weight"], x.shape[1])
    g = grid(x, t, w, options, False)
    ignored = (g.w == 0).reshape(t.shape)
    size = (1, 1, *[k] * (t.ndim - 2))
    inside, out = (uniform_filter(z.astype(np.float64), size, mode="constant") for z in (np.where(ignored, 0, t), ignored))
    m = (inside / np.where(out < 1 - 1e-9, 1 - out, 1)).reshape(g.w.shape)
    u, c = g.w * (1 + options.get("factor", 5.0) * np.abs(m - g.whole.t)), g.whole
    both, union = u * c.p * c.t, u * (c.p + c.t - c.p * c.t)
    cross = np.where(u != 0, u * (c.t * c.nll + (1 - c.t) * c.nll_not), 0)
    found = [z.sum(2) if options["per_image"] else z.sum((0, 2))[None] for z in (both, union, cross, u, g.w * c.t)]
    both, union, cross, total, true = found
    counts = (true if options.get("absent") == "skip" else total) != 0
    cost = (
        1
        - np.where(union + s != 0, (both + s) / np.where(union + s != 0, union + s, 1), 1)
        + cross / np.where(total != 0, total, 1)
    )
    shares = np.where(counts, v, 0)
    costs = np.where(shares != 0, v * cost, 0)
    if options["reduction"] == "none":
        return costs if options["per_image"] else costs[0]
    return settle([(a.sum(), b.sum(), b.sum() != 0) for a, b in zip(costs, shares, strict=True)], options["reduction"])


ORACLES: dict[str, Callable[[Array, Array, Array | None, Options], Any]] = {
    "BinaryCrossEntropyLoss": binary_cross_entropy,
    "CrossEntropyLoss": cross_entropy,
    "FocalLoss": focal,
    "DiceLoss": overlap(_dice),
    "JaccardLoss": overlap(_jaccard),
    "TverskyLoss": overlap(_tversky),
    "GeneralizedDiceLoss": generalized_dice,
    "LovaszLoss": lovasz,
    "StructureLoss": structure,
    **{name: of_map(name) for name in maps.MAPS},
}
LINKS = {"BinaryCrossEntropyLoss": "sigmoid", "StructureLoss": "sigmoid"}


def evaluate(name: str, scores: Array, targets: Array, weight: Array | None = None, **given: Sequence[float] | Any) -> Array:
    """The value of a registered loss, options as its constructor takes them."""
    options: Options = {"class_weight": None, "reduction": "mean", "link": LINKS.get(name, "softmax")} | given
    if options.get("per_image") is None:
        options["per_image"] = options["link"] == "hinge" or name == "StructureLoss"
    from tests.folds.dense import more_oracles

    return np.asarray(options.get("loss_weight", 1.0) * (ORACLES | more_oracles.ORACLES)[name](scores, targets, weight, options))
