"""Metrics of depth: relative and root mean square errors, plain and of logarithms, and shares that are nearly right."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    return _score("abs_rel", METRICS["abs_rel"], pred, target, weight, align)


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
    return _score("rmse", METRICS["rmse"], pred, target, weight, align)


@torch.no_grad()
def sq_rel(pred: Tensor, target: Tensor, weight: Tensor | None = None, align: str = "none") -> Tensor:
    """Return the mean of ``(pred - target)^2 / target`` over the pixels that were measured, in the target's unit.

    As the evaluations of papers have it; KITTI's development kit squares the relative error instead.

    Args:
        pred, target, weight, align: as for :func:`abs_rel`.

    Returns:
        float64 ``[B]`` without a gradient; NaN for an image of which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices.

    Example:
        >>> sq_rel(torch.full((1, 1, 8, 8), 4.0), torch.full((1, 1, 8, 8), 2.0))
        tensor([2.], dtype=torch.float64)

    Reference:
        Eigen et al., NIPS 2014.
    """
    return _score("sq_rel", METRICS["sq_rel"], pred, target, weight, align)


@torch.no_grad()
def rmse_log(pred: Tensor, target: Tensor, weight: Tensor | None = None, align: str = "none") -> Tensor:
    """Return the root of the mean of ``(ln pred - ln target)^2`` over the pixels that were measured.

    Args:
        pred, target, weight, align: as for :func:`abs_rel`; a prediction of 0 has an infinite error, one below 0 none (NaN).

    Returns:
        float64 ``[B]`` without a gradient; NaN for an image of which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices.

    Example:
        >>> rmse_log(torch.full((1, 1, 8, 8), 2.0), torch.ones(1, 1, 8, 8)).round(decimals=4)
        tensor([0.6931], dtype=torch.float64)

    Reference:
        Eigen et al., NIPS 2014.
    """
    return _score("rmse_log", METRICS["rmse_log"], pred, target, weight, align)


@torch.no_grad()
def silog(pred: Tensor, target: Tensor, weight: Tensor | None = None, align: str = "none") -> Tensor:
    """Return 100 times the standard deviation of ``ln pred - ln target`` over the pixels that were measured.

    A factor on the depths changes nothing. :class:`lossfold.SILogLoss` with ``variance_focus=1`` is a hundredth of it.

    Args:
        pred, target, weight, align: as for :func:`rmse_log`.

    Returns:
        float64 ``[B]`` without a gradient; NaN for an image of which nothing counts.

    Raises:
        LossError: for wrong dtypes, shapes or devices.

    Example:
        >>> silog(torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 1, 2)).round(decimals=3)
        tensor([34.6570], dtype=torch.float64)

    Reference:
        Eigen et al., NIPS 2014; a hundred times its root: Geiger et al., the KITTI depth benchmark.
    """
    return _score("silog", METRICS["silog"], pred, target, weight, align)


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
    return _score("delta1", Metric(lambda p, t: (nearly(p, t, threshold),)), pred, target, weight, align)


class DepthMetrics(Means):
    """Depth's errors over many batches: the means of the images' values, as the field has it.

    Args:
        metrics: some of ``"abs_rel"``, ``"sq_rel"``, ``"rmse"``, ``"rmse_log"``, ``"silog"``, ``"delta1"``, ``"delta2"``,
            ``"delta3"``.
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
            given = pred, target, weight, self.options["align"]
            values = torch.stack([_score("DepthMetrics", METRICS[name], *given) for name in names])
        self.refuse_elsewhere("pred", values)
        # whatever NaN a network has where nothing counts; elsewhere it is a score, too
        p, t, w = plain((pred, target, weight))
        seen = measured(p, t, w, positive=True).weight.flatten(1).any(1)
        self.total += torch.where(seen, values, 0.0).sum(1)
        self.count += seen.sum()

    forward = update  # type: ignore[assignment]


class Metric(NamedTuple):
    """A metric of an image.

    Args:
        maps: what each pixel adds to the means, of predictions and targets.
        of: the metric of these means.
    """

    maps: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    of: Callable[..., Tensor] = lambda mean: mean


def _score(who: str, metric: Metric, pred: Tensor, target: Tensor, weight: Tensor | None, align: str) -> Tensor:
    """Return a metric of each image, ``[B]``."""
    with naming(who):
        pred, target, weight = plain((pred, target, weight))
        check_option(who, "align", align in ALIGNMENTS, f"one of {', '.join(map(repr, ALIGNMENTS))}", align)
        p, t, w = measured(pred, target, weight, positive=True)
    kind = total_dtype(p)
    p, t, w = p.to(kind), t.to(kind), w.to(kind).expand_as(p)
    count = w.flatten(1).sum(1)
    maps = metric.maps(aligned(p, t, w, align), t)
    return metric.of(*(torch.where(w != 0, w * values, 0.0).flatten(1).sum(1) / count for values in maps))  # 0 / 0 is NaN


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


def nearly(p: Tensor, t: Tensor, threshold: float) -> Tensor:
    """Return 1 where neither is so many times the other, 0 elsewhere."""
    return ((p < threshold * t) & (t < threshold * p)).to(t.dtype)


def away(p: Tensor, t: Tensor) -> Tensor:
    """Return the difference of logarithms."""
    return p.log() - t.log()


def deviation(square: Tensor, mean: Tensor) -> Tensor:
    """Return 100 times the standard deviation of what has this mean and this mean of squares."""
    return 100 * (square - mean.square()).clamp_min(0).sqrt()


METRICS: dict[str, Metric] = {
    "abs_rel": Metric(lambda p, t: ((p - t).abs() / t,)),
    "sq_rel": Metric(lambda p, t: ((p - t).square() / t,)),
    "rmse": Metric(lambda p, t: ((p - t).square(),), torch.sqrt),
    "rmse_log": Metric(lambda p, t: (away(p, t).square(),), torch.sqrt),
    "silog": Metric(lambda p, t: (away(p, t).square(), away(p, t)), deviation),
    **{
        f"delta{k}": Metric(functools.partial(lambda p, t, threshold: (nearly(p, t, threshold),), threshold=1.25**k))
        for k in (1, 2, 3)
    },
}
"""The field's metrics of an image by name."""
