"""Cross entropy, focal loss, and cross entropy over the hard pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.folds.label.oracles.common import Array, complement, log_probabilities, merged, pixels, settle, weights_of


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


def hard(nll: Array, p: Array, thresh: float, min_kept: int, top_k_ratio: float | None) -> Array:
    """The mask of the hard among counted pixels: sort them by -log p, and keep those that come before or equal the k-th."""
    n = len(nll)
    k = min(min_kept, n) if top_k_ratio is None else math.ceil(top_k_ratio * n)
    bound = np.sort(nll)[::-1][k - 1] if k else np.inf
    among_the_hardest = (nll >= bound) & (k > 0)
    return among_the_hardest if top_k_ratio is not None else among_the_hardest | (p < thresh)


def ohem(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    thresh: float = 0.7,
    min_kept: int = 100000,
    top_k_ratio: float | None = None,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    v = weights_of(class_weight, scores.shape[1])
    images = pixels(scores, labels, weight, ignore_index)
    rows, parts = [], []
    for x, y, w in images if per_image else merged(images):
        nll = -log_probabilities(x, link)[np.arange(len(y)), y]
        p = np.real(x[np.arange(len(y)), y] if link == "identity" else np.exp(-nll))
        kept = hard(np.real(nll), p, thresh, min_kept, top_k_ratio)
        rows.append(np.where(kept, w * v[y] * nll, 0))
        parts.append((rows[-1].sum(), (w * v[y])[kept].sum(), w.size > 0))
    if reduction != "none":
        return settle(parts, reduction)
    result = np.zeros(labels.size, scores.dtype)
    w = np.ones(labels.shape) if weight is None else np.asarray(weight, np.float64)
    result[((labels != ignore_index) & (w != 0)).reshape(-1)] = np.concatenate(rows)
    return result.reshape(labels.shape)
