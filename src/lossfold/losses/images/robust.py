"""Robust losses: one formula from squares to errors that stop counting, by its shape."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from lossfold.losses.images.elementwise import FunctionLoss
from lossfold.losses.images.masked import masked_loss
from lossfold.options import Number, configured, option
from lossfold.registry import LOSSES

SHAPES = {"l2": 2.0, "charbonnier": 1.0, "cauchy": 0.0, "geman-mcclure": -2.0, "welsch": -math.inf}
"""The values of the shape that have names."""


def robust(pred: Tensor, target: Tensor, alpha: float | str = 1.0, scale: float = 1.0) -> Tensor:
    """Return ρ((p - t) / scale) of each element."""
    shape = SHAPES[alpha] if isinstance(alpha, str) else alpha
    squares = ((pred - target) / scale).square()
    if shape == 2:
        return squares / 2
    if shape == -math.inf:
        return -(-squares / 2).expm1()
    if shape == 0:
        return (squares / 2).log1p()
    # (b / α)((x² / b + 1)^(α / 2) - 1) with the power as exp and log, so that neither a small error nor a shape near 0 loses digits
    b = abs(shape - 2)
    return (shape / 2 * (squares / b).log1p()).expm1() * (b / shape)


@LOSSES.register
@configured
class RobustLoss(FunctionLoss):
    """Barron's general robust loss, Σ w·ρ(p − t) / Σ w, whose shape says how little large errors count.

    ρ(d) = |α−2|/α · ((x²/|α−2| + 1)^(α/2) − 1), x = d / scale, and its limits: with α = 2 or "l2" x²/2, with 1 or "charbonnier"
    √(x² + 1) − 1, with 0 or "cauchy" log(x²/2 + 1), with −2 or "geman-mcclure" 2x²/(x² + 4), and "welsch", which is α = −∞,
    1 − exp(−x²/2).

    Args:
        alpha: the shape, a number or one of these names; the smaller, the less large errors count.
        scale: the size of an error from which on the shape matters, > 0.
        reduction: "mean", "sum", or "none": a weighted value for each pixel.
        sample_wise: every sample has a mean of its own, and the loss is their mean; an empty sample is 0.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range; nothing is broadcast but one channel of weights.

    Gradient:
        Exact, to any order; 0 where prediction and target are equal, and where nothing counts.

    Example:
        >>> RobustLoss(alpha="cauchy")(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 2.0))
        tensor(1.0986)

    Reference:
        Barron, A general and adaptive robust loss function, CVPR 2019.
    """

    alpha: float | str = option(1.0, words=SHAPES, others=Number())
    scale: float = option(1.0, more_than=0)

    function: ClassVar[Any] = staticmethod(masked_loss(robust))
    options: ClassVar[tuple[str, ...]] = ("alpha", "scale")
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"alpha": "welsch", "scale": 0.5}, {"alpha": -1.5, "sample_wise": True})
