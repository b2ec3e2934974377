"""The Hausdorff loss by distance transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Fold, Sum
from lossfold.losses.reduce import Ratio, divide
from lossfold.losses.shapes.common import TARGET, WEIGHT, ShapeLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class HausdorffDTLoss(ShapeLoss):
    r"""Hausdorff loss by distance transforms: an error costs the more, the farther it is from where the masks end.

    Over the counted pixels, with D_t the distance of each pixel to the nearest one on the other side of the true mask (t > 0.5),
    and D_p the same of the predicted mask (p > 0.5), neither of which has a gradient::

        loss_c = Σ w (p - t)² (D_p^α + D_t^α) / Σ w

    and the mean over the classes. A mask that is empty or covers all that counts ends nowhere: its distances are 0.

    Args:
        alpha: α > 0.
        log: log(1 + loss) of the mean over the classes, or of the sum (each class's with ``reduction="none"``).
        spacing: from pixel to pixel: one number, or one for each axis of space; None for 1.
        absent: what a class without pixels costs: ``"skip"`` leaves it out, ``"count"`` takes the formula's value, ``"zero"``
            counts it at no cost.
        include_background: whether class 0 takes part.
        class_weight: C numbers >= 0, the weights of the classes in the mean.
        link: ``"softmax"`` for logits, ``"sigmoid"`` for logits of independent channels (targets of their shape),
            ``"identity"`` for probabilities.
        ignore_index: the label of pixels that do not count: like pixels of weight 0, they have no part in a mask, no distance is
            measured to them, and they cost nothing.
        reduction, per_image, align_corners, resize, validate, loss_weight, inputs: as for :class:`DiceLoss`.
        engine: None or ``"eager"``: plain PyTorch, beside the operator of distance transforms on CPUs.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Of (p - t)², the distances held fixed. 0 where nothing counts.

    Example:
        >>> HausdorffDTLoss(ignore_index=255)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Karimi and Salcudean, Reducing the Hausdorff distance in medical image segmentation with convolutional neural networks,
        IEEE Trans. Medical Imaging 2020.
    """

    alpha: float = option(2.0, more_than=0)
    log: bool = option(False)
    spacing: float | Sequence[float] | None = option(None, each_axis=True)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"alpha": 1.0, "absent": "count", "class_weight": "random", "log": True},
        {"link": "sigmoid", "absent": "zero", "per_image": True, "spacing": 0.5},
    )

    def asked(self) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, TARGET, ("far", float(self.alpha)))

    def check(self, logits: Any, labels: Any, weight: Any = None, spacings: Any = None) -> Any:
        """Refuse what can't be folded, or does not fit the options."""
        return super().check(logits, labels, weight, self.spacing if spacings is None else spacings)

    @property
    def joint(self) -> bool:
        """Whether the formula takes the classes together."""
        return self.log and self.reduction != "none"

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the classes' costs and weights; with a logarithm, that of their mean."""
        ratio = self.macro(divide(fold["far", float(self.alpha)], fold[WEIGHT]), fold)
        if not self.log:
            return ratio
        if self.reduction == "none":
            costs, weights = ratio.above, ratio.below
            return Ratio(torch.where(weights != 0, weights * divide(costs, weights).log1p(), 0.0), weights)
        above, below = (part.sum(1, keepdim=True) for part in ratio)
        mean = above if self.reduction == "sum" else divide(above, below)
        return Ratio(mean.log1p(), (below != 0).to(mean))

    def forward(  # type: ignore[override]
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        spacings: Tensor | Sequence[Sequence[float]] | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            logits, labels, weight: as for :class:`DiceLoss`, with one to three dimensions in space.
            spacings: ``[B, len(S)]``, each sample's own spacing, in place of the option, on the host.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each class.
        """
        return self.weigh(self.evaluate(logits, labels, weight, spacings))
