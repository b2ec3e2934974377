"""Maps of the targets' side, by SciPy: what shape losses are held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt
from skimage.morphology import skeletonize

import lossfold as lf

Array = npt.NDArray[Any]
Options = dict[str, Any]


def numbers_of(tensor: torch.Tensor) -> Array:
    """A tensor as an array; of a fake one there is nothing to look at."""
    tensor.sum().item()
    return np.asarray(tensor.detach().cpu().numpy())


def masks_of(labels: Array, classes: int, ignored: int, weight: Array | None = None) -> tuple[Array, Array]:
    """Which pixels ``[B, C, *S]`` belong to each class, and which of them count: not those of weight 0."""
    inside = np.stack([labels == c for c in range(classes)], 1)
    counted = labels != ignored if weight is None else (labels != ignored) & (weight.reshape(labels.shape) != 0)
    counted = np.broadcast_to(counted[:, None], inside.shape)
    return inside & counted, counted


def masks_of_targets(targets: Array, ignored: int, together: bool, weight: Array | None = None) -> tuple[Array, Array]:
    """The same of targets ``[B, K, *S]``, which are inside above 1/2."""
    counted = np.ones(targets.shape, bool) if weight is None else np.broadcast_to(weight != 0, targets.shape)
    if np.issubdtype(targets.dtype, np.integer):
        counted = counted & (targets != ignored)
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


def steps_of(space: tuple[int, ...], options: Options) -> list[float]:
    """From pixel to pixel along each axis."""
    given = options.get("spacing")
    steps = [1.0] * len(space) if given is None else [float(given)] * len(space) if np.isscalar(given) else list(given)
    if options.get("normalize", "none") == "none":
        return steps
    extent = math.hypot(*(step * size for step, size in zip(steps, space, strict=True))) or 1.0
    return [step / extent for step in steps]


def distances(inside: Array, counted: Array, options: Options) -> Array:
    """The signed distances ``[B, C, *S]`` as the boundary loss wants them, with float32's digits."""
    found, steps = np.zeros(inside.shape), steps_of(inside.shape[2:], options)
    for index in np.ndindex(*inside.shape[:2]):
        found[index] = plane(inside[index], counted[index], steps, options.get("boundary", "inner"))
    return found.astype(np.float32).astype(np.float64)


def ours(inside: Array, counted: Array, options: Options) -> Array:
    """The same by lossfold, whose distances are held to SciPy's: in float32 one or another is rounded to its neighbour."""
    if inside.ndim == 2:
        return np.zeros(inside.shape)
    codes = torch.from_numpy(np.where(counted, inside, 2).astype(np.int64)).flatten(0, 1)
    steps = steps_of(inside.shape[2:], options)
    found = lf.functional.signed_distance(codes, 2, ignore_index=2, spacing=steps, boundary=options.get("boundary", "inner"))
    return found[:, 1].double().reshape(inside.shape).numpy()


def boundary(number: Array, weight: Array, size: Array, options: Options) -> Array:
    """Of Σ w p m, Σ w and Σ w abs(m)."""
    return np.asarray(number / np.where(weight != 0, weight, 1))


def skeletons(inside: Array, counted: Array, options: Options) -> Array:
    """The tubed skeletons, by scikit-image."""
    found = np.zeros(inside.shape)
    for index in np.ndindex(*inside.shape[:2]):
        mask = inside[index]
        if mask.ndim == 0:
            found[index] = mask
        elif mask.any():
            thin = skeletonize(mask if mask.ndim > 1 else mask[None]).reshape(mask.shape)
            found[index] = binary_dilation(thin, np.ones((3,) * mask.ndim)) & mask
    return found


def skeleton_recall(number: Array, weight: Array, size: Array, options: Options) -> Array:
    """Of Σ w p s, Σ w and Σ w s."""
    s = options.get("smooth", 1.0)
    return np.where(size + s != 0, 1 - (number + s) / np.where(size + s != 0, size + s, 1), 0)


PLAIN: dict[str, Callable[[Array, Array, Options], Array]] = {"BoundaryLoss": ours, "SkeletonRecallLoss": skeletons}
MAPS: dict[str, Callable[[Array, Array, Options], Array]] = {
    "BoundaryLoss": distances,
    "SkeletonRecallLoss": skeletons,
}
COSTS: dict[str, Callable[[Array, Array, Array, Options], Array]] = {
    "BoundaryLoss": boundary,
    "SkeletonRecallLoss": skeleton_recall,
}


def loss(name: str, p: Array, w: Array, m: Array, t: Array, options: Options) -> Any:
    """A loss of probabilities, weights (0 where nothing counts), maps and masks ``[B, C, P]``."""
    classes = p.shape[1]
    v = np.ones(classes) if options.get("class_weight") is None else np.asarray(options["class_weight"], np.float64)
    v = np.where(np.arange(classes) == 0, v * bool(options.get("include_background", name != "SkeletonRecallLoss")), v)
    sums = [(w * p * m).sum(2), w.sum(2), (w * np.abs(m)).sum(2), ((w != 0) & t).any(2), ((w != 0) & ~t).any(2)]
    number, weight, size, within, without = (x if options.get("per_image") else x.sum(0, keepdims=True) for x in sums)
    there = (within != 0) & (without != 0) if name == "BoundaryLoss" and options.get("of_labels") else size != 0
    counts = there if options.get("absent", "skip") == "skip" else weight != 0
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
