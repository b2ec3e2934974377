"""Maps of the targets' side, by SciPy: what shape losses are held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

Array = npt.NDArray[Any]
Options = dict[str, Any]


def masks_of(labels: Array, classes: int, ignored: int) -> tuple[Array, Array]:
    """Which pixels ``[B, C, *S]`` belong to each class, and which of them count."""
    inside = np.stack([labels == c for c in range(classes)], 1)
    counted = np.broadcast_to((labels != ignored)[:, None], inside.shape)
    return inside & counted, counted


def masks_of_targets(targets: Array, ignored: int, together: bool) -> tuple[Array, Array]:
    """The same of targets ``[B, K, *S]``, which are inside above 1/2."""
    counted = np.ones(targets.shape, bool)
    if np.issubdtype(targets.dtype, np.integer):
        counted = targets != ignored
        if together:
            counted = np.broadcast_to(counted.all(1, keepdims=True), targets.shape)
    return (targets > 0.5) & counted, counted


def plane(inside: Array, counted: Array, steps: list[float], boundary: str) -> Array:
    """The signed distance of one mask."""
    others = counted & ~inside
    if inside.ndim == 0 or not inside.any() or not others.any():
        return np.zeros(inside.shape)
    within, without = (distance_transform_edt(~to, sampling=steps) for to in (others, inside))
    inner, outer = ((boundary == side) * min(steps) for side in ("inner", "outer"))
    return np.where(inside, inner - within, without - outer) * counted


def distances(inside: Array, counted: Array, options: Options) -> Array:
    """The signed distances ``[B, C, *S]`` as the boundary loss wants them, with float32's digits."""
    axes = inside.ndim - 2
    given = options.get("spacing")
    steps = [1.0] * axes if given is None else [float(given)] * axes if np.isscalar(given) else list(given)
    if options.get("normalize", "none") == "extent" and axes:
        extent = math.hypot(*(step * size for step, size in zip(steps, inside.shape[2:], strict=True)))
        steps = [step / extent for step in steps]
    found = np.zeros(inside.shape)
    for index in np.ndindex(*inside.shape[:2]):
        found[index] = plane(inside[index], counted[index], steps, options.get("boundary", "inner"))
    return found.astype(np.float32).astype(np.float64)


def boundary(number: Array, weight: Array, size: Array, options: Options) -> Array:
    """Of Σ w p m, Σ w and Σ w abs(m)."""
    return np.asarray(number / np.where(weight != 0, weight, 1))


MAPS: dict[str, Callable[[Array, Array, Options], Array]] = {"BoundaryLoss": distances}
COSTS: dict[str, Callable[[Array, Array, Array, Options], Array]] = {"BoundaryLoss": boundary}


def loss(name: str, p: Array, w: Array, m: Array, options: Options) -> Any:
    """A loss of probabilities, weights (0 where nothing counts) and maps ``[B, C, P]``."""
    classes = p.shape[1]
    v = np.ones(classes) if options.get("class_weight") is None else np.asarray(options["class_weight"], np.float64)
    v = np.where(np.arange(classes) == 0, v * bool(options.get("include_background", True)), v)
    sums = [(w * p * m).sum(2), w.sum(2), (w * np.abs(m)).sum(2)]
    number, weight, size = (x if options.get("per_image") else x.sum(0, keepdims=True) for x in sums)
    counts = (size if options.get("absent", "skip") == "skip" else weight) != 0
    shares = np.where(counts, v, 0)
    costs = np.where(shares != 0, v * COSTS[name](number, weight, size, options), 0)
    scale = options.get("loss_weight", 1.0)
    if options.get("reduction") == "none":
        return scale * (costs if options.get("per_image") else costs[0])
    if options.get("reduction") == "sum":
        return scale * costs.sum()
    above, below = costs.sum(1), shares.sum(1)
    means = [a / b for a, b in zip(above, below, strict=True) if b != 0]
    return scale * (sum(means, 0.0) / len(means) if means else 0.0)
