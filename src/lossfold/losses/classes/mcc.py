"""Matthews' correlation coefficient: how truth and prediction go together, of all four cells of the confusion matrix."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Fold, Sum
from lossfold.losses.classes.areas import BOTH, PROB, PROB_AT_LABEL, TARGET, WEIGHT, Areas
from lossfold.losses.classes.averages import included, over_classes
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import LABELS, ScoreLoss, times
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class MCCLoss(ScoreLoss):
    r"""One minus Matthews' correlation coefficient of soft counts.

    Over the counted pixels, with pixel weight w, N = Σ w, P = Σ w p, T = Σ w t and H = Σ w p t of a class::

        loss_c = 1 - (TP TN - FP FN) / √((TP+FP) (TP+FN) (TN+FP) (TN+FN)) = 1 - (N H - P T) / √(P T (N-P) (N-T))

    and with ``average="joint"`` the coefficient of all classes together, of class weights v and shares h = H/N, p = P/N, t = T/N::

        loss = 1 - Σ_c v (h - p t) / √(Σ_c v p (1-p) Σ_c v t (1-t))

    which of classes that exclude each other is Gorodkin's R_K. A coefficient of 0/0 is 1 where nothing is wrong, else 0.

    Args:
        average: ``"macro"``, the mean over classes weighted by ``class_weight``, or ``"joint"``.
        smooth: s >= 0, added to each of the four counts of a macro mean.
        absent: what a class without pixels costs in a macro mean: ``"skip"`` leaves it out, ``"count"`` takes the formula's
            value, ``"zero"`` counts it at no cost.
        include_background: whether class 0 takes part.
        class_weight, link, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts, and where the coefficient is 0/0.

    Example:
        >>> MCCLoss()(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Abhishek and Hamarneh, Matthews Correlation Coefficient Loss for Deep Convolutional Networks, ISBI 2021; R_K: Gorodkin,
        Comparing two K-category assignments by a K-category correlation coefficient, Computational Biology and Chemistry 2004.
    """

    average: str = option("macro", words=("macro", "joint"))
    smooth: float = option(0.0, at_least=0)
    absent: str = option("skip", words=("skip", "count", "zero"))
    include_background: bool = option(True)

    takes_normalizer: ClassVar[bool] = False
    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"absent": "count", "smooth": 0.5, "class_weight": "random", "per_image": True},
        {"average": "joint", "class_weight": "random"},
    )
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({"link": "sigmoid"}, {"average": "joint"})

    def settle(self) -> None:
        """Refuse wrong options, and those of single classes where these are taken together."""
        super().settle()
        self.require("smooth", self.average == "macro" or self.smooth == 0, "0 with average='joint'")

    @property
    def joint(self) -> bool:
        """Whether the formula takes the classes together."""
        return self.average == "joint"

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, PROB, PROB_AT_LABEL) if kind == LABELS else (WEIGHT, PROB, TARGET, BOTH)

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the classes' costs and weights, or those of all classes taken together."""
        area, s = counts_of(fold), self.smooth
        n = area.counted + 4 * s
        n = torch.where(n == 0, 1.0, n)  # shares, because products of counts would leave float32
        both, predicted, true = (area.both + s) / n, (area.predicted + 2 * s) / n, (area.true + 2 * s) / n
        above, wrong = both - predicted * true, predicted + true - 2 * both
        spreads = predicted * (1 - predicted), true * (1 - true)
        if self.average == "macro":
            return over_classes(self, area, 1 - correlation(above, spreads[0] * spreads[1], wrong))
        v = included(self, true)
        above, wrong, one, other = (times(part, v).sum(1, keepdim=True) for part in (above, wrong, *spreads))
        something = (area.counted != 0).any(1, keepdim=True)
        return Ratio(torch.where(something, 1 - correlation(above, one * other, wrong), 0.0), something.to(true))


def counts_of(fold: Fold) -> Areas:
    """Return Σpt, Σp, Σt and the counted weight of each class; soft targets overlap by their products, as a covariance has it."""
    if fold.target == LABELS:
        weight = fold[WEIGHT]
        return Areas(fold[PROB_AT_LABEL], fold[PROB], weight, weight.sum(1, keepdim=True).expand_as(weight))
    return Areas(fold[BOTH], fold[PROB], fold[TARGET], fold[WEIGHT])


def correlation(above: Tensor, below: Tensor, wrong: Tensor) -> Tensor:
    """Return above / √below; of 0/0, 1 where nothing is wrong and 0 elsewhere, without a gradient."""
    hollow = below <= torch.finfo(below.dtype).tiny
    value = above / torch.where(hollow, 1.0, below).sqrt()
    return torch.where(hollow, (wrong.detach() == 0).to(value), value)
