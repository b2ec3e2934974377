"""Losses of the difference at each pixel: absolute, squared, and what lies between."""

from __future__ import annotations

from typing import Any, ClassVar

from lossfold.losses.pairs import Mean, PairLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class L1Loss(PairLoss):
    """The absolute error, Σ w·|p − t| / Σ w.

    Args:
        link: "identity" takes ``pred`` as it is, "sigmoid" takes its sigmoid.
        reduction: "mean", "sum", or "none": a weighted value for each pixel.
        sample_wise: every sample has a mean of its own, and the loss is their mean; an empty sample is 0, where ``per_image``
            of losses of scores leaves it out.
        engine: "eager", "triton" or "cpp"; None takes the fastest that can serve.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range; nothing is broadcast but one channel of weights.

    Gradient:
        The sign of the difference over Σ w; 0 where prediction and target are equal, and where nothing counts.

    Example:
        >>> L1Loss()(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.25))
        tensor(0.2500)
    """

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        return (Mean(1, ((1, ("abs", 0)),)),)


@LOSSES.register
@configured
class MSELoss(PairLoss):
    """The squared error, Σ w·(p − t)² / Σ w.

    Args:
        link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1Loss`.

    Raises:
        LossError: as for :class:`L1Loss`.

    Gradient:
        Exact.

    Example:
        >>> MSELoss()(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.5))
        tensor(0.2500)
    """

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        return (Mean(1, ((1, ("square", 0)),)),)


@LOSSES.register
@configured
class SmoothL1Loss(PairLoss):
    """The absolute error with a parabola at 0: Σ w·ρ(p − t) / Σ w, ρ(d) = d²/(2·beta) for |d| < beta, else |d| − beta/2.

    The weight stands outside of ρ: half a weight is half the loss.

    Args:
        beta: where the parabola ends, >= 0; 0 is :class:`L1Loss`.
        link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1Loss`.

    Raises:
        LossError: as for :class:`L1Loss`.

    Gradient:
        Exact.

    Example:
        >>> SmoothL1Loss()(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.5))
        tensor(0.1250)

    Reference:
        Girshick, Fast R-CNN, ICCV 2015.
    """

    beta: float = option(1.0, between=(0, 1e30))

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"beta": 0.1, "sample_wise": True})

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        return (Mean(1, ((1, ("smooth_abs", self.beta)),)),)


@LOSSES.register
@configured
class HuberLoss(PairLoss):
    """Huber's loss, Σ w·ρ(p − t) / Σ w, ρ(d) = d²/2 for |d| < delta, else delta·(|d| − delta/2).

    Args:
        delta: where the parabola ends, > 0.
        link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1Loss`.

    Raises:
        LossError: as for :class:`L1Loss`.

    Gradient:
        Exact.

    Example:
        >>> HuberLoss(delta=0.5)(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8))
        tensor(0.3750)

    Reference:
        Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 1964.
    """

    delta: float = option(1.0, more_than=0, at_most=1e30)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"delta": 0.1})

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        return (Mean(self.delta, ((1, ("smooth_abs", self.delta)),)),)


@LOSSES.register
@configured
class CharbonnierLoss(PairLoss):
    """A differentiable absolute error, Σ w·√((p − t)² + eps) / Σ w.

    Args:
        eps: what is added under the root, > 0; computed in float32 at least, so that 1e-12 is there for float16 too.
        link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1Loss`.

    Raises:
        LossError: as for :class:`L1Loss`.

    Gradient:
        Exact; 0 where prediction and target are equal.

    Example:
        >>> CharbonnierLoss()(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
        tensor(1.)

    Reference:
        Charbonnier et al., Two deterministic half-quadratic regularization algorithms, ICIP 1994; Lai et al., LapSRN, CVPR 2017.
    """

    eps: float = option(1e-12, at_least=1e-30)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"eps": 1e-3})

    def means(self) -> tuple[Mean, ...]:
        """Return the formula."""
        return (Mean(1, ((1, ("charbonnier", self.eps)),)),)
