"""The peak signal-to-noise ratio as a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lossfold.errors import LossError
from lossfold.folds.fold import describe
from lossfold.folds.pair import PairFold, PairGiven, PairNeeds, PairSum, check_pair
from lossfold.losses.base import divide
from lossfold.losses.pair import Mean, PairLoss
from lossfold.registry import LOSSES

FLOOR = 1e-8  # what is added to a mean square, so that its logarithm is finite where it is 0


@LOSSES.register
@dataclass(kw_only=True, eq=False, repr=False)
class PSNRLoss(PairLoss):
    """The negative peak signal-to-noise ratio in dB: the mean over samples of 10·log10(MSE_n + 1e-8), MSE_n = Σ w·(p − t)² / Σ w.

    For images in [0, 1]. -80 where prediction and target are equal. A sample in which nothing counts is left out of the mean.

    Args:
        to_y: compare the luma (65.481 R + 128.553 G + 24.966 B + 16) / 255 of RGB images (BT.601).
        link: "identity" takes ``pred`` as it is, "sigmoid" takes its sigmoid.
        reduction: "mean" and "sum" over samples, or "none": a value for each sample, ``[B]``.
        sample_wise: a sample in which nothing counts has the value 0 in the mean.
        engine, loss_weight, inputs: as for :class:`L1Loss`.

    Raises:
        LossError: as for :class:`L1Loss`; with ``to_y`` for other than three channels.

    Gradient:
        Exact, a sample's by 20 / ln 10 · w·(p − t) / (Σ w·(MSE_n + 1e-8)); 0 where prediction and target are equal.

    Example:
        >>> PSNRLoss()(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1))
        tensor(-20.0000)

    Reference:
        Chen et al., Simple Baselines for Image Restoration, ECCV 2022; the luma: ITU-R BT.601.
    """

    to_y: bool = False

    has_map: ClassVar[bool] = False
    apart = True

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        self.require("to_y", isinstance(self.to_y, bool), "True or False")

    def means(self) -> tuple[Mean, ...]:
        """Return the sums of each sample."""
        return (Mean(1, ((1, ("square", 0)),)),)

    @property
    def read(self) -> tuple[tuple[str, str], ...]:
        """How the luma is made."""
        return (("to_y", self.link),) if self.to_y else ()

    def check(self, loss: str, pred: object, target: object, weight: object = None) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        image, truth = check_pair(loss, pred, target)
        if not self.to_y:
            return self.checked(loss, image, truth, weight)
        if image.shape[1] != 3:
            raise LossError(loss, "pred", "RGB images [B, 3, *S] with to_y=True", describe(pred))
        dtype = torch.promote_types(image.dtype, torch.float32)
        image = image.to(dtype)
        return self.checked(loss, luma(image.sigmoid() if self.link == "sigmoid" else image), luma(truth.to(dtype)), weight)

    def asks(self, given: PairGiven | None = None) -> PairNeeds:
        """Return the sums that the formula reads; a luma is read as it is."""
        needs = super().asks(given)
        return replace(needs, spec=replace(needs.spec, link="identity")) if self.to_y else needs

    def decibels(self, fold: PairFold, given: PairGiven) -> tuple[Tensor, Tensor]:
        """Return each sample's value, and whether something counts in it."""
        where = self.where(given)
        square, area = (fold[PairSum(kind, 0.0, where)].sum(1) for kind in ("square", "weight"))
        counts = area != 0
        return torch.where(counts, 10 / math.log(10) * (divide(square, area) + FLOOR).log(), 0.0), counts

    def each_sample(self, fold: PairFold, loss: str, given: PairGiven) -> Tensor:
        """Turn a call's fold into the value of each sample."""
        return self.decibels(fold, given)[0].to(fold.dtype)

    def value(self, fold: PairFold, loss: str, given: PairGiven) -> Tensor:
        """Turn a call's fold into the loss."""
        each, counts = self.decibels(fold, given)
        if self.reduction == "none":
            return each.to(fold.dtype)
        if self.reduction == "mean":
            each = each / (max(1, len(each)) if self.sample_wise else counts.sum().clamp(min=1))
        return each.sum().to(fold.dtype)


def luma(image: Tensor) -> Tensor:
    """Return RGB's luma ``[B, 1, *S]``, but for the offset 16 / 255: it falls out of a difference."""
    red, green, blue = (image.narrow(1, channel, 1) for channel in range(3))
    return (65.481 / 255 * red).add(green, alpha=128.553 / 255).add(blue, alpha=24.966 / 255)
