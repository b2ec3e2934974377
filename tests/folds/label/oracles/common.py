"""What the oracles share: probabilities, the pixels that count, and the mean of means."""

from __future__ import annotations

from collections.abc import Sequence
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
