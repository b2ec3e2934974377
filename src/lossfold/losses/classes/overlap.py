"""Dice, Jaccard and Tversky: one minus a ratio of overlaps."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.scores import Given
from lossfold.losses.classes.areas import areas, sums_of_areas
from lossfold.losses.classes.averages import included, over_classes
from lossfold.losses.powers import power_to_zero
from lossfold.losses.reduce import Ratio, divide
from lossfold.losses.scores import ScoreLoss, times
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@configured
class OverlapLoss(ScoreLoss):
    """One minus an overlap score of each class: the options and the averaging that all of them share."""

    average: str = option("macro", words=("macro", "micro"))
    smooth: float = option(1.0, at_least=0)
    eps: float = option(0.0, at_least=0)
    squared: bool = option(False)
    log: bool = option(False)
    log_cosh: bool = option(False)
    absent: str = option("skip", words=("skip", "count", "zero"))
    include_background: bool = option(True)
    soft_overlap: str = option("distance", words=("distance", "product"))

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"squared": True, "absent": "count", "class_weight": "random"},
        {"average": "micro", "class_weight": "random", "include_background": False},
        {"log": True, "absent": "zero", "per_image": True},
        {"link": "identity", "smooth": 0.0},
        {"smooth": 0.5, "eps": 0.25, "absent": "count", "log_cosh": True},
    )
    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"link": "sigmoid"},
        {"link": "sigmoid", "squared": True, "absent": "count", "class_weight": "random"},
        {"link": "sigmoid", "average": "micro", "class_weight": "random", "include_background": False},
        {"link": "softmax", "log": True, "absent": "zero", "per_image": True},
        {"link": "identity", "smooth": 0.0},
        {"link": "sigmoid", "soft_overlap": "product"},
    )

    def check(self, logits: Any, labels: Any, weight: Any = None, normalizer: Any = None, annotated: Any = None) -> Given:
        """Refuse what can't be folded, or does not fit the options."""
        if normalizer is not None and self.average == "micro":
            raise wrong("normalizer", "left out with average='micro'", f"{normalizer!r}"[:80])
        return super().check(logits, labels, weight, normalizer, annotated)

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return sums_of_areas(kind, self.squared, self.soft_overlap == "product")

    @property
    def joint(self) -> bool:
        """Whether the formula takes the classes together."""
        return self.average == "micro"

    def overlap(self, both: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Return the score's numerator and denominator from Σpt, Σp (or Σp²) and Σt, without the smoothing."""
        raise NotImplementedError

    def cost(self, both: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the loss of overlaps, 1 - (above + s) / (below + s + eps); a score without a denominator is 1."""
        above, below = self.overlap(both, predicted, true)
        missed, added = below - above, self.smooth + self.eps
        missed = missed + self.eps if self.eps else missed
        cost = missed / (below + added) if added else divide(missed, below)
        cost = -(1 - cost).clamp_min(1e-7).log() if self.log else cost
        return log_cosh(cost) if self.log_cosh else cost

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the classes' costs and weights, or those of all classes taken together."""
        area = areas(fold, self.squared, self.soft_overlap == "product")
        v = included(self, area.true)
        if self.average == "micro":
            something = (area.counted != 0).any(1, keepdim=True)
            total = self.cost(*(times(x, v).sum(1, keepdim=True) for x in area[:3]))
            return Ratio(torch.where(something, total, 0.0), something.to(total))
        return over_classes(self, area, self.cost(*area[:3]))

    def masks(self, fold: Fold) -> Tensor:
        """Return every mask's cost, empty or not, times its class weight."""
        area = areas(fold, self.squared, self.soft_overlap == "product")
        return times(self.cost(*area[:3]), included(self, area.true))


@LOSSES.register
@configured
class DiceLoss(OverlapLoss):
    r"""Soft Dice loss.

    Over the counted pixels, with pixel weight w, probability p and t = [y = c] or a target of the scores' shape::

        loss_c = 1 - (2 Σ w p t + s) / (Σ w p + Σ w t + s)

    For float targets 2 Σ w p t is Σ w (p + t - ``|p - t|``), the same where t is 0 or 1, so that p = t costs nothing for soft t too
    (with ``squared``, where that holds anyway, with ``soft_overlap="product"`` and with a ``normalizer`` it stays).

    Macro (the default) is the mean over classes weighted by ``class_weight``; micro takes the weighted sums of all classes
    together. With ``average="micro"`` and softmax probabilities Σp + Σt is constant: micro Dice is then linear in Σpt.

    Args:
        average: ``"macro"`` or ``"micro"``.
        smooth: s >= 0, added above and below; a score without a denominator is 1.
        eps: >= 0, added below only, to s: other libraries' small number that keeps 0 / 0 away.
        squared: Σp² in place of Σp (Milletari et al., V-Net, 3DV 2016).
        log: -log(max(score, 1e-7)) in place of 1 - score.
        log_cosh: log(cosh(loss_c)) in place of loss_c (Jadon, A Survey of Loss Functions for Semantic Segmentation, CIBCB 2020).
        absent: what a class without pixels costs in a macro mean: ``"skip"`` leaves it out, ``"count"`` takes the formula's
            value, ``"zero"`` counts it at no cost.
        include_background: whether class 0 takes part.
        soft_overlap: how float targets overlap with p: ``"distance"`` as above, or ``"product"``, Σ w p t.
        class_weight: C numbers >= 0.
        link: ``"softmax"`` for logits, ``"sigmoid"`` for logits of independent channels (targets of their shape),
            ``"identity"`` for probabilities.
        ignore_index: the label of pixels that do not count, or a list of such labels.
        reduction: ``"mean"`` over classes, ``"sum"``, or ``"none"``: ``[C]``, ``[B, C]`` with ``per_image``, weighted, 0 for
            classes left out; with micro a scalar or ``[B]``.
        per_image: the mean of each image's own loss over the images in which something counts; an empty one is left out, where
            ``sample_wise`` of losses of images counts it as 0.
        align_corners: how logits of another size than the labels are interpolated to it (bilinearly; volumes trilinearly).
        resize: False refuses logits of another size than the labels, in place of interpolating them.
        validate: look for wrong values off the CPU too, which waits for the device: probabilities outside of [0, 1], say.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in a dict of outputs, from names to dotted paths; the loss then takes that dict.
        engine: ``"eager"``, ``"triton"``, ``"cpp"``, or None for the fastest that can serve.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts.

    Example:
        >>> DiceLoss(ignore_index=255)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Milletari et al., V-Net, 3DV 2016; the form without squares: Drozdzal et al., DLMIA 2016; soft targets: Wang et al., Dice
        Semimetric Losses, MICCAI 2023, and Jaccard Metric Losses, NeurIPS 2023.
    """

    def overlap(self, both: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Return 2 Σpt and Σp + Σt."""
        return 2 * both, predicted + true


@LOSSES.register
@configured
class JaccardLoss(OverlapLoss):
    r"""Soft Jaccard (IoU) loss.

    Over the counted pixels::

        loss_c = 1 - (Σ w p t + s) / (Σ w p + Σ w t - Σ w p t + s)

    Args:
        average, smooth, eps, squared, log, log_cosh, absent, include_background, soft_overlap, class_weight, link, ignore_index,
            reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts.

    Example:
        >>> JaccardLoss(smooth=0.0)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Rahman and Wang, Optimizing Intersection-Over-Union in Deep Neural Networks, ISVC 2016.
    """

    def overlap(self, both: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σpt and Σp + Σt - Σpt."""
        return both, predicted + true - both


@LOSSES.register
@configured
class TverskyLoss(OverlapLoss):
    r"""Tversky loss, and focal Tversky loss with an exponent.

    Over the counted pixels, with FP = Σ w p - Σ w p t and FN = Σ w t - Σ w p t::

        loss_c = (1 - (Σ w p t + s) / (Σ w p t + α FP + β FN + s)) ^ exponent

    α = β = 1/2 is Dice (with twice the smoothing), α = β = 1 is Jaccard.

    Args:
        alpha: α >= 0, the weight of false positives.
        beta: β >= 0, the weight of false negatives.
        exponent: > 0, applied to each class's loss; focal Tversky papers write 1/γ.
        average, smooth, eps, squared, log, log_cosh, absent, include_background, soft_overlap, class_weight, link, ignore_index,
            reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact; 0 where nothing counts. With an exponent below 1, losses below 1e-7 go to 0 on a straight line, so that slopes end.

    Example:
        >>> TverskyLoss(alpha=0.3, beta=0.7, exponent=0.75)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Salehi et al., Tversky loss function, MLMI 2017; Abraham and Khan, focal Tversky, ISBI 2019.
    """

    alpha: float = option(0.5, at_least=0)
    beta: float = option(0.5, at_least=0)
    exponent: float = option(1.0, more_than=0)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        *OverlapLoss.samples,
        {"alpha": 0.3, "beta": 0.7, "exponent": 0.75},
        {"alpha": 0.0, "beta": 1.0, "average": "micro", "exponent": 2.0},
    )
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        *OverlapLoss.dense_samples,
        {"link": "sigmoid", "alpha": 0.3, "beta": 0.7, "exponent": 0.75},
    )

    def settle(self) -> None:
        """Refuse wrong options, and errors that all cost nothing."""
        super().settle()
        self.require("alpha", self.alpha > 0 or self.beta > 0, "above 0 unless beta is", "the loss would always be 0")

    def overlap(self, both: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σpt and Σpt + α FP + β FN."""
        return both, both + self.alpha * (predicted - both) + self.beta * (true - both)

    def cost(self, both: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the loss raised to the exponent."""
        cost = super().cost(both, predicted, true)
        if self.exponent == 1:
            return cost
        return power_to_zero(cost, self.exponent)


def log_cosh(x: Tensor) -> Tensor:
    """Return log cosh x = x + log(1 + exp -2x) - log 2, in steps that a kernel of formulas has."""
    return x + (-2 * x).exp().log1p() - math.log(2)
