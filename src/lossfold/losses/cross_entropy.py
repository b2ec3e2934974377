"""Cross entropy and focal loss: sums over pixels of a function of the label's log probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.label import LabelFold, Sum
from lossfold.losses.base import PixelLoss, is_number
from lossfold.registry import LOSSES

WEIGHT: Sum = ("weight", 0.0)
NLL: Sum = ("nll", 0.0)
NLL_ALL: Sum = ("nll_all", 0.0)


def ones(classes: int) -> Tensor:
    """Return the class weights of a loss that has none."""
    return torch.ones(classes, dtype=torch.float64, device="cpu")


@LOSSES.register
@dataclass(kw_only=True, eq=False, repr=False)
class CrossEntropyLoss(PixelLoss):
    r"""Cross entropy between class scores and integer labels.

    With pixel weight w, class weight v and smoothing ε, over the pixels that are not ignored::

        loss = Σ w [(1-ε) v_y (-log p_y) + ε/C Σ_c v_c (-log p_c)] / Σ w v_y

    Equals :class:`torch.nn.CrossEntropyLoss` for class indices, except that it is 0, not NaN, when nothing counts.

    Args:
        label_smoothing: ε in [0, 1].
        class_weight: C numbers >= 0.
        link: ``"softmax"`` for logits, ``"identity"`` for probabilities; then -log p is -log(max(p, 1e-12)).
        ignore_index: the label of pixels that do not count.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the map ``[B, *S]``.
        per_image: the mean over images of each image's own loss.
        align_corners: how logits of another size than the labels are interpolated to it (bilinearly).
        loss_weight: a factor on the result.
        inputs: where the arguments stand in a dict of outputs, from names to dotted paths; the loss then takes that dict.
        engine: ``"eager"``, ``"cpp"``, or None for the fastest that can serve.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact. 0 where nothing counts, and for probabilities under the floor.

    Example:
        >>> loss = CrossEntropyLoss(ignore_index=255, label_smoothing=0.1)
        >>> loss(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016.
    """

    label_smoothing: float = 0.0

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"label_smoothing": 0.1},
        {"class_weight": "random", "label_smoothing": 0.2, "per_image": True},
        {"link": "identity", "label_smoothing": 0.1},
    )

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        self.require("label_smoothing", is_number(self.label_smoothing) and 0 <= self.label_smoothing <= 1, "in [0, 1]")

    def wanted(self) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, NLL, NLL_ALL) if self.label_smoothing else (WEIGHT, NLL)

    def coefficients(self, classes: int, loss: str) -> dict[Sum, Tensor]:
        """Return v (1-ε) for the label's nll and v ε/C for that of every class."""
        v = self.per_class("class_weight", classes, loss)
        v = ones(classes) if v is None else v
        smooth = self.label_smoothing
        return {NLL: (1 - smooth) * v, NLL_ALL: smooth / classes * v} if smooth else {NLL: v}

    def formula(self, fold: LabelFold, loss: str) -> tuple[Tensor, Tensor]:
        """Return Σ of the coefficients times the sums, and Σ w v."""
        weight = fold[WEIGHT]
        v = self.per_class("class_weight", weight.shape[1], loss)
        return numerator(self, fold, weight.shape[1], loss), weight if v is None else v.to(weight) * weight


@LOSSES.register
@dataclass(kw_only=True, eq=False, repr=False)
class FocalLoss(PixelLoss):
    r"""Focal loss, softmax form: cross entropy that looks away from pixels already right.

    With pixel weight w, class weight v and α per class::

        loss = Σ w v_y α_y (1 - p_y)^γ (-log p_y) / Σ w v_y

    α scales values and is not in the denominator; p_y comes from the unweighted cross entropy. γ = 0 is cross entropy.

    Args:
        gamma: γ >= 0.
        alpha: None, a number for all classes, or C numbers.
        normalize: ``"pixels"`` for the denominator above, ``"focal"`` for Σ w v_y (1 - p_y)^γ (differentiated as well).
        class_weight, link, ignore_index, reduction, per_image, align_corners, loss_weight, engine, inputs: as for
            :class:`CrossEntropyLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact, and finite where p_y reaches 1 also for 0 < γ < 1.

    Example:
        >>> FocalLoss(gamma=2.0, alpha=0.25)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017. ``normalize="focal"``: Sofiiuk et al., AdaptIS,
        ICCV 2019.
    """

    gamma: float = 2.0
    alpha: float | Sequence[float] | Tensor | None = None
    normalize: str = "pixels"

    per_class_options: ClassVar[tuple[str, ...]] = ("class_weight", "alpha")
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"gamma": 0.5, "alpha": 0.25},
        {"gamma": 1.5, "alpha": "random", "class_weight": "random", "per_image": True},
        {"gamma": 3.0, "normalize": "focal"},
        {"link": "identity"},
    )

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        self.require("gamma", is_number(self.gamma) and 0 <= self.gamma < float("inf"), "a finite number >= 0")
        self.require_one_of("normalize", ("pixels", "focal"))
        if isinstance(self.alpha, (int, float)):
            self.require("alpha", is_number(self.alpha) and self.alpha >= 0, "a number >= 0, or one for each class")
        else:
            self.keep_per_class("alpha")

    def wanted(self) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, self._focal) + ((("focal_weight", float(self.gamma)),) if self.normalize == "focal" else ())

    @property
    def _focal(self) -> Sum:
        return ("focal", float(self.gamma)) if self.gamma else NLL

    def coefficients(self, classes: int, loss: str) -> dict[Sum, Tensor]:
        """Return v α for the focal sum."""
        v = self.per_class("class_weight", classes, loss)
        v = ones(classes) if v is None else v
        alpha = self.alpha if isinstance(self.alpha, (int, float)) else self.per_class("alpha", classes, loss)
        return {self._focal: v if alpha is None else v * alpha}

    def formula(self, fold: LabelFold, loss: str) -> tuple[Tensor, Tensor]:
        """Return Σ v α times the focal sums, and Σ v times the normaliser's."""
        weight = fold["focal_weight", float(self.gamma)] if self.normalize == "focal" else fold[WEIGHT]
        v = self.per_class("class_weight", weight.shape[1], loss)
        return numerator(self, fold, weight.shape[1], loss), weight if v is None else v.to(weight) * weight


def numerator(loss: PixelLoss, fold: LabelFold, classes: int, name: str) -> Tensor:
    """Return the sums weighted by the loss's coefficients, ``[I, C]``."""
    weighted = [coef.to(fold.sums) * fold[key] for key, coef in loss.coefficients(classes, name).items()]
    return sum(weighted[1:], weighted[0])
