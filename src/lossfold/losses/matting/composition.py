"""Losses of the image that an alpha composes from a foreground and a background."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.pair.given import Made, PairGiven
from lossfold.folds.pair.needs import PairNeeds, check_beside, check_pair
from lossfold.losses.images.pixel import CharbonnierLoss, L1Loss, MSELoss
from lossfold.losses.pairs import PairLoss
from lossfold.options import configured
from lossfold.registry import LOSSES


@configured
class CompositionLoss(PairLoss):
    """A pixel loss between alpha·fg + (1 − alpha)·bg and the merged image."""

    def check(  # type: ignore[override]
        self, pred_alpha: Any, fg: Any, bg: Any, ori_merged: Any, weight: Any = None
    ) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        foreground, merged = check_pair(fg, ori_merged, ("fg", "ori_merged"))
        check_beside("bg", bg, foreground, (tuple(foreground.shape),), "fg")
        shape = tuple(foreground.shape)
        check_beside("pred_alpha", pred_alpha, foreground, ((shape[0], 1, *shape[2:]), shape), "fg")
        if not pred_alpha.is_floating_point():
            raise wrong("pred_alpha", "a float tensor", str(pred_alpha.dtype))
        given = self.checked(foreground, merged, weight)
        return replace(given, pred=Made(composed, (pred_alpha, foreground, bg), (self.link,)))

    @property
    def reading(self) -> tuple[str, ...]:
        """The pass reads the composed image."""
        return ("composed", self.link)

    def needs(self, given: PairGiven | None = None) -> PairNeeds:
        """Return the sums that the formula reads, of the composed image as it is."""
        return super().needs(given).of_link("identity")

    def forward(  # type: ignore[override]
        self, pred_alpha: Tensor, fg: Tensor, bg: Tensor, ori_merged: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss.

        Args:
            pred_alpha: ``[B, 1, H, W]`` alphas (logits with ``link="sigmoid"``), or one for each channel.
            fg: ``[B, C, H, W]`` foreground.
            bg: ``[B, C, H, W]`` background.
            ori_merged: ``[B, C, H, W]`` the image that was composed with the true alpha, in the same range.
            weight: ``[B, 1, H, W]``, ``[B, C, H, W]`` or ``[B, H, W]`` float weights >= 0 or a boolean mask.

        Returns:
            A scalar, float32 (float64 for float64 inputs); with ``reduction="none"`` a weighted value for each element.
        """
        return self.weigh(self.evaluate(pred_alpha, fg, bg, ori_merged, weight))


@LOSSES.register
@configured
class L1CompositionLoss(CompositionLoss, L1Loss):
    """The absolute error of the composed image: Σ w·|alpha·fg + (1 − alpha)·bg − merged| / Σ w.

    Args:
        link: "identity" for alphas, "sigmoid" for logits.
        reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1Loss`.

    Raises:
        LossError: for options, shapes or dtypes that are out of range.

    Gradient:
        To alpha, foreground and background; 0 where the images are equal.

    Example:
        >>> fg, bg = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
        >>> L1CompositionLoss()(torch.full((1, 1, 4, 4), 0.5), fg, bg, fg)
        tensor(0.5000)

    Reference:
        Xu et al., Deep Image Matting, CVPR 2017.
    """


@LOSSES.register
@configured
class MSECompositionLoss(CompositionLoss, MSELoss):
    """The squared error of the composed image: Σ w·(alpha·fg + (1 − alpha)·bg − merged)² / Σ w.

    Args:
        link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1CompositionLoss`.

    Raises:
        LossError: as for :class:`L1CompositionLoss`.

    Gradient:
        To alpha, foreground and background.

    Example:
        >>> fg, bg = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
        >>> MSECompositionLoss()(torch.full((1, 1, 4, 4), 0.5), fg, bg, fg)
        tensor(0.2500)

    Reference:
        Xu et al., Deep Image Matting, CVPR 2017.
    """


@LOSSES.register
@configured
class CharbonnierCompLoss(CompositionLoss, CharbonnierLoss):
    """The Charbonnier error of the composed image: Σ w·√((alpha·fg + (1 − alpha)·bg − merged)² + eps) / Σ w.

    Args:
        eps: what is added under the root, > 0.
        link, reduction, sample_wise, engine, loss_weight, inputs: as for :class:`L1CompositionLoss`.

    Raises:
        LossError: as for :class:`L1CompositionLoss`.

    Gradient:
        To alpha, foreground and background.

    Example:
        >>> fg, bg = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
        >>> CharbonnierCompLoss()(torch.full((1, 1, 4, 4), 0.5), fg, bg, fg)
        tensor(0.5000)

    Reference:
        Xu et al., Deep Image Matting, CVPR 2017.
    """

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"eps": 1e-3, "sample_wise": True})


def composed(alpha: Tensor, fg: Tensor, bg: Tensor, link: str) -> Tensor:
    """Return alpha·fg + (1 − alpha)·bg, in float32 at least."""
    dtype = torch.promote_types(torch.promote_types(alpha.dtype, fg.dtype), torch.float32)
    alpha = alpha.to(dtype)
    alpha = alpha.sigmoid() if link == "sigmoid" else alpha
    return alpha * fg.to(dtype) + (1 - alpha) * bg.to(dtype)
