"""Scores: the rows of images, what is computed from them, and how they add."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lossfold.errors import LossError
from lossfold.score.formulas import Floats, Statistic, Sums, evaluate, resampled, statistics, sums_of
from lossfold.score.items import Problem
from lossfold.score.rows import Row, collected
from lossfold.score.settings import LABELS, LESS_IS_BETTER, Settings

MANY = 40
"""Labels that are found from which on a reader is asked whether they are classes."""


@dataclass(frozen=True)
class Line:
    """A metric of all images.

    Args:
        metric: its name.
        label: the class, "mean" for that over the classes, "" where there are none.
        value: of all pixels together where the metric is a ratio of counts, else the mean over the images; None: nothing counts.
        low, high: the bootstrap's confidence interval; None for fewer than two images.
        image_mean, image_low, image_high: the mean over the images that have a value, and its interval.
        images: how many these are.
    """

    metric: str
    label: str
    value: float | None
    low: float | None
    high: float | None
    image_mean: float | None
    image_low: float | None
    image_high: float | None
    images: int


@dataclass(frozen=True)
class Scores:
    """What was scored.

    Scores of different images add, ``one + other``: their rows are put together, and everything is computed from the rows.

    Args:
        settings: what decided the rows.
        rows: the images' sums, sorted by name.
        problems: what could not be scored.
        empty: value, as a fraction, of a class that an image or all lack in both; "skip" leaves it out.
        replicates, confidence, seed: of the bootstrap over the images, in percent.
    """

    settings: Settings
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    empty: float | str = "skip"
    replicates: int = 1000
    confidence: float = 95.0
    seed: int = 0

    def __add__(self, other: Scores) -> Scores:
        if not isinstance(other, Scores):
            return NotImplemented
        if other.settings.fingerprint != self.settings.fingerprint:
            raise LossError("Scores", "other", "scores with the same settings", other.settings.fingerprint)
        twice = sorted({row.name for row in self.rows} & {row.name for row in other.rows})
        if twice:
            raise LossError("Scores", "other", "scores of other images", f"{len(twice)} that are in both: {', '.join(twice[:3])}")
        rows, problems = collected([*self.rows, *other.rows, *self.problems, *other.problems])
        return replace(self, rows=tuple(rows), problems=tuple(problems))

    @cached_property
    def sums(self) -> Sums:
        """The rows' sums as one array."""
        return sums_of(self.rows, self.settings)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty for alphas and restored images."""
        return self.sums.classes

    @cached_property
    def statistics(self) -> list[Statistic]:
        """The columns of :attr:`each`, which are the lines of the summary."""
        return statistics(self.sums, self.settings)

    @cached_property
    def each(self) -> Floats:
        """The images' own metrics `[N,M]`, NaN where there is none."""
        if self.settings.task in LABELS:
            return evaluate(self.sums.values, self.settings, self.empty)
        values: Floats = self.sums.values
        return values

    @cached_property
    def summary(self) -> list[Line]:
        """Each metric of all images, with its confidence interval."""
        means = [mean(column) for column in self.each.T]
        labels = self.settings.task in LABELS
        total = evaluate(self.sums.values.sum(0), self.settings, self.empty) if labels else np.array(means)
        counts = (~np.isnan(self.each)).sum(0)
        nothing = np.full((2, len(self.statistics)), np.nan)
        wide, wide_means = nothing, nothing
        if self.replicates and len(self.rows) > 1:
            drawn = resampled(self.sums, self.each, self.settings, self.empty, self.replicates, self.seed)
            wide, wide_means = (interval(values, self.confidence) for values in drawn)
        return [
            Line(*statistic, *map(_known, values), int(count))  # type: ignore[call-arg]
            for statistic, count, *values in zip(self.statistics, counts, total, *wide, means, *wide_means, strict=True)
        ]

    def value(self, metric: str, label: str | None = None) -> float:
        """Return a metric of all images: its mean over classes, that of a class, or the only one.

        Raises:
            LossError: there is no such line.
        """
        wanted = ("mean", "") if label is None else (label,)
        for line in self.summary:
            if line.metric == metric and (line.label in wanted or (label is None and self.settings.task == "binary")):
                return math.nan if line.value is None else line.value
        known = ", ".join(sorted({line.metric for line in self.summary}))
        raise LossError("Scores", "metric", f"one of {known}", repr((metric, label)))

    @property
    def images(self) -> list[dict[str, Any]]:
        """The images' own metrics by name, `iou` for the mean and `iou/road` for a class; None where there is none."""
        names = [column(statistic) for statistic in self.statistics]
        return [
            {"name": row.name, "height": row.sums["size"][0], "width": row.sums["size"][1]}
            | {name: _known(value) for name, value in zip(names, values, strict=True)}
            for row, values in zip(self.rows, self.each.tolist(), strict=True)
        ]

    @property
    def notes(self) -> list[str]:
        """What a reader should know besides."""
        found = []
        parts = [row.name for row in self.rows if row.sums.get("not_in_parts")]
        if parts:
            found.append(
                f"conn is left out for {len(parts)} image(s) above {self.settings.whole:g} megapixels, as it can't be found in "
                f"parts (its largest connected part is that of the whole image); --whole raises the limit: {some(parts)}"
            )
        if self.settings.task == "segmentation" and not self.settings.classes and "255" in self.classes:
            if set(self.classes) <= {"0", "255"}:
                found.append("all labels are 0 and 255: for masks of one object and its background say --task binary")
            else:
                found.append("255 was scored as a class; leave such pixels out with --ignore 255")
        if not self.settings.classes and len(self.classes) > MANY:
            found.append(
                f"{len(self.classes)} labels were found; if these are no class maps, see --task, and else say how many: --classes"
            )
        if self.settings.task == "depth" and self.settings.scale_shift == "none" and "delta3" in self.settings.metrics:
            shares = self.each[:, self.settings.metrics.index("delta3")]
            if mean(shares) < 0.01:
                found.append(
                    "less than 1 % of the predictions are within twice the truth; are the files' units right (--unit, "
                    "--prediction-unit), and are they depths that are known but for a scale (--scale-shift)?"
                )
        if bool(np.isnan(self.each).all()):
            found.append("nothing counts: no image has a value")
        return found

    def worst(self, count: int, metric: str | None = None) -> list[Row]:
        """Return the rows with the worst values of a metric, the first by default; those without one are left out."""
        metric = metric or self.settings.metrics[0]
        at = next(index for index, statistic in enumerate(self.statistics) if statistic.metric == metric)
        values = self.each[:, at] * (-1 if metric in LESS_IS_BETTER else 1)
        order = [int(index) for index in np.argsort(values, kind="stable") if not np.isnan(values[index])]
        return [self.rows[index] for index in order[:count]]


def mean(values: Floats) -> float:
    """Return the mean of what is known, its sum rounded once; NaN of nothing."""
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan
    return math.inf if np.isposinf(known).any() else math.fsum(known.tolist()) / len(known)


def interval(values: Floats, confidence: float) -> Floats:
    """Return the ends `[2,M]` of the middle so many percent of resamples `[R,M]`: of those with a value, no means of two."""
    tail = (100 - confidence) / 200
    ends = np.full((2, values.shape[1]), np.nan)
    for index, each in enumerate(values.T):
        known = np.sort(each[~np.isnan(each)])
        if len(known):
            ends[:, index] = [known[max(0, math.ceil(share * len(known)) - 1)] for share in (tail, 1 - tail)]
    return ends


def column(statistic: Statistic | Line) -> str:
    """Return the name of a statistic in one word."""
    return statistic.metric if statistic.label in ("", "mean") else f"{statistic.metric}/{statistic.label}"


def some(names: Sequence[str]) -> str:
    """Return the first of some names."""
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
