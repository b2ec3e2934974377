"""Metrics as formulas over sums: the same for one image, for all, and for each resample of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lossfold.score.labels import COLUMNS
from lossfold.score.rows import Row
from lossfold.score.settings import LABELS, Settings

Floats = npt.NDArray[np.float64]

HITS, PREDICTED, TRUE, PIXELS, *EDGES = range(len(COLUMNS))


class Statistic(NamedTuple):
    """A column of the table.

    Args:
        metric: its name.
        label: of which class; "" for what is no class's.
    """

    metric: str
    label: str = ""


class Sums(NamedTuple):
    """What all images' metrics are computed from.

    Args:
        values: `[N,K,10]` counts of label tasks in the order of :data:`COLUMNS`, `[N,M]` the values of the others.
        classes: the names of the K classes.
    """

    values: npt.NDArray[Any]
    classes: tuple[str, ...]


def sums_of(rows: Sequence[Row], settings: Settings) -> Sums:
    """Put the rows' sums into one array."""
    if settings.task not in LABELS:
        known = [[np.nan if row.sums[name] is None else row.sums[name] for name in settings.metrics] for row in rows]
        return Sums(np.array(known, np.float64).reshape(len(rows), len(settings.metrics)), ())
    labels = range(len(settings.classes)) if settings.classes else sorted({one[0] for row in rows for one in row.sums["classes"]})
    place = {label: index for index, label in enumerate(label for label in labels if label != settings.ignore or _masks(settings))}
    values = np.zeros((len(rows), len(place), len(COLUMNS)), np.int64)
    for row, counts in zip(rows, values, strict=True):
        for label, *columns in row.sums["classes"]:
            counts[place[label]] = columns
        counts[:, PIXELS] = max((one[1 + PIXELS] for one in row.sums["classes"]), default=0)
        if _masks(settings):
            counts[:, PIXELS] = [one[1 + PIXELS] for one in row.sums["classes"]]
    return Sums(values, tuple(settings.classes[label] if settings.classes else str(label) for label in place))


def _masks(settings: Settings) -> bool:
    return settings.task != "segmentation"


def statistics(sums: Sums, settings: Settings) -> list[Statistic]:
    """Return what :func:`evaluate` returns the values of, in its order."""
    if settings.task not in LABELS:
        return [Statistic(name) for name in settings.metrics]
    overall = [Statistic("pixel_accuracy")] if settings.task == "segmentation" and "accuracy" in settings.metrics else []
    mean = ["mean"] if settings.task != "binary" else []
    return [Statistic(name, label) for name in settings.metrics for label in (*mean, *sums.classes)] + overall


def evaluate(values: npt.NDArray[Any], settings: Settings, empty: float | str) -> Floats:
    """Return the statistics `[...,M]` of sums `[...,K,10]`, in percent, NaN where there is none.

    Means over classes leave out those without a value.
    """
    counts = values.astype(np.float64)
    hits, predicted, true, pixels = (counts[..., column] for column in (HITS, PREDICTED, TRUE, PIXELS))
    lines, near, targets, found, overlap, bands = (counts[..., column] for column in EDGES)
    nothing = np.nan if isinstance(empty, str) else float(empty)
    with np.errstate(invalid="ignore", divide="ignore"):
        formulas = {
            "iou": _ratio(hits, predicted + true - hits, nothing),
            "dice": _ratio(2 * hits, predicted + true, nothing),
            "accuracy": _ratio(pixels - predicted - true + 2 * hits, pixels) if _masks(settings) else _ratio(hits, true),
            "boundary_iou": _ratio(overlap, bands, nothing),
            "boundary_f1": _f1(near, lines, found, targets, nothing),
        }
        columns = []
        for name in settings.metrics:
            each = formulas[name]
            if settings.task != "binary":
                known = ~np.isnan(each)
                columns.append((np.where(known, each, 0.0).sum(-1) / known.sum(-1))[..., None])
            columns.append(each)
        if settings.task == "segmentation" and "accuracy" in settings.metrics:
            columns.append(_ratio(hits.sum(-1), pixels.max(-1, initial=0))[..., None])
    return 100 * np.concatenate(columns, -1)


def _ratio(numerator: Floats, denominator: Floats, nothing: float = np.nan) -> Floats:
    return np.where(denominator == 0, nothing, numerator / denominator)


def _f1(near: Floats, lines: Floats, found: Floats, targets: Floats, nothing: float) -> Floats:
    """2 P R / (P + R); 0 where one of the two has no boundary, or nothing is near."""
    precision, recall = near / lines, found / targets
    f1 = np.where(near + found > 0, 2 * precision * recall / (precision + recall), 0.0)
    return np.where(lines + targets == 0, nothing, f1)


def resampled(
    sums: Sums, each: Floats, settings: Settings, empty: float | str, replicates: int, seed: int
) -> tuple[Floats, Floats]:
    """Return the statistics of so many resamples of the images, drawn with replacement: of all pixels, and means over images.

    Args:
        sums: of all images.
        each: the images' own statistics `[N,M]`.
        settings: of the task.
        empty: as for :func:`evaluate`.
        replicates: how many.
        seed: of `numpy.random.default_rng`, which draws `integers(0, N, N)` for one resample after the other.

    Returns:
        Both `[replicates,M]`.
    """
    count = len(each)
    random, known = np.random.default_rng(seed), ~np.isnan(each)
    infinite, finite = np.isposinf(each), np.where(np.isfinite(each), each, 0.0)
    flat = sums.values.reshape(count, -1).astype(np.float64)
    pooled, means = [], []
    chunk = max(1, min(256, 2**24 // max(1, count)))
    for start in range(0, replicates, chunk):
        weights = np.stack(
            [np.bincount(random.integers(0, count, count), minlength=count) for _ in range(min(chunk, replicates - start))]
        ).astype(np.float64)
        with np.errstate(invalid="ignore"):
            mean = (weights @ finite) / (weights @ known)
        means.append(np.where(weights @ infinite > 0, np.inf, mean))
        if settings.task in LABELS:
            pooled.append(evaluate((weights @ flat).reshape(-1, *sums.values.shape[1:]), settings, empty))
    return np.concatenate(pooled or means), np.concatenate(means)
