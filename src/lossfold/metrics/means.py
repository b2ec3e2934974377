"""Metrics that each image has a value of, over many batches: the mean over the images that have one."""
# ruff: noqa: N803 - C is the number of classes

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import python_scalar
from lossfold.metrics import shapes
from lossfold.metrics.accumulators import Accumulator
from lossfold.metrics.boundaries import TOLERANCE, boundary_f1
from lossfold.metrics.counts import check_classes


class ImageMeans(Accumulator):
    """The mean of each class over the images that have a value, NaN without any; whole images at a time."""

    function: ClassVar[Callable[..., Tensor]]
    total: Tensor
    count: Tensor

    def __init__(self, C: int, **options: Any) -> None:
        check_classes(type(self).__name__, python_scalar(C), python_scalar(options.get("ignore")))
        sums = {"total": torch.zeros(C, dtype=torch.float64), "count": torch.zeros(C, dtype=torch.int64)}
        super().__init__({"C": C, **options}, **sums)

    def measure(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return the sums of a batch's values, and how many there are."""
        values = type(self).function(preds, labels, **self.options)
        known = ~values.isnan()
        return torch.where(known, values, 0.0).sum(0), known.sum(0)

    def compute(self) -> Tensor:
        """Return the mean of each class, float64 ``[C]``."""
        return torch.where(self.count > 0, self.total / self.count.clamp_min(1), torch.nan)


class BoundaryF1(ImageMeans):
    """Boundary F1 over many batches; options and values as for :func:`lossfold.metrics.boundary_f1`."""

    function = staticmethod(boundary_f1)

    def __init__(
        self, C: int, tolerance: float = TOLERANCE, empty: float | str = 1.0, ignore: int | None = None, fraction: bool = False
    ) -> None:
        super().__init__(C, tolerance=tolerance, empty=empty, ignore=ignore, fraction=fraction)


class CLDice(ImageMeans):
    """Centreline Dice over many batches; options and values as for :func:`lossfold.metrics.cldice`."""

    function = staticmethod(shapes.cldice)

    def __init__(self, C: int, empty: float | str = 1.0, ignore: int | None = None, fraction: bool = False) -> None:
        super().__init__(C, empty=empty, ignore=ignore, fraction=fraction)


class Hausdorff95(ImageMeans):
    """Hausdorff distances over many batches; options and values as for :func:`lossfold.metrics.hausdorff95`.

    Example:
        >>> metric = Hausdorff95(C=2)
        >>> metric.update(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long())
        >>> metric.compute().tolist()
        [0.0, 0.0]
    """

    function = staticmethod(shapes.hausdorff95)

    def __init__(
        self,
        C: int,
        percentile: float = 95.0,
        spacing: Any = None,
        empty: float | str = 0.0,
        ignore: int | None = None,
    ) -> None:
        super().__init__(C, percentile=percentile, spacing=spacing, empty=empty, ignore=ignore)


class SurfaceDistance(ImageMeans):
    """Average surface distances over many batches; options and values as for :func:`lossfold.metrics.surface_distance`."""

    function = staticmethod(shapes.surface_distance)

    def __init__(
        self, C: int, symmetric: bool = True, spacing: Any = None, empty: float | str = 0.0, ignore: int | None = None
    ) -> None:
        super().__init__(C, symmetric=symmetric, spacing=spacing, empty=empty, ignore=ignore)


class Betti0Error(ImageMeans):
    """How far numbers of parts are off over many batches; options and values as for :func:`lossfold.metrics.betti0_error`."""

    function = staticmethod(shapes.betti0_error)

    def __init__(self, C: int, connectivity: int | None = None, ignore: int | None = None) -> None:
        super().__init__(C, connectivity=connectivity, ignore=ignore)
