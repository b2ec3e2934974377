"""Losses that treat the background apart: it is looked away from, and the foreground is not."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Fold, Sum
from lossfold.losses.classes.areas import areas, sums_of_areas
from lossfold.losses.classes.averages import over_classes
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import LABELS, WEIGHT, Factor, ScoreLoss
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NLL: Sum = ("nll", 0.0)


@LOSSES.register
@configured
class AsymmetricFocalLoss(PixelLoss):
    r"""Cross entropy whose background alone is focal.

    With pixel weight w and class weight v, and class 0 as the background::

        loss = Σ w v_y l / Σ w v_y,    l = (1-δ) (1 - p_0)^γ (-log p_0) at y = 0,    δ (-log p_y) elsewhere

    and with ``link="sigmoid"``, where every channel is a foreground of its own::

        loss = Σ w v [δ t (-log p) + (1-δ) (1-t) p^γ (-log (1-p))] / Σ w v

    (of t between 0 and 1, p^γ (-log (1-p)) is :class:`FocalLoss`'s factor and cross entropy with that t). δ scales values and is
    not in the denominator. The published code clips p to [1e-7, 1 - 1e-7]; here nothing is clipped.

    Args:
        delta: δ in (0, 1), the weight of the foreground.
        gamma: γ >= 0, how much the background is looked away from.
        link: ``"softmax"`` for logits and labels, ``"sigmoid"`` for logits and masks ``[B, C, *S]`` of 0 and 1, ``"identity"`` for
            probabilities and either.
        class_weight, ignore_index, reduction, per_image, align_corners, resize, validate, loss_weight, engine, inputs: as for
            :class:`CrossEntropyLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact.

    Example:
        >>> AsymmetricFocalLoss(delta=0.6, gamma=0.5)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Yeung et al., Unified Focal Loss, Computerized Medical Imaging and Graphics 2022.
    """

    delta: float = option(0.7, more_than=0, less_than=1)
    gamma: float = option(2.0, between=(0, 1e6))

    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"gamma": 0.5, "class_weight": "random"},)
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({"link": "sigmoid", "gamma": 0.5},)

    @property
    def background(self) -> Sum:
        """The sum of the background's cross entropy, of labels."""
        return ("focal", float(self.gamma)) if self.gamma else NLL

    @property
    def background_of_masks(self) -> Sum:
        """The sum of the background's cross entropy, of masks."""
        return ("focal_not", float(self.gamma))

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        if kind != LABELS:
            return (WEIGHT, NLL, self.background_of_masks)
        return (WEIGHT, NLL, self.background) if self.gamma else (WEIGHT, NLL)

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v δ for the foreground's nll and v (1-δ) for the background's."""
        weights = self.per_class("class_weight", like)
        v: Factor = 1.0 if weights is None else weights
        if kind != LABELS:
            return {NLL: self.delta * v, self.background_of_masks: (1 - self.delta) * v}
        first = (torch.arange(like.shape[-1], device=like.device) == 0).to(like.dtype)
        fore, back = self.delta * (1 - first) * v, (1 - self.delta) * first * v
        return {NLL: fore, self.background: back} if self.gamma else {NLL: fore + back}


@LOSSES.register
@configured
class AsymmetricFocalTverskyLoss(ScoreLoss):
    r"""Tversky loss whose foreground alone is focal.

    Over the counted pixels, as for :class:`TverskyLoss`, and with class 0 as the background::

        TI_c = (Σ w p t + s) / (Σ w p t + (1-δ) FP + δ FN + s)
        loss_0 = 1 - TI_0,    loss_c = (1 - TI_c)^(1-γ) of the foreground

    With ``link="sigmoid"`` every channel is a foreground of its own, whose loss is the mean of these two, of what is not in it
    and of what is.

    Args:
        delta: δ in (0, 1), the weight of false negatives; that of false positives is 1 - δ.
        gamma: γ in [0, 1).
        smooth: s >= 0, added above and below; a score without a denominator is 1.
        absent, include_background, soft_overlap, class_weight, link, ignore_index, reduction, per_image, align_corners, resize,
            validate, loss_weight, engine, inputs: as for :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range.

    Gradient:
        Exact; 0 where nothing counts, and for the foreground at a loss of exactly 0.

    Example:
        >>> AsymmetricFocalTverskyLoss(delta=0.6, gamma=0.5)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Yeung et al., Unified Focal Loss, Computerized Medical Imaging and Graphics 2022.
    """

    delta: float = option(0.7, more_than=0, less_than=1)
    gamma: float = option(0.75, at_least=0, less_than=1)
    smooth: float = option(1e-7, at_least=0)
    absent: str = option("skip", words=("skip", "count", "zero"))
    include_background: bool = option(True)
    soft_overlap: str = option("distance", words=("distance", "product"))

    takes_normalizer: ClassVar[bool] = False
    dense_links: ClassVar[tuple[str, ...]] = ("softmax", "sigmoid", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"class_weight": "random", "absent": "count", "per_image": True},)
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ({"link": "sigmoid", "gamma": 0.5},)

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        channels = self.link != "sigmoid" or self.include_background
        self.require("include_background", channels, "left out with link='sigmoid'", "no channel is the background of the others")

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return sums_of_areas(kind, product=self.soft_overlap == "product")

    def missed(self, both: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Return 1 - TI."""
        errors = (1 - self.delta) * (predicted - both) + self.delta * (true - both)
        below = both + errors + self.smooth
        return errors / torch.where(below == 0, 1.0, below)

    def focal(self, missed: Tensor) -> Tensor:
        """Return (1 - TI)^(1-γ), flat where it has no finite slope."""
        if self.gamma == 0:
            return missed
        tiny = torch.finfo(missed.dtype).tiny
        return torch.where(missed <= tiny, 0.0, missed.clamp_min(tiny) ** (1 - self.gamma))

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the classes' costs and weights."""
        area = areas(fold, product=self.soft_overlap == "product")
        both, predicted, true, counted = area
        missed = self.missed(both, predicted, true)
        if self.link == "sigmoid":
            rest = self.missed(counted - predicted - true + both, counted - predicted, counted - true)
            return over_classes(self, area, (rest + self.focal(missed)) / 2)
        background = torch.arange(missed.shape[1], device=missed.device) == 0
        return over_classes(self, area, torch.where(background, missed, self.focal(missed)))
