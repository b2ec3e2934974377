"""The peak signal-to-noise ratio as a loss."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Fold, describe
from lossfold.folds.pair.given import Made, PairGiven
from lossfold.folds.pair.needs import PairNeeds
from lossfold.folds.pair.spec import PairSum
from lossfold.losses.pairs import Mean, PairLoss
from lossfold.losses.reduce import Ratio, divide
from lossfold.options import configured, option
from lossfold.registry import LOSSES

FLOOR = 1e-8  # what is added to a mean square, so that its logarithm is finite where it is 0


@LOSSES.register
@configured
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

    to_y: bool = option(False)

    has_map: ClassVar[bool] = False
    of_each: ClassVar[bool] = True

    def means(self) -> tuple[Mean, ...]:
        """Return the sums of each sample."""
        return (Mean(1, ((1, ("square", 0)),)),)

    @property
    def reading(self) -> tuple[str, ...]:
        """The pass reads lumas."""
        return ("luma", self.link) if self.to_y else ()

    def check(self, pred: Any, target: Any, weight: Any = None) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        given = super().check(pred, target, None if self.to_y else weight)
        if not self.to_y:
            return given
        if given.shape[1] != 3:
            raise wrong("pred", "RGB images [B, 3, *S] with to_y=True", describe(pred))
        given = self.checked(pred.narrow(1, 0, 1), target, weight)  # which has to fit the luma's one channel
        lumas = Made(luma, (pred,), (pred.dtype, self.link)), Made(luma, (target,), (pred.dtype, "identity"))
        return replace(given, pred=lumas[0], target=lumas[1])

    def needs(self, given: PairGiven | None = None) -> PairNeeds:
        """Return the sums that the formula reads; a luma is read as it is."""
        needs = super().needs(given)
        return needs.of_link("identity") if self.to_y else needs

    def formula(self, fold: Fold, given: PairGiven) -> Ratio:
        """Return each sample's decibels, and whether something counts in it, ``[B, 1]``."""
        where = self.where(given)
        square, area = (fold[PairSum(kind, 0.0, where)].sum(1, keepdim=True) for kind in ("square", "weight"))
        counts = area != 0
        return Ratio(torch.where(counts, 10 / math.log(10) * (divide(square, area) + FLOOR).log(), 0.0), counts.to(area.dtype))

    def unreduced(self, ratio: Ratio) -> Tensor:
        """Return the value of each sample, ``[B]``."""
        return ratio.above.squeeze(1)


def luma(image: Tensor, like: torch.dtype, link: str) -> Tensor:
    """Return RGB's luma ``[B, 1, *S]``, but for the offset 16 / 255: it falls out of a difference."""
    image = image.to(torch.promote_types(like, torch.float32))
    image = image.sigmoid() if link == "sigmoid" else image
    red, green, blue = (image.narrow(1, channel, 1) for channel in range(3))
    return (65.481 / 255 * red).add(green, alpha=128.553 / 255).add(blue, alpha=24.966 / 255)
