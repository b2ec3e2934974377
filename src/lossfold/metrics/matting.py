"""Metrics of alpha mattes: SAD, MSE, Grad and Conn of each image, as functions and over many batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossfold.errors import python_scalar
from lossfold.metrics.accumulators import Means
from lossfold.metrics.counts import check_metrics, check_option
from lossfold.metrics.matting_errors import MAPS, check, measure


@torch.no_grad()
def matting_sad(pred: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """Return the sum of absolute differences over the unknown region, in thousands: ``sum |pred - target| / 1000``.

    Args:
        pred: alphas in [0, 1], ``[B, 1, H, W]`` or ``[B, H, W]``. Published figures keep to the trimap: they set the prediction
            to 0 and 1 where that is known, which Grad and Conn see from the unknown side too.
        target: true alphas of the same shape.
        region: map of the unknown, ``[B, 1, H, W]`` or ``[B, H, W]``: booleans, or floats in [0, 1] that weight the pixels. Never
            a trimap: :func:`lossfold.functional.region_from_trimap` makes it from one. None: the whole image.

    Returns:
        float64 ``[B]`` without a gradient, NaN for images in which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices, and for values outside of [0, 1] (off the CPU an assert on the device).

    Example:
        >>> matting_sad(torch.zeros(1, 1, 50, 40), torch.ones(1, 1, 50, 40))
        tensor([2.], dtype=torch.float64)

    Reference:
        Rhemann et al., A perceptually motivated online benchmark for image matting, CVPR 2009.
    """
    return measure("sad", check("matting_sad", pred, target, region))


@torch.no_grad()
def matting_mse(pred: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """Return the mean squared difference over the unknown region; papers often print it times 1000.

    Args:
        pred, target, region: as for :func:`matting_sad`.

    Returns:
        float64 ``[B]``, NaN for images in which nothing counts.

    Raises:
        LossError: as for :func:`matting_sad`.

    Example:
        >>> matting_mse(torch.full((1, 1, 8, 8), 0.5), torch.ones(1, 1, 8, 8))
        tensor([0.2500], dtype=torch.float64)

    Reference:
        As for :func:`matting_sad`.
    """
    return measure("mse", check("matting_mse", pred, target, region))


@torch.no_grad()
def matting_grad(pred: Tensor, target: Tensor, region: Tensor | None = None, normalize: bool = True) -> Tensor:
    """Return the gradient error over the unknown region, in thousands: ``sum (|grad pred| - |grad target|)^2 / 1000``.

    Gradients are responses to the first derivatives of a Gaussian, sigma 1.4, of 9 x 9 pixels (cut off where the Gaussian falls
    under 0.01), scaled to a sum of squares of 1; the border pixels are repeated.

    Args:
        pred, target, region: as for :func:`matting_sad`.
        normalize: first bring the smallest and the largest alpha of each whole image to 0 and 1, predictions and targets, as the
            evaluation code of Deep Image Matting does, by which the figures on Composition-1k were measured. It changes nothing
            for alphas that reach both. False: alphas as they are.

    Returns:
        float64 ``[B]``, NaN for images in which nothing counts.

    Raises:
        LossError: as for :func:`matting_sad`.

    Example:
        >>> target = torch.ones(1, 1, 32, 32).triu()
        >>> matting_grad(target, target), matting_grad(1 - target, target).abs() < 1e-12
        (tensor([0.], dtype=torch.float64), tensor([True]))

    Reference:
        As for :func:`matting_sad`; Xu et al., Deep Image Matting, CVPR 2017.
    """
    normalize = python_scalar(normalize)
    check_option("matting_grad", "normalize", isinstance(normalize, bool), "True or False", normalize)
    return measure("grad", check("matting_grad", pred, target, region), normalize)


@torch.no_grad()
def matting_conn(pred: Tensor, target: Tensor, region: Tensor | None = None, levels: str = "exact") -> Tensor:
    """Return the connectivity error over the unknown region, in thousands: ``sum |phi(pred) - phi(target)| / 1000``.

    At the levels 0.1, 0.2, ... 1 let the source be the largest 4-connected part of the pixels in which both alphas reach the
    level (of equal ones that whose first pixel comes first, by rows). A pixel's l is the last level before the first at which it
    does not belong to the source (0 if that is 0.1), and ``phi(a) = 1 - d [d >= 0.15]`` with ``d = a - l``.

    Args:
        pred, target, region: as for :func:`matting_sad`; parts are those of the whole image.
        levels: ``"exact"``, or ``"published"``, so that tables compare: as the code that papers use has them, in float64, with the
            rounding of multiples of 0.1, by which an alpha of 153/255, 0.6, does not reach the level 0.6000000000000001. Alphas
            of 8 bits are taken for k/255 in float64 whatever their dtype. On real mattes the two differ by a percent or so.

    Returns:
        float64 ``[B]``, NaN for images in which nothing counts.

    Raises:
        LossError: as for :func:`matting_sad`.

    Example:
        >>> target = torch.ones(1, 1, 10, 10)
        >>> pred = target.clone()
        >>> pred[..., 4, :] = 0  # cuts off the part above, of 40 pixels: with d = 1 in both it costs nothing
        >>> matting_conn(pred, target) * 1000
        tensor([10.], dtype=torch.float64)

    Reference:
        As for :func:`matting_grad`.
    """
    levels = python_scalar(levels)
    check_option("matting_conn", "levels", levels in ("exact", "published"), "'exact' or 'published'", levels)
    return measure("conn", check("matting_conn", pred, target, region), levels == "published")


class MattingMetrics(Means):
    """SAD, MSE, Grad and Conn over many batches: the means over the images in which something counts.

    Args:
        metrics: which of ``"sad"``, ``"mse"``, ``"grad"``, ``"conn"``; of all four, Conn takes the most time.
        per_image: the mean of the images' values, as the field has it; updates bring whole images. False: all that is added is
            one image, a tile at a time: its SAD, and its MSE, the mean over all pixels; Grad and Conn have no such sums.
        normalize: as for :func:`matting_grad`.
        levels: as for :func:`matting_conn`.

    ``compute()`` returns a dict of float64 scalars; NaN where nothing counts.

    Raises:
        LossError: for unknown metrics, for Grad and Conn of tiles, and as for :func:`matting_sad`.

    Example:
        >>> score = MattingMetrics(("sad", "mse"))
        >>> for _ in range(2):
        ...     score.update(torch.zeros(1, 1, 50, 40), torch.ones(1, 1, 50, 40))
        >>> {name: value.item() for name, value in score.compute().items()}
        {'sad': 2.0, 'mse': 1.0}
    """

    def __init__(
        self,
        metrics: Sequence[str] = ("sad", "mse", "grad", "conn"),
        per_image: bool = True,
        normalize: bool = True,
        levels: str = "exact",
    ) -> None:
        who = "MattingMetrics"
        per_image, normalize = python_scalar(per_image), python_scalar(normalize)
        for name, given in (("per_image", per_image), ("normalize", normalize)):
            check_option(who, name, isinstance(given, bool), "True or False", given)
        check_metrics(who, metrics, MAPS)
        add = per_image or not {"grad", "conn"} & set(metrics)
        check_option(who, "metrics", add, "'sad' and 'mse' with per_image=False (Grad and Conn of tiles do not add)", metrics)
        sums = {name: torch.zeros(len(metrics), dtype=torch.float64) for name in ("total", "count")}
        levels = python_scalar(levels)
        check_option(who, "levels", levels in ("exact", "published"), "'exact' or 'published'", levels)
        super().__init__({"metrics": tuple(metrics), "per_image": per_image, "normalize": normalize, "levels": levels}, **sums)

    def update(self, pred: Tensor, target: Tensor, region: Tensor | None = None) -> None:
        """Add a batch, as for :func:`matting_sad`."""
        self.refuse_synced("update")
        mattes = check("MattingMetrics", pred, target, region)
        self.refuse_elsewhere("pred", pred)
        with torch.no_grad():
            for index, name in enumerate(self.options["metrics"]):
                if self.options["per_image"]:
                    flag = self.options["levels"] == "published" if name == "conn" else self.options["normalize"]
                    values = measure(name, mattes, flag)
                    known = ~values.isnan()
                    total, count = torch.where(known, values, 0.0).sum(), known.sum()
                else:
                    total, count = (MAPS[name](mattes, False) * mattes.region).sum(), mattes.region.sum()
                self.total[index] += total
                self.count[index] += count

    forward = update  # type: ignore[assignment]

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the metrics of all that was added, by name."""
        means = super().compute()
        if self.options["per_image"]:
            return means
        sums = torch.where(self.count > 0, self.total / 1000, torch.nan)
        return {name: mean if name == "mse" else sums[index] for index, (name, mean) in enumerate(means.items())}
