"""Hausdorff and clDice in float64 NumPy, pixel by pixel: every distance is measured, every neighbour looked at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.contract.case import Data

Array = npt.NDArray[Any]
Options = Mapping[str, Any]


class Mask(NamedTuple):
    """One channel of one image: probabilities, targets and weights, and which pixels count."""

    p: Array
    t: Array
    w: Array
    counted: Array


def masks(data: Data, options: Options, labels: bool) -> list[list[Mask]]:
    """Of each image and class."""
    z, target = data.pred.detach().double().numpy(), data.truth.detach().numpy()
    classes = z.shape[1]
    if labels:
        counted = np.repeat((target != options.get("ignore_index", -100))[:, None], classes, 1)
        t = np.stack([target == c for c in range(classes)], 1).astype(float)
    else:
        counted = target != options.get("ignore_index", -100) if target.dtype.kind == "i" else np.ones(z.shape, bool)
        t = np.where(counted, target, 0).astype(float)
    w = np.ones(z.shape) if data.weight is None else data.weight.detach().double().numpy()
    w = np.broadcast_to(w if w.ndim == z.ndim else w[:, None], z.shape)
    counted = counted & (w != 0)
    link = options.get("link", "softmax")
    with np.errstate(over="ignore"):
        soft = np.exp(z - z.max(1, keepdims=True)) if z.size else z
        p = z if link == "identity" else soft / soft.sum(1, keepdims=True) if link == "softmax" else 1 / (1 + np.exp(-z))
    return [[Mask(*(x[b, c] for x in (p, t, w, counted))) for c in range(classes)] for b in range(len(z))]


def depth(mask: Array, counted: Array, step: float) -> Array:
    """From each pixel to the nearest one on the other side."""
    found = np.zeros(mask.shape)
    places = [np.argwhere(counted & side) for side in (~mask, mask)]
    for at in np.argwhere(counted):
        others = places[0] if mask[tuple(at)] else places[1]
        if len(others):
            found[tuple(at)] = step * np.sqrt(((others - at) ** 2).sum(1).min())
    return found


def around(at: tuple[int, ...], image: Array, counted: Array, block: bool) -> Iterator[float]:
    """The values that count of a pixel and its neighbours: in a block, or along the axes."""
    for away in itertools.product((-1, 0, 1), repeat=image.ndim):
        place = tuple(a + d for a, d in zip(at, away, strict=True))
        inside = all(0 <= x < side for x, side in zip(place, image.shape, strict=True))
        if inside and counted[place] and (block or sum(map(abs, away)) <= 1):
            yield float(image[place])


def skeleton(image: Array, counted: Array, iterations: int) -> Array:
    """By the published recursion, S + relu(δ - S δ)."""
    found = np.zeros(image.shape)
    places = [tuple(at) for at in np.argwhere(counted)]
    for _ in range(iterations + 1):
        eroded, opened = image.copy(), image.copy()
        for at in places:
            eroded[at] = min(around(at, image, counted, block=False))
        for at in places:
            opened[at] = max(around(at, eroded, counted, block=True))
        delta = np.maximum(image - opened, 0)
        found = found + np.maximum(delta - found * delta, 0)
        image = eroded
    return np.where(counted, found, 0)


def hausdorff_sums(one: Mask, options: Options) -> Array:
    alpha, step = options.get("alpha", 2.0), options.get("spacing") or 1.0
    far = sum(depth(x > 0.5, one.counted, step) ** alpha for x in (one.p, one.t))
    w = np.where(one.counted, one.w, 0)
    return np.array([(w * (one.p - one.t) ** 2 * far).sum()])


def cldice_sums(one: Mask, options: Options) -> Array:
    sp, st = (skeleton(x, one.counted, options.get("iterations", 3)) for x in (one.p, one.t))
    w = np.where(one.counted, one.w, 0)
    return np.array([(w * x).sum() for x in (sp, sp * one.t, st, st * one.p, one.p, one.t, one.p * one.t)])


def share(inside: Any, of: Any, s: float) -> Any:
    return (inside + s) / (of + s) if of + s else 1.0


def cldice(sums: Array, w: float, options: Options) -> Any:
    s, dice_weight = options.get("smooth", 1.0), options.get("dice_weight", 0.0)
    tp, ts = share(sums[1], sums[0], s), share(sums[3], sums[2], s)
    loss = 1 - (2 * tp * ts / (tp + ts) if tp + ts else 0.0)
    return (1 - dice_weight) * loss + dice_weight * (1 - share(2 * sums[6], sums[4] + sums[5], s))


def hausdorff(sums: Array, w: float, options: Options) -> Any:
    return sums[0] / w if w else 0.0


FORMULAS = {"HausdorffDTLoss": (hausdorff_sums, hausdorff), "CLDiceLoss": (cldice_sums, cldice)}


def evaluate(name: str, data: Data, options: Options, labels: bool) -> Array:
    """The value of a registered loss, options as its constructor takes them."""
    sums_of, formula = FORMULAS[name]
    reduction, absent = options.get("reduction", "mean"), options.get("absent", "skip")
    log, micro = options.get("log", False), options.get("average") == "micro"
    images = masks(data, options, labels)
    if not images:
        return np.zeros(())
    classes = len(images[0])
    v = np.array(options.get("class_weight", [1.0] * classes))
    v[: 0 if options.get("include_background", True) else 1] = 0
    table = np.array([[sums_of(one, options) for one in image] for image in images])
    weight = np.array([[one.w[one.counted].sum() for one in image] for image in images])
    true = np.array([[(one.w * one.t)[one.counted].sum() for one in image] for image in images])
    if not options.get("per_image"):
        table, weight, true = (x.sum(0, keepdims=True) for x in (table, weight, true))
    rows, parts = [], []
    for sums, w, t in zip(table, weight, true, strict=True):
        if micro:
            value = float(formula((v[:, None] * sums).sum(0), 1.0, options)) if w.any() else 0.0
            rows.append(np.array(value))
            parts.append((value, float(w.any())))
            continue
        costs = np.array([formula(sums[c], w[c], options) if (w if absent == "count" else t)[c] else 0.0 for c in range(classes)])
        counts = v * ((t if absent == "skip" else w) != 0)
        rows.append(counts * (np.log1p(costs) if log else costs))
        above, below = (counts * costs).sum(), counts.sum()
        if log:
            above, below = np.log1p(above if reduction == "sum" else above / below if below else 0.0), float(below != 0)
        parts.append((above, below))
    if reduction == "none":
        return np.stack(rows) if options.get("per_image") else rows[0]
    if reduction == "sum":
        return np.array(sum(above for above, _ in parts))
    means = [above / below for above, below in parts if below]
    return np.array(sum(means) / len(means) if means else 0.0)
