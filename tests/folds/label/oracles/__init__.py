"""Float64 NumPy written from the formulas of the losses' papers; it knows nothing of lossfold.

Ignored pixels and pixels of weight 0 are dropped from the arrays before anything is computed, one-hot targets
are built, and nothing is shared between losses but the softmax. All of it is analytic arithmetic that also runs
on complex numbers, so `gradient` differentiates by a complex step: exact to rounding, with no step size to choose.
Where a formula compares or orders, it does so by the real part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.folds.label.oracles.common import Array as Array
from tests.folds.label.oracles.common import probabilities
from tests.folds.label.oracles.lovasz import lovasz
from tests.folds.label.oracles.more import ORACLES as MORE
from tests.folds.label.oracles.overlap import dice, generalized_dice, jaccard, tversky
from tests.folds.label.oracles.pixelwise import cross_entropy, focal, ohem
from tests.shapes import maps


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


def of_map(name: str) -> Callable[..., Any]:
    """A loss that weighs probabilities by a map of the labels."""

    def value(scores: Array, labels: Array, weight: Array | None = None, **options: Any) -> Any:
        batch, classes = scores.shape[:2]
        inside, counted = maps.masks_of(labels.astype(np.int64), classes, options.get("ignore_index", -100), weight)
        m = maps.MAPS[name](inside, counted, options).reshape(batch, classes, -1)
        w = np.ones(labels.shape) if weight is None else np.asarray(weight, np.float64)
        w = np.where(counted.reshape(m.shape), w.reshape(batch, 1, -1), 0)
        x = np.where(w != 0, scores.reshape(batch, classes, -1), 0)
        return maps.loss(
            name, probabilities(x, options.get("link", "softmax")), w, m, inside.reshape(m.shape), options | {"of_labels": True}
        )

    return value


ORACLES: dict[str, Callable[..., Any]] = {
    "CrossEntropyLoss": cross_entropy,
    "FocalLoss": focal,
    "DiceLoss": dice,
    "JaccardLoss": jaccard,
    "TverskyLoss": tversky,
    "GeneralizedDiceLoss": generalized_dice,
    "CEDiceLoss": ce_dice,
    "OhemCrossEntropyLoss": ohem,
    "LovaszLoss": lovasz,
    **MORE,
    **{name: of_map(name) for name in maps.MAPS},
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
