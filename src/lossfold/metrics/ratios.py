"""The formulas: each metric is a ratio of counts, an image at a time or all images as one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from lossfold.errors import is_number, python_scalar
from lossfold.folds.arithmetic import total_dtype
from lossfold.metrics.counts import check_classes, check_option, count

EACH = "each"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Counts whose ratio is the metric: of all images together, or with ``per_image`` the mean over images of each one's own.

    Or, with ``per_image="each"``, these values by themselves.
    """

    name: str
    ignore: int | None = None
    per_image: bool | str = False
    fraction: bool = False

    shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, python_scalar(getattr(self, one.name)))
        check_option(self.name, "fraction", isinstance(self.fraction, bool), "True or False", self.fraction)
        known = isinstance(self.per_image, bool) or self.per_image == EACH
        check_option(self.name, "per_image", known, f"True, False or {EACH!r}", self.per_image)

    @property
    def width(self) -> int:
        """How many sums are kept for the numerator, and how many for the denominator."""
        raise NotImplementedError

    def counts(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return numerators and denominators, int64 ``[I, K]``."""
        raise NotImplementedError

    def values(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """Return each image's values ``[I, width]`` as fractions, NaN where there is none."""
        raise NotImplementedError

    def gather(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what adds over batches: counts, or with ``per_image`` the sums of the images' values and how many have one."""
        numerator, denominator = self.counts(preds, labels)
        if self.per_image is False:
            return numerator[0], denominator[0]
        values = self.values(numerator, denominator)
        known = ~values.isnan()
        return torch.where(known, values, 0.0).sum(0), known.sum(0)

    def result(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """Return the metric of what was gathered."""
        value = numerator / denominator if self.per_image else self.values(numerator[None], denominator[None])[0]
        return self.scaled(value).reshape(self.result_shape)

    def each(self, preds: Tensor, labels: Tensor) -> Tensor:
        """Return each image's own metric, in front of its shape."""
        return self.scaled(self.values(*self.counts(preds, labels))).reshape(-1, *self.result_shape)

    def scaled(self, fractions: Tensor) -> Tensor:
        """Return fractions, or percent."""
        return fractions if self.fraction else 100 * fractions

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return ()


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the ratio of two counts in float64 (float32 where there is no float64); NaN for 0 / 0."""
    dtype = total_dtype(numerator)
    return numerator.to(dtype) / denominator.to(dtype)


@dataclass(frozen=True, kw_only=True)
class Overlap(Ratio):
    """IoU (I / (P + T - I)) or Dice (2 I / (P + T)) of each class, or of the foreground alone."""

    classes: int = 2
    empty: float | str = 1.0
    dice: bool = False
    binary: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_classes(self.name, self.classes, self.ignore)
        check_option(self.name, "empty", self.empty == "skip" or is_number(self.empty), "a number or 'skip'", self.empty)
        check_option(self.name, "ignore", not (self.binary and self.ignore == 1), "None or a label other than 1", self.ignore)

    @property
    def width(self) -> int:
        """One for each class; the foreground alone if binary."""
        return 1 if self.binary else self.classes

    def counts(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return I and the union, or 2 I and P + T."""
        table = count(self.name, preds, labels, self.classes, self.ignore, bool(self.per_image), self.binary)
        hits, both = table.diagonal(dim1=1, dim2=2), table.sum(1) + table.sum(2)
        hits, both = (hits[:, 1:], both[:, 1:]) if self.binary else (hits, both)
        return (2 * hits, both) if self.dice else (hits, both - hits)

    def values(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """Return the ratios, ``empty`` where there is neither truth nor prediction, NaN for the ignored class."""
        empty = float("nan") if isinstance(self.empty, str) else float(self.empty)
        values = torch.where(denominator == 0, empty, divide(numerator, denominator))
        if not self.binary and self.ignore is not None:
            values = torch.where(torch.arange(self.width, device=values.device) == self.ignore, torch.nan, values)
        return values

    @property
    def result_shape(self) -> tuple[int, ...]:
        """``[C]``, or a scalar if binary."""
        return () if self.binary else (self.classes,)


@dataclass(frozen=True, kw_only=True)
class Correct(Ratio):
    """The share of the counted pixels that are right, or the mean of that share over the classes that have pixels."""

    classes: int | None = None
    average: str = "pixels"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.average, str) and self.average in ("pixels", "classes")
        check_option(self.name, "average", known, "'pixels' or 'classes'", self.average)
        check_classes(self.name, self.classes, self.ignore)

    @property
    def width(self) -> int:
        """Images have one value each; all images together have counts for each class."""
        return 1 if self.per_image or self.average == "pixels" else self.classes or 1

    def counts(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels that are right and those that count, for each true class or for all."""
        table = count(self.name, preds, labels, self.classes or 1, self.ignore, bool(self.per_image))
        hits, truth = table.diagonal(dim1=1, dim2=2), table.sum(2)
        return (hits, truth) if self.average == "classes" else (hits.sum(1, keepdim=True), truth.sum(1, keepdim=True))

    def values(self, numerator: Tensor, denominator: Tensor) -> Tensor:
        """Return the share, or its mean over the classes that have pixels; NaN where nothing counts."""
        return divide(numerator, denominator).nanmean(1, keepdim=True)
