"""Centreline Dice: how much of each mask's skeleton lies in the other mask."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Fold, Sum
from lossfold.losses.classes.averages import included
from lossfold.losses.reduce import Ratio, divide
from lossfold.losses.scores import times
from lossfold.losses.shapes.common import TARGET, WEIGHT, ShapeLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES

PROB: Sum = ("prob", 0.0)
BOTH: Sum = ("both", 0.0)
SKELETONS = ("skeleton", "skeleton_inside", "target_skeleton", "target_skeleton_inside")


@LOSSES.register
@configured
class CLDiceLoss(ShapeLoss):
    r"""Soft centreline Dice loss: thin structures that break or merge cost, however few their pixels are.

    Over the counted pixels, with S the soft skeleton (:func:`lossfold.functional.soft_skeleton`) and s the smoothing::

        Tp = (Σ w S(p) t + s) / (Σ w S(p) + s)      how much of the predicted skeleton is true
        Ts = (Σ w S(t) p + s) / (Σ w S(t) + s)      how much of the true skeleton is found
        loss_c = 1 - 2 Tp Ts / (Tp + Ts)

    Macro (the default) is the mean over classes weighted by ``class_weight``; micro takes the weighted sums of all classes
    together.
    The memory does not grow with the iterations. A background's skeleton means little: see ``include_background``.

    Args:
        iterations: of the skeletons, >= 0: at least half the width of the structures in pixels.
        smooth: s >= 0; a score without a denominator is 1.
        dice_weight: λ in [0, 1]: (1 - λ) loss_c + λ Dice_c, with Dice_c = 1 - (2 Σ w p t + s) / (Σ w p + Σ w t + s).
        average: ``"macro"`` or ``"micro"``.
        absent: what a class without pixels costs in a macro mean: ``"skip"`` leaves it out, ``"count"`` takes the formula's
            value, ``"zero"`` counts it at no cost.
        include_background: whether class 0 takes part.
        class_weight: C numbers >= 0.
        link: ``"softmax"`` for logits, ``"sigmoid"`` for logits of independent channels (targets of their shape),
            ``"identity"`` for probabilities.
        ignore_index: the label of pixels that do not count: like pixels of weight 0, they are beyond the border for the skeletons.
        reduction, per_image, align_corners, resize, validate, loss_weight, inputs: as for :class:`DiceLoss`.
        engine: None or ``"eager"``: plain PyTorch.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact; where neighbours are equal, of the pixel itself. 0 where nothing counts.

    Example:
        >>> CLDiceLoss(link="sigmoid", dice_weight=0.5)(torch.randn(2, 1, 8, 8), torch.rand(2, 1, 8, 8) > 0.8).shape
        torch.Size([])

    Reference:
        Shit et al., clDice - a novel topology-preserving loss function for tubular structure segmentation, CVPR 2021.
    """

    iterations: int = option(3, at_least=0)
    smooth: float = option(1.0, at_least=0)
    dice_weight: float = option(0.0, between=(0, 1))
    average: str = option("macro", words=("macro", "micro"))

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"dice_weight": 0.25, "absent": "count", "class_weight": "random", "iterations": 1},
        {"link": "sigmoid", "average": "micro", "smooth": 0.5, "iterations": 2},
    )

    def asked(self) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        skeletons = tuple((kind, float(self.iterations)) for kind in SKELETONS)
        return (WEIGHT, TARGET, *skeletons, *((PROB, BOTH) if self.dice_weight else ()))

    @property
    def joint(self) -> bool:
        """Whether the formula takes the classes together."""
        return self.average == "micro"

    def cost(self, *areas: Tensor) -> Tensor:
        """Return the loss from ΣS(p), ΣS(p)t, ΣS(t), ΣS(t)p and, for Dice, Σt, Σp and Σpt."""
        p, p_true, t, t_found, *rest = areas
        s = self.smooth
        pairs = (p_true, p), (t_found, t)
        precision, sensitivity = ((s + inside) / (s + of) if s else _score(inside, of) for inside, of in pairs)
        both = precision + sensitivity
        loss = 1 - divide(2 * precision * sensitivity, both)
        if not self.dice_weight:
            return loss
        true, predicted, overlap = rest
        missed, whole = predicted + true - 2 * overlap, predicted + true
        dice = missed / (whole + s) if s else divide(missed, whole)
        return (1 - self.dice_weight) * loss + self.dice_weight * dice

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the classes' costs and weights, or those of all classes taken together."""
        areas = [fold[kind, float(self.iterations)] for kind in SKELETONS]
        areas += [fold[key] for key in (TARGET, PROB, BOTH)] if self.dice_weight else []
        if self.average == "macro":
            return self.macro(self.cost(*areas), fold)
        v = included(self, areas[0])
        something = (fold[WEIGHT].detach() != 0).any(1, keepdim=True)
        whole = self.cost(*(times(area, v).sum(1, keepdim=True) for area in areas))
        return Ratio(torch.where(something, whole, 0.0), something.to(whole))

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the loss.

        Args:
            logits, labels, weight: as for :class:`DiceLoss`, with one to three dimensions in space.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each class.
        """
        return self.weigh(self.evaluate(logits, labels, weight))


def _score(inside: Tensor, of: Tensor) -> Tensor:
    """Return a share; that of nothing is 1."""
    return torch.where(of == 0, 1.0, divide(inside, of))
