"""Matthews' correlation, the asymmetric losses, Poly-1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.folds.label.oracles.common import Array, complement, log_probabilities, merged, one_hot, pixels, probabilities, settle
from tests.folds.label.oracles.common import weights_of as weights_of
from tests.folds.label.oracles.pixelwise import _pixel_loss


def of_classes(
    scores: Array,
    labels: Array,
    weight: Array | None,
    cost: Callable[[int, Any, Any, Any, Any], Any],
    *,
    absent: str = "skip",
    include_background: bool = True,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    """`cost` is that of class c, from Σpt, Σp, Σt and the counted weight."""
    classes = scores.shape[1]
    v = weights_of(class_weight, classes)
    images = pixels(scores, labels, weight, ignore_index)
    rows, parts = [], []
    for x, y, w in images if per_image else merged(images):
        p, t = probabilities(x, link), one_hot(y, classes)
        row, share = np.zeros(classes, scores.dtype), np.zeros(classes)
        for c in range(0 if include_background else 1, classes):
            present = (y == c).any()
            if present or (absent == "count" and w.size):
                row[c] = v[c] * cost(c, (w * p[:, c] * t[:, c]).sum(), (w * p[:, c]).sum(), (w * t[:, c]).sum(), w.sum())
            if present or (absent != "skip" and w.size):
                share[c] = v[c]
        rows.append(row)
        parts.append((row.sum(), share.sum(), w.size > 0))
    if reduction == "none":
        return np.stack(rows) if per_image else rows[0]
    return settle(parts, reduction)


def correlation(tp: Any, fp: Any, fn: Any, tn: Any) -> Any:
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / below**0.5 if below != 0 else float(fp + fn == 0)


def mcc(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    average: str = "macro",
    smooth: float = 0.0,
    **options: Any,
) -> Any:
    if average == "joint":
        return joint_mcc(scores, labels, weight, **options)

    def cost(c: int, both: Any, predicted: Any, true: Any, n: Any) -> Any:
        cells = both, predicted - both, true - both, n - predicted - true + both
        return 1 - correlation(*(cell + smooth for cell in cells))

    return of_classes(scores, labels, weight, cost, **options)


def joint_mcc(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    """The correlation of two assignments: covariances of the indicators of classes, added up."""
    images = pixels(scores, labels, weight, ignore_index)
    parts = []
    for x, y, w in images if per_image else merged(images):
        value: Any = 0.0
        if w.size:
            p, t, share = probabilities(x, link), one_hot(y, scores.shape[1]), w / w.sum()
            mean_p, mean_t = (share[:, None] * p).sum(0), (share[:, None] * t).sum(0)
            v = weights_of(class_weight, scores.shape[1])
            covariance = (v * (share[:, None] * (p - mean_p) * (t - mean_t)).sum(0)).sum()
            spread = (v * mean_p * (1 - mean_p)).sum() * (v * mean_t * (1 - mean_t)).sum()
            value = 1 - covariance / spread**0.5
        parts.append((value, 1.0, w.size > 0))
    if reduction == "none":
        values = np.asarray([number for number, _, _ in parts])
        return values if per_image else values[0]
    return settle(parts, reduction)


def asymmetric_focal(
    scores: Array, labels: Array, weight: Array | None = None, *, delta: float = 0.7, gamma: float = 2.0, **options: Any
) -> Any:
    v = weights_of(options.pop("class_weight", None), scores.shape[1])
    link = options.pop("link", "softmax")

    def value(x: Array, y: Array) -> tuple[Array, Array]:
        at = (np.arange(len(y)), y)
        factor = np.where(y == 0, (1 - delta) * complement(x, link)[:, 0] ** gamma, delta)
        return factor * v[y] * -log_probabilities(x, link)[at], v[y]

    return pixelwise(scores, labels, weight, value, **options)


def poly(
    scores: Array, labels: Array, weight: Array | None = None, *, epsilon: float = 1.0, gamma: float = 0.0, **options: Any
) -> Any:
    v = weights_of(options.pop("class_weight", None), scores.shape[1])
    link = options.pop("link", "softmax")

    def value(x: Array, y: Array) -> tuple[Array, Array]:
        at = (np.arange(len(y)), y)
        miss = complement(x, link)[at]
        return v[y] * (miss**gamma * -log_probabilities(x, link)[at] + epsilon * miss ** (gamma + 1)), v[y]

    return pixelwise(scores, labels, weight, value, **options)


def pixelwise(
    scores: Array,
    labels: Array,
    weight: Array | None,
    value: Callable[[Array, Array], tuple[Array, Array]],
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    return _pixel_loss(scores, labels, weight, ignore_index, reduction, per_image, value)


def asymmetric_focal_tversky(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    delta: float = 0.7,
    gamma: float = 0.75,
    smooth: float = 1e-7,
    **options: Any,
) -> Any:
    def cost(c: int, both: Any, predicted: Any, true: Any, n: Any) -> Any:
        index = (both + smooth) / (both + (1 - delta) * (predicted - both) + delta * (true - both) + smooth)
        return 1 - index if c == 0 else (1 - index) ** (1 - gamma)

    return of_classes(scores, labels, weight, cost, **options)


def unified_focal(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    balance: float = 0.5,
    delta: float = 0.6,
    gamma: float = 0.5,
    smooth: float = 1e-7,
    absent: str = "skip",
    include_background: bool = True,
    **common: Any,
) -> Any:
    focal = asymmetric_focal(scores, labels, weight, delta=delta, gamma=gamma, **common)
    region = {"smooth": smooth, "absent": absent, "include_background": include_background}
    return balance * focal + (1 - balance) * asymmetric_focal_tversky(
        scores, labels, weight, delta=delta, gamma=gamma, **region, **common
    )


def wasserstein(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    distances: Any = None,
    weighting: str = "foreground",
    smooth: float = 1e-5,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    classes = scores.shape[1]
    matrix = 1 - np.eye(classes) if distances is None else np.asarray(distances) / np.max(distances)
    v = weights_of(class_weight, classes)
    images, parts = pixels(scores, labels, weight, ignore_index), []
    for x, y, w in images if per_image else merged(images):
        delta = (probabilities(x, link) * matrix[y]).sum(1)
        volume = np.array([w[y == c].sum() for c in range(classes)])
        alpha = v * (np.arange(classes) > 0) if weighting == "foreground" else v / (volume + 1)
        right = 2 * (w * alpha[y] * (1 - delta)).sum()
        errors = (w * (alpha[y] if weighting == "volume" else 1.0) * delta).sum()
        parts.append((1 - (right + smooth) / (right + errors + smooth) if w.size else 0.0, 1.0, w.size > 0))
    if reduction == "none":
        values = np.asarray([number for number, _, _ in parts])
        return values if per_image else values[0]
    return settle(parts, reduction)


def exp_log(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    dice_weight: float = 0.8,
    ce_weight: float = 0.2,
    dice_exponent: float = 0.3,
    ce_exponent: float = 0.3,
    smooth: float = 1.0,
    absent: str = "skip",
    include_background: bool = True,
    **common: Any,
) -> Any:
    def cost(c: int, both: Any, predicted: Any, true: Any, n: Any) -> Any:
        return (-np.log((2 * both + smooth) / (predicted + true + smooth))) ** dice_exponent

    region = of_classes(scores, labels, weight, cost, absent=absent, include_background=include_background, **common)
    v, link = weights_of(common.pop("class_weight", None), scores.shape[1]), common.pop("link", "softmax")

    def value(x: Array, y: Array) -> tuple[Array, Array]:
        return v[y] * np.maximum(-log_probabilities(x, link)[np.arange(len(y)), y], 1e-7) ** ce_exponent, v[y]

    return dice_weight * region + ce_weight * pixelwise(scores, labels, weight, value, **common)


ORACLES: dict[str, Callable[..., Any]] = {
    "MCCLoss": mcc,
    "AsymmetricFocalLoss": asymmetric_focal,
    "AsymmetricFocalTverskyLoss": asymmetric_focal_tversky,
    "UnifiedFocalLoss": unified_focal,
    "PolyLoss": poly,
    "GeneralizedWassersteinDiceLoss": wasserstein,
    "ExpLogLoss": exp_log,
}
