"""Float64 NumPy written from the formulas of the losses' papers; it knows nothing of lossfold.

Ignored pixels and pixels of weight 0 are dropped from the arrays before anything is computed, one-hot targets
are built, and nothing is shared between losses but the softmax. All of it is analytic arithmetic that also runs
on complex numbers, so `gradient` differentiates by a complex step: exact to rounding, with no step size to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FLOOR = 1e-12
SCORE_FLOOR = 1e-7


def at_least(x: Array, floor: float) -> Array:
    """max(x, floor), by the real part."""
    return np.where(np.real(x) > floor, x, floor)


def log_probabilities(x: Array, link: str) -> Array:
    if link == "identity":
        return np.asarray(np.log(at_least(x, FLOOR)))
    x = x - np.real(x).max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def probabilities(x: Array, link: str) -> Array:
    return x if link == "identity" else np.exp(log_probabilities(x, link))


def complement(x: Array, link: str) -> Array:
    """1 - p, without cancellation where p is nearly 1."""
    return 1 - x if link == "identity" else -np.expm1(log_probabilities(x, link))


def one_hot(y: Array, classes: int) -> Array:
    return np.eye(classes)[y]


def pixels(scores: Array, labels: Array, weight: Array | None, ignore_index: int) -> list[tuple[Array, Array, Array]]:
    """Per image: scores [N, C], labels [N] and weights [N] of the pixels that count, the others removed."""
    batch, classes = scores.shape[:2]
    x = np.moveaxis(scores.reshape(batch, classes, -1), 1, 2)
    y = labels.reshape(batch, -1).astype(np.int64)
    w = np.ones(y.shape) if weight is None else np.asarray(weight, np.float64).reshape(batch, -1)
    keep = (y != ignore_index) & (w != 0)
    return [(x[i][keep[i]], y[i][keep[i]], w[i][keep[i]]) for i in range(batch)]


def merged(images: list[tuple[Array, Array, Array]]) -> list[tuple[Array, Array, Array]]:
    x, y, w = (np.concatenate([image[k] for image in images]) for k in range(3))
    return [(x, y, w)]


def settle(parts: list[tuple[Any, Any, bool]], reduction: str) -> Any:
    """(numerator, denominator, does anything count) of each image, or of the one merged batch, to a number."""
    if reduction == "sum":
        return sum((number for number, _, _ in parts), 0.0)
    means = [number / total for number, total, counts in parts if counts and total != 0]
    return sum(means, 0.0) / len(means) if means else 0.0


def weights_of(class_weight: Sequence[float] | None, classes: int) -> Array:
    return np.ones(classes) if class_weight is None else np.asarray(class_weight, np.float64)


def _pixel_loss(
    scores: Array,
    labels: Array,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    per_image: bool,
    value: Callable[[Array, Array], tuple[Array, Array]],
) -> Any:
    """`value` gives each pixel's value and its share of the denominator, both before the pixel weight."""
    images = pixels(scores, labels, weight, ignore_index)
    if reduction == "none":
        batch = scores.shape[0]
        flat = np.zeros((batch, labels[0].size), scores.dtype)
        w = np.ones(flat.shape) if weight is None else np.asarray(weight, np.float64).reshape(batch, -1)
        keep = (labels.reshape(batch, -1) != ignore_index) & (w != 0)
        for i, (x, y, wi) in enumerate(images):
            flat[i, keep[i]] = wi * value(x, y)[0]
        return flat.reshape(labels.shape)
    parts = []
    for x, y, w in images if per_image else merged(images):
        number, share = value(x, y)
        parts.append(((w * number).sum(), (w * share).sum(), w.size > 0))
    return settle(parts, reduction)


def cross_entropy(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    label_smoothing: float = 0.0,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    classes = scores.shape[1]
    v = weights_of(class_weight, classes)

    def value(x: Array, y: Array) -> tuple[Array, Array]:
        logs = -log_probabilities(x, link)
        at_label = logs[np.arange(len(y)), y]
        smooth = (logs * v).sum(axis=1) / classes if label_smoothing else 0.0
        return (1 - label_smoothing) * v[y] * at_label + label_smoothing * smooth, v[y]

    return _pixel_loss(scores, labels, weight, ignore_index, reduction, per_image, value)


def focal(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    normalize: str = "pixels",
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    classes = scores.shape[1]
    v = weights_of(class_weight, classes)
    a = np.broadcast_to(np.asarray(1.0 if alpha is None else alpha, np.float64), (classes,))

    def value(x: Array, y: Array) -> tuple[Array, Array]:
        at = (np.arange(len(y)), y)
        modulation = complement(x, link)[at] ** gamma
        number = a[y] * v[y] * modulation * -log_probabilities(x, link)[at]
        return number, v[y] * modulation if normalize == "focal" else v[y]

    return _pixel_loss(scores, labels, weight, ignore_index, reduction, per_image, value)


def _overlap(
    scores: Array,
    labels: Array,
    weight: Array | None,
    score: Callable[[Any, Any, Any], tuple[Any, Any]],
    *,
    exponent: float = 1.0,
    average: str = "macro",
    squared: bool = False,
    log: bool = False,
    absent: str = "skip",
    include_background: bool = True,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    """`score` turns overlap, predicted area and true area into the score's numerator and denominator."""
    classes = scores.shape[1]
    first = 0 if include_background else 1
    v = weights_of(class_weight, classes)

    def loss(overlap: Any, predicted: Any, true: Any) -> Any:
        number, total = score(overlap, predicted, true)
        ratio = number / total if total != 0 else 1.0 + 0 * number
        raw = -np.log(at_least(np.asarray(ratio), SCORE_FLOOR)) if log else 1 - ratio
        return raw**exponent

    images = pixels(scores, labels, weight, ignore_index)
    parts, rows = [], []
    for x, y, w in images if per_image else merged(images):
        p, t = probabilities(x, link), one_hot(y, classes)
        overlap = (w[:, None] * p * t).sum(axis=0)
        predicted = (w[:, None] * (p * p if squared else p)).sum(axis=0)
        true = (w[:, None] * t).sum(axis=0)
        if average == "micro":
            value = loss(*((v * area)[first:].sum() for area in (overlap, predicted, true))) if w.size else 0.0
            rows.append(value)
            parts.append((value, 1.0, w.size > 0))
            continue
        row = np.zeros(classes, scores.dtype)
        share = np.zeros(classes)
        for c in range(first, classes):
            present = true[c] != 0
            if present or (absent == "count" and w.size):
                row[c] = v[c] * loss(overlap[c], predicted[c], true[c])
            if present or absent != "skip":
                share[c] = v[c]
        rows.append(row)
        parts.append((row.sum(), share.sum(), w.size > 0))
    if reduction == "none":
        return np.stack([np.asarray(row) for row in rows]) if per_image else np.asarray(rows[0])
    return settle(parts, reduction)


def dice(scores: Array, labels: Array, weight: Array | None = None, *, smooth: float = 1.0, **options: Any) -> Any:
    return _overlap(scores, labels, weight, lambda o, p, t: (2 * o + smooth, p + t + smooth), **options)


def jaccard(scores: Array, labels: Array, weight: Array | None = None, *, smooth: float = 1.0, **options: Any) -> Any:
    return _overlap(scores, labels, weight, lambda o, p, t: (o + smooth, p + t - o + smooth), **options)


def tversky(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    **options: Any,
) -> Any:
    def score(overlap: Any, predicted: Any, true: Any) -> tuple[Any, Any]:
        false_positive, false_negative = predicted - overlap, true - overlap
        return overlap + smooth, overlap + alpha * false_positive + beta * false_negative + smooth

    return _overlap(scores, labels, weight, score, **options)


def generalized_dice(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    weighting: str = "square",
    smooth: float = 0.0,
    absent: str = "skip",
    include_background: bool = True,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    classes = scores.shape[1]
    power = {"square": 2, "simple": 1, "uniform": 0}[weighting]
    included = range(0 if include_background else 1, classes)
    v = weights_of(class_weight, classes)
    images = pixels(scores, labels, weight, ignore_index)
    parts = []
    for x, y, w in images if per_image else merged(images):
        p, t = probabilities(x, link), one_hot(y, classes)
        true = (w[:, None] * t).sum(axis=0)
        factor = np.zeros(classes)
        present = [c for c in included if true[c] != 0]
        for c in present:
            factor[c] = v[c] / true[c] ** power
        if absent == "count" and present:
            # An absent class is taken to be as large as the smallest present one.
            for c in included:
                if true[c] == 0:
                    factor[c] = v[c] / min(true[d] for d in present) ** power
        number = 2 * (factor * (w[:, None] * p * t).sum(axis=0)).sum() + smooth
        total = (factor * ((w[:, None] * p).sum(axis=0) + true)).sum() + smooth
        value = 1 - number / total if total != 0 else 0.0
        parts.append((value, 1.0, w.size > 0))
    if reduction == "none":
        values = np.asarray([value if counts else 0.0 for value, _, counts in parts])
        return values if per_image else values[0]
    return settle(parts, reduction)


def ce_dice(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    ce_weight: float = 1.0,
    dice_weight: float = 1.0,
    label_smoothing: float = 0.0,
    average: str = "macro",
    smooth: float = 1.0,
    squared: bool = False,
    log: bool = False,
    absent: str = "skip",
    include_background: bool = True,
    **common: Any,
) -> Any:
    overlap = {"average": average, "smooth": smooth, "squared": squared, "log": log, "absent": absent}
    entropy = cross_entropy(scores, labels, weight, label_smoothing=label_smoothing, **common)
    region = dice(scores, labels, weight, include_background=include_background, **overlap, **common)
    return ce_weight * entropy + dice_weight * region


ORACLES: dict[str, Callable[..., Any]] = {
    "CrossEntropyLoss": cross_entropy,
    "FocalLoss": focal,
    "DiceLoss": dice,
    "JaccardLoss": jaccard,
    "TverskyLoss": tversky,
    "GeneralizedDiceLoss": generalized_dice,
    "CEDiceLoss": ce_dice,
}


def evaluate(name: str, scores: Array, labels: Array, weight: Array | None = None, **options: Any) -> Array:
    """The value of a registered loss, options as its constructor takes them."""
    options = {key: value for key, value in options.items() if key != "engine"}
    scale = options.pop("loss_weight", 1.0)
    return np.asarray(scale * ORACLES[name](scores, labels, weight, **options))


def gradient(function: Callable[[Array], Array], x: Array, cotangent: Array | None = None) -> Array:
    """d sum(cotangent · function) / d x by a complex step on every element."""
    step = 1e-40
    z = x.astype(np.complex128)
    result = np.empty(x.shape)
    for index in np.ndindex(*x.shape):
        z[index] += 1j * step
        value = np.imag(function(z)) / step
        result[index] = (value if cotangent is None else value * cotangent).sum()
        z[index] = x[index]
    return result
