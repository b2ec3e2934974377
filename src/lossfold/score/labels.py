"""Class maps, and masks of one channel or several: the counts of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossfold.metrics.boundaries import SUMS, count_boundaries, halo, in_pixels
from lossfold.score.items import Item
from lossfold.score.pixels import Array, MismatchError, Pixels, check_floats, together
from lossfold.score.settings import BOUNDARIES, Settings
from lossfold.score.windows import windows

COLUMNS = ("hits", "predicted", "true", "pixels", *(f"boundary_{index}" for index in range(SUMS)))
"""Of a class, behind it in a row's list."""
SIDE, BLOCK = 2048, 1 << 20
MOST_LABELS = 256
"""Labels of a class map whose classes are not said; a photograph has more."""
MOST_VALUES = 1024
"""Width of the table in which pairs of labels are counted; with more they are sorted."""


def measure_class_map(item: Item, settings: Settings) -> dict[str, Any]:
    """Count pixels by true and predicted class, and the boundaries of each class."""
    colors = {(red, green, blue): label for red, green, blue, label in settings.colors}
    pred, truth = (Pixels(files[0], "mask", colors) for files in (item.predictions, item.truths))
    pairs: Counter[tuple[int, int]] = Counter()
    lines: dict[int, npt.NDArray[np.int64]] = {}
    with together(truth, pred):
        edges = Edges(settings, truth.size)
        for window in windows((pred, truth), edges.side, edges.halo):
            found, true = window.arrays
            pairs.update(count_pairs(found[window.part], true[window.part], settings.ignore))
            for file, side in ((truth, 0), (pred, 1)):
                check_labels(file, {pair[side] for pair in pairs} - {settings.ignore}, settings)
            if edges.wanted:
                counted = np.ones(true.shape, bool) if settings.ignore is None else true != settings.ignore
                for label in sorted({*values_of(found).tolist(), *values_of(true).tolist()} - {settings.ignore}):
                    sums = edges.count(found == label, true == label, counted, window.part)
                    lines[label] = lines.get(label, 0) + sums
    pixels = sum(pairs.values())
    rows = []
    for label in sorted({label for pair in pairs for label in pair} - {settings.ignore}):
        both = [sum(count for pair, count in pairs.items() if pair[side] == label) for side in (1, 0)]
        rows.append([label, pairs[label, label], *both, pixels, *map(int, lines.get(label, [0] * SUMS))])
    return {"size": list(truth.size), "classes": rows, "confusion": [[*pair, count] for pair, count in sorted(pairs.items())]}


def check_labels(file: Pixels, labels: set[int], settings: Settings) -> None:
    """Refuse labels that are no class, and more of them than a class map has."""
    known = len(settings.classes)
    strange = sorted(label for label in labels if known and not 0 <= label < known)
    if strange:
        hint = "; name what does not count: --ignore 255" if strange == [255] and settings.ignore is None else ""
        raise MismatchError(f"{file.path} holds {shown(strange)}, and the classes are 0 to {known - 1}{hint}")
    if not known and len(labels) > MOST_LABELS:
        raise MismatchError(f"{file.path} holds more than {MOST_LABELS} labels; if it is a class map, say how many: --classes 2000")


def measure_masks(item: Item, settings: Settings) -> dict[str, Any]:
    """Count the pixels of each channel's mask, and its boundary."""
    found = [_measure_mask(*files, settings) for files in zip(item.predictions, item.truths, strict=True)]
    sizes = {tuple(size) for size, _ in found}
    if len(sizes) > 1:
        raise MismatchError(f"the masks of {item.name} have {len(sizes)} sizes")
    return {"size": found[0][0], "classes": [[index, *sums] for index, (_, sums) in enumerate(found)]}


def _measure_mask(prediction: Path, target: Path, settings: Settings) -> tuple[list[int], list[int]]:
    """Return the size and the columns of one channel."""
    truth = Pixels(target, "mask")
    pred = Pixels(prediction, "mask" if settings.threshold is None else "image")
    sums, ones = np.zeros(len(COLUMNS), np.int64), (set[int](), set[int]())
    with together(truth, pred):
        edges = Edges(settings, truth.size)
        for window in windows((pred, truth), edges.side, edges.halo):
            found, true = window.arrays
            counted = np.ones(true.shape, bool) if settings.ignore is None else true != settings.ignore
            if settings.threshold is None:
                ones[0].update(values_of(found[window.part][counted[window.part]]).tolist())
            else:
                found = foreground(pred, found, settings.threshold)
            ones[1].update(values_of(true[window.part][counted[window.part]]).tolist())
            predicted, positive = (found != 0) & counted, (true != 0) & counted
            part = [mask[window.part] for mask in (predicted & positive, predicted, positive, counted)]
            sums[:4] += [np.count_nonzero(mask) for mask in part]
            if edges.wanted:
                sums[4:] += edges.count(predicted, positive, counted, window.part)
    for pixels, values in zip((pred, truth), ones, strict=True):
        if len(values - {0}) > 1:
            hint = "for probabilities: --threshold 0.5" if pixels is pred else "a mask holds 0 and one other value, and --ignore"
            raise MismatchError(f"{pixels.path} holds {shown(sorted(values))}; {hint}")
    return list(truth.size), [int(value) for value in sums]


def foreground(pred: Pixels, values: Array, threshold: float) -> Array:
    """Return where probabilities, as grey values of an image, are above the threshold.

    Raises:
        MismatchError: they have colours.
        FileError: they are floats outside of 0..1.
    """
    if values.shape[2] != 1:
        raise MismatchError(f"{pred.path} holds colours, and a probability is one grey value per pixel")
    check_floats(pred, values, "a probability")
    found: Array = values[..., 0] > threshold * pred.white
    return found


class Edges:
    """The boundary counts of an image, in its pixels.

    Args:
        settings: the tolerance, the width, and whether any of it is wanted.
        size: height and width of the image.
    """

    def __init__(self, settings: Settings, size: tuple[int, int]) -> None:
        self.wanted = bool({*BOUNDARIES} & {*settings.metrics})
        self.tolerance, self.width = in_pixels(settings.tolerance, settings.width, *size)
        self.halo = halo(self.tolerance, self.width) if self.wanted else 0
        self.side = settings.tile or max(SIDE, 5 * self.halo // 2)

    def count(self, pred: Array, truth: Array, counted: Array, part: tuple[slice, slice]) -> npt.NDArray[np.int64]:
        """Return the six counts of a part of a window, looking only at where the masks are."""
        either = (pred | truth) & counted
        rows, columns = np.flatnonzero(either.any(1)), np.flatnonzero(either.any(0))
        if not len(rows):
            return np.zeros(SUMS, np.int64)
        span = [slice(max(0, int(at[0]) - self.halo), int(at[-1]) + self.halo + 1) for at in (rows, columns)]
        inner = tuple(
            slice(max(0, whole.start - cut.start), max(0, whole.stop - cut.start)) for whole, cut in zip(part, span, strict=True)
        )
        masks = [torch.from_numpy(np.ascontiguousarray(mask[span[0], span[1]]))[None] for mask in (pred, truth, counted)]
        sums = count_boundaries(*masks, self.tolerance, self.width, inner)  # type: ignore[call-arg, arg-type]
        found: npt.NDArray[np.int64] = sums[0].numpy()
        return found


def count_pairs(pred: Array, truth: Array, ignore: int | None) -> Counter[tuple[int, int]]:
    """Count the pixels of each pair of a true and a predicted label."""
    low = min(int(pred.min()), int(truth.min()))
    span = max(int(pred.max()), int(truth.max())) - low + 1
    if span <= MOST_VALUES:
        counts = np.zeros(span * span, np.int64)
        for true, found in zip(_blocks(truth), _blocks(pred), strict=True):
            codes = (true.astype(np.int64) - low) * span + (found.astype(np.int64) - low)
            counts += np.bincount(codes.reshape(-1), minlength=span * span)
        codes = np.flatnonzero(counts)
        counts, true, found = counts[codes], codes // span + low, codes % span + low
    else:
        both = np.stack([truth.reshape(-1), pred.reshape(-1)]).astype(np.int64)
        (true, found), counts = np.unique(both, axis=1, return_counts=True)
    each = zip(true.tolist(), found.tolist(), counts.tolist(), strict=True)
    return Counter({(t, p): count for t, p, count in each if t != ignore})


def values_of(labels: Array) -> npt.NDArray[np.int64]:
    """Return the values that occur."""
    if labels.dtype.kind == "u" and labels.dtype.itemsize <= 2:
        known = np.zeros(1 << 8 * labels.dtype.itemsize, bool)
        for block in _blocks(labels):
            known[block] = True
        return np.flatnonzero(known)
    return np.unique(labels).astype(np.int64)


def _blocks(labels: Array) -> list[Array]:
    """Rows of a part, a few at a time: what is made of them is larger than they are."""
    if labels.ndim == 1:
        labels = labels[None]
    step = max(1, BLOCK // max(1, labels.shape[1]))
    return [labels[top : top + step] for top in range(0, labels.shape[0], step)]


def shown(values: Iterable[int]) -> str:
    """Say which values."""
    values = list(values)
    return f"the value(s) {', '.join(map(str, values[:5]))}{', ...' * (len(values) > 5)}"
