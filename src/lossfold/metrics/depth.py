"""Metrics of depth: relative error, root mean square error and the share that is nearly right, of each image and over many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lossfold.errors import naming
from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.checks import plain
from lossfold.losses.depth.given import measured
from lossfold.losses.depth.invariant import median
from lossfold.metrics.accumulators import Means
from lossfold.metrics.counts import check_metrics, check_option

ALIGNMENTS = ("none", "median", "least_squares")


@torch.no_grad()
def abs_rel(pred: Tensor, target: Tensor, weight: Tensor | None = None, align: str = "none") -> Tensor:
    """Return the mean of ``|pred - target| / target`` over the pixels that were measured.

    Args:
        pred: depths ``[B, 1, H, W]``, floats above 0.
        target: measured ones of the same shape; 0, negative, infinite or NaN where there are none.
        weight: ``[B, 1, H, W]`` or ``[B, H, W]``, bool or >= 0: what counts.
        align: "median" multiplies each prediction by the ratio of the medians first, "least_squares" takes the best scale and
            shift: for predictions that are known but for these.

    Returns:
        float64 ``[B]`` without a gradient; NaN for an image of which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices.

    Example:
        >>> depth = torch.rand(1, 1, 8, 8, dtype=torch.float64) + 1
        >>> abs_rel(1.1 * depth, depth).round(decimals=4), abs_rel(1.1 * depth, depth, align="median").round(decimals=4)
        (tensor([0.1000], dtype=torch.float64), tensor([0.], dtype=torch.float64))

    Reference:
        Eigen et al., NIPS 2014.
    """
    return _score("abs_rel", pred, target, weight, align)


@torch.no_grad()
def rmse(pred: Tensor, target: Tensor, weight: Tensor | None = None, align: str = "none") -> Tensor:
    """Return the root of the mean of ``(pred - target)^2`` over the pixels that were measured, in the target's unit.

    Args:
        pred, target, weight, align: as for :func:`abs_rel`.

    Returns:
        float64 ``[B]`` without a gradient; NaN for an image of which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices.

    Example:
        >>> rmse(torch.full((1, 1, 8, 8), 3.0), torch.ones(1, 1, 8, 8))
        tensor([2.], dtype=torch.float64)
    """
    return _score("rmse", pred, target, weight, align)


@torch.no_grad()
def delta1(pred: Tensor, target: Tensor, weight: Tensor | None = None, align: str = "none", threshold: float = 1.25) -> Tensor:
    """Return the share of the measured pixels with ``max(pred / target, target / pred) < threshold``; the larger the better.

    Args:
        pred, target, weight, align: as for :func:`abs_rel`.
        threshold: 1.25 for δ1, its square and cube for δ2 and δ3.

    Returns:
        float64 ``[B]`` without a gradient; NaN for an image of which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices.

    Example:
        >>> delta1(torch.tensor([[[[1.2, 1.3]]]]), torch.ones(1, 1, 1, 2))
        tensor([0.5000], dtype=torch.float64)
    """
    return _score("delta1", pred, target, weight, align, threshold)


class DepthMetrics(Means):
    """Depth's errors over many batches: the means of the images' values, as the field has it.

    Args:
        metrics: which of ``"abs_rel"``, ``"rmse"``, ``"delta1"``.
        align: as for :func:`abs_rel`.

    ``compute()`` returns a dict of float64 scalars; NaN before any image. An image of which nothing counts is left out.

    Raises:
        LossError: for unknown metrics, and as for :func:`abs_rel`.

    Example:
        >>> score = DepthMetrics()
        >>> for factor in (1.1, 1.3):
        ...     score.update(torch.full((1, 1, 8, 8), factor), torch.ones(1, 1, 8, 8))
        >>> {name: round(value.item(), 4) for name, value in score.compute().items()}
        {'abs_rel': 0.2, 'rmse': 0.2, 'delta1': 0.5}
    """

    def __init__(self, metrics: Sequence[str] = ("abs_rel", "rmse", "delta1"), align: str = "none") -> None:
        check_metrics("DepthMetrics", metrics, METRICS)
        check_option("DepthMetrics", "align", align in ALIGNMENTS, f"one of {', '.join(map(repr, ALIGNMENTS))}", align)
        sums = {"total": torch.zeros(len(metrics), dtype=torch.float64), "count": torch.zeros((), dtype=torch.int64)}
        super().__init__({"metrics": tuple(metrics), "align": align}, **sums)

    def update(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Add a batch, as for :func:`abs_rel`."""
        self.refuse_synced("update")
        names = self.options["metrics"]
        with torch.no_grad():
            values = torch.stack([_score(name, pred, target, weight, self.options["align"], who="DepthMetrics") for name in names])
        self.refuse_elsewhere("pred", values)
        # whatever NaN a network has where nothing counts; elsewhere it is a score, too
        p, t, w = plain((pred, target, weight))
        seen = measured(p, t, w, positive=True).weight.flatten(1).any(1)
        self.total += torch.where(seen, values, 0.0).sum(1)
        self.count += seen.sum()

    forward = update  # type: ignore[assignment]


def _score(
    name: str, pred: Tensor, target: Tensor, weight: Tensor | None, align: str, threshold: float = 1.25, who: str = ""
) -> Tensor:
    """Return a metric of each image, ``[B]``."""
    with naming(who or name):
        pred, target, weight = plain((pred, target, weight))
        check_option(who or name, "align", align in ALIGNMENTS, f"one of {', '.join(map(repr, ALIGNMENTS))}", align)
        p, t, w = measured(pred, target, weight, positive=True)
    kind = total_dtype(p)
    p, t, w = p.to(kind), t.to(kind), w.to(kind)
    values = METRICS[name](aligned(p, t, w, align), t, threshold)
    w = w.expand_as(values)
    mean = (torch.where(w != 0, w * values, 0.0).flatten(1).sum(1)) / w.flatten(1).sum(1)  # 0 / 0 is NaN
    return mean.sqrt() if name == "rmse" else mean


def aligned(p: Tensor, t: Tensor, w: Tensor, align: str) -> Tensor:
    """Return predictions with the best scale, or scale and shift, of each image."""
    if align == "none":
        return p
    seen = (w != 0).expand_as(p)
    if align == "median":
        return p * (median(t, seen) / median(p, seen))[:, None, None, None]
    count = w.expand_as(p).flatten(1).sum(1)

    def mean(values: Tensor) -> Tensor:
        return ((w * values).flatten(1).sum(1) / count)[:, None, None, None]

    away_p, away_t = p - mean(p), t - mean(t)
    square = mean(away_p.square())
    scale = torch.where(square > 0, mean(away_p * away_t) / torch.where(square > 0, square, 1.0), 0.0)
    return scale * away_p + mean(t)


METRICS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "abs_rel": lambda p, t, threshold: (p - t).abs() / t,
    "rmse": lambda p, t, threshold: (p - t).square(),
    "delta1": lambda p, t, threshold: ((p < threshold * t) & (t < threshold * p)).to(t.dtype),
}
"""What each pixel adds to a mean."""
