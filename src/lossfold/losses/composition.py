"""Losses of the image that an alpha composes from a foreground and a background."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import LossError
from lossfold.folds.pair import PairGiven, check_beside, check_pair
from lossfold.losses.pair import PairLoss
from lossfold.losses.pixel import CharbonnierLoss, L1Loss, MSELoss
from lossfold.registry import LOSSES


@dataclass(kw_only=True, eq=False, repr=False)
class CompositionLoss(PairLoss):
    """A pixel loss between alpha·fg + (1 − alpha)·bg and the merged image."""

    def check(  # type: ignore[override]
        self, loss: str, pred_alpha: object, fg: object, bg: object, ori_merged: object, weight: object = None
    ) -> PairGiven:
        """Refuse what can't be folded, or does not fit the options."""
        foreground, merged = check_pair(loss, fg, ori_merged, ("fg", "ori_merged"))
        check_beside(loss, "bg", bg, foreground, (tuple(foreground.shape),), "fg")
        shape = tuple(foreground.shape)
        check_beside(loss, "pred_alpha", pred_alpha, foreground, ((shape[0], 1, *shape[2:]), shape), "fg")
        assert isinstance(pred_alpha, Tensor) and isinstance(bg, Tensor)
        if not pred_alpha.is_floating_point():
            raise LossError(loss, "pred_alpha", "a float tensor", str(pred_alpha.dtype))
        dtype = torch.promote_types(torch.promote_types(pred_alpha.dtype, foreground.dtype), torch.float32)
        alpha = pred_alpha.to(dtype)
        alpha = alpha.sigmoid() if self.link == "sigmoid" else alpha
        composed = alpha * foreground.to(dtype) + (1 - alpha) * bg.to(dtype)
        return self.checked(loss, composed, merged, weight)

    @property
    def selects(self) -> bool:
        """What stands behind a gate is taken out before it is composed."""
        return True

    def gated(self, given: PairGiven, gate: Tensor) -> PairGiven:
        """Return what :meth:`behind` has cleared already."""
        return given

    def behind(self, gate: Tensor, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with zeros in place of the images that a gate holds back."""

        def kept(value: Any) -> Any:
            fits = isinstance(value, Tensor) and value.is_floating_point() and len(value) == len(gate)
            return torch.where(gate.view(-1, *[1] * (value.dim() - 1)), value, 0.0) if fits else value

        return tuple(map(kept, inputs)), {name: kept(value) for name, value in named.items()}

    @property
    def read(self) -> tuple[tuple[str, str], ...]:
        """How alpha is read."""
        return (("link", self.link),)

    def asks(self, given: PairGiven | None = None) -> Any:
        """Return the sums that the formula reads, of the composed image as it is."""
        needs = super().asks(given)
        return replace(needs, spec=replace(needs.spec, link="identity"))

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
        return self.loss_weight * self.raw(pred_alpha, fg, bg, ori_merged, weight)


@LOSSES.register
@dataclass(kw_only=True, eq=False, repr=False)
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
@dataclass(kw_only=True, eq=False, repr=False)
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
@dataclass(kw_only=True, eq=False, repr=False)
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
