"""Dice, Jaccard, Tversky, generalised Dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.folds.label.oracles.common import (
    SCORE_FLOOR,
    Array,
    at_least,
    merged,
    one_hot,
    pixels,
    probabilities,
    settle,
    weights_of,
)


def _overlap(
    scores: Array,
    labels: Array,
    weight: Array | None,
    score: Callable[[Any, Any, Any], tuple[Any, Any]],
    *,
    exponent: float = 1.0,
    eps: float = 0.0,
    average: str = "macro",
    squared: bool = False,
    log: bool = False,
    log_cosh: bool = False,
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
        total = total + eps
        ratio = number / total if total != 0 else 1.0 + 0 * number
        raw = -np.log(at_least(np.asarray(ratio), SCORE_FLOOR)) if log else 1 - ratio
        return np.log(np.cosh(raw)) if log_cosh else raw**exponent

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
