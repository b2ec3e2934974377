"""Depth maps: the errors of an image over what was measured, after the scale that the two are brought to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossfold.files import FileError
from lossfold.metrics.depth import METRICS
from lossfold.score.exact import Total
from lossfold.score.items import Item
from lossfold.score.pixels import Array, MismatchError, Pixels, together
from lossfold.score.settings import Settings
from lossfold.score.windows import windows

Floats = npt.NDArray[np.float64]

SIDE = 1024
ONE = torch.ones((), dtype=torch.float64)


def measure_depth(item: Item, settings: Settings) -> dict[str, Any]:
    """Return the metrics of an image, None where nothing was measured, and how many pixels count."""
    pred, truth = Pixels(item.predictions[0], "numbers"), Pixels(item.truths[0], "numbers")
    with together(truth, pred):
        area, empty = 0, 0
        above, what = (-np.inf, "finite depth") if settings.scale_shift == "least_squares" else (0.0, "finite depth above 0")
        for p, _ in measured(pred, truth, settings):
            area += len(p)
            empty += int((~(np.isfinite(p) & (p > above))).sum())
        if empty:
            raise MismatchError(f"{pred.path} has no {what} at {empty} of the {area} pixels that count")
        factor, shift = scale_and_shift(pred, truth, settings, area)
        sums = {name: [Total() for _ in METRICS[name].maps(ONE, ONE)] for name in settings.metrics}
        for p, t in measured(pred, truth, settings):
            near = torch.from_numpy(np.clip(factor * p + shift, settings.least, settings.most))
            for name, totals in sums.items():
                for total, values in zip(totals, METRICS[name].maps(near, torch.from_numpy(t)), strict=True):
                    total.add(values.numpy())
        row: dict[str, Any] = {"size": [*truth.size], "area": area, "scale_shift": [factor, shift]}
    for name, totals in sums.items():
        means = [torch.tensor(total.value / max(area, 1), dtype=torch.float64) for total in totals]
        row[name] = float(METRICS[name].of(*means)) if area else None
    return row


def measured(pred: Pixels, truth: Pixels, settings: Settings) -> Iterator[tuple[Floats, Floats]]:
    """Yield, part by part, the predictions and the truth of the pixels that count, in the unit of the scores."""
    for window in windows((pred, truth), settings.tile or SIDE):
        p, t = depths((pred, truth), window.arrays, settings)
        counts = counted(t, settings)
        yield p[counts], t[counts]


def depths(files: tuple[Pixels, Pixels], arrays: tuple[Array, ...], settings: Settings) -> list[Floats]:
    """Return rows of a prediction and of the truth in the unit of the scores."""
    units = settings.unit if settings.prediction_unit is None else settings.prediction_unit, settings.unit
    return [of_one_channel(*one) for one in zip(files, arrays, units, strict=True)]


def counted(truth: Floats, settings: Settings) -> npt.NDArray[np.bool_]:
    """Return where depths count: 0, NaN and infinity stand for what was not measured."""
    found: npt.NDArray[np.bool_] = np.isfinite(truth) & (truth >= settings.least)
    return found if settings.most is None else found & (truth <= settings.most)


def of_one_channel(file: Pixels, values: Array, unit: float) -> Floats:
    """Return the depths of rows of a file.

    Raises:
        FileError: it holds colours, several channels, or one bit a pixel.
    """
    if file.has_palette:
        raise FileError(file.path, "holds the numbers of colours, or one bit a pixel", "a depth map has depths")
    if file.shape[2] != 1 or file.has_alpha:
        raise FileError(file.path, "holds colours or several channels", "a depth map has one number per pixel")
    return unit * values[..., 0].astype(np.float64)


def scale_and_shift(pred: Pixels, truth: Pixels, settings: Settings, area: int) -> tuple[float, float]:
    """Return the factor and the shift of the predictions."""
    if settings.scale_shift == "none" or not area:
        return 1.0, 0.0
    if settings.scale_shift == "median":  # the lower one, as lossfold.metrics has it
        both = zip(*measured(pred, truth, settings), strict=True)
        p, t = (float(np.partition(np.concatenate(parts), (area - 1) // 2)[(area - 1) // 2]) for parts in both)
        return t / p, 0.0
    means = [total / area for total in added(measured(pred, truth, settings))]
    away = ((p - means[0], t - means[1]) for p, t in measured(pred, truth, settings))
    both_ways, square = added((p * t, p * p) for p, t in away)
    factor = both_ways / square if square > 0 else 0.0
    return factor, means[1] - factor * means[0]


def added(parts: Iterator[tuple[Floats, Floats]]) -> list[float]:
    """Return the sums of two values a pixel, each rounded once."""
    totals = [Total(), Total()]
    for pair in parts:
        for total, values in zip(totals, pair, strict=True):
            total.add(values)
    return [total.value for total in totals]
