"""Mixtures of absolute errors and structural similarity."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.fold import Fold
from lossfold.folds.window.needs import WindowGiven, WindowNeeds
from lossfold.losses.images.ssim import WindowLoss
from lossfold.losses.reduce import Ratio
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class L1SSIMLoss(WindowLoss):
    """The loss of 3-D Gaussian splatting, (1 − λ)·Σ w·|p − t| / Σ w + λ·Σ w·(1 − SSIM) / Σ w, in one pass on CPUs.

    The first mean is over all pixels, the second over all places of the window.

    Args:
        ssim_weight: λ.
        padding: "zeros" has a place of the window around each pixel, and zeros around the image, as the authors' code does;
            "valid" puts the window where it fits; "reflect".
        window_size, sigma, k1, k2, data_range, window, link, validate, engine, loss_weight, inputs: as for :class:`SSIMLoss`.
        reduction: "mean"; "sum" puts sums for both means; "none" gives the loss of each sample and channel, ``[B, C]``.
        sample_wise: every sample has means of its own, and the loss is their mean; an empty sample is 0.

    Raises:
        LossError: as for :class:`SSIMLoss`.

    Gradient:
        Exact; that of |p − t| is 0 where prediction and target are equal. As for :class:`SSIMLoss`.

    Example:
        >>> L1SSIMLoss()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
        tensor(0.)

    Reference:
        Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, ACM TOG 2023.
    """

    ssim_weight: float = option(0.2, between=(0, 1))
    padding: str = option("zeros", words=("valid", "reflect", "zeros"))

    linear: ClassVar[bool] = True
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"window_size": 5, "padding": "valid", "ssim_weight": 0.5})

    @property
    def lasts(self) -> int:
        """How many numbers the last ratio has: two for each mean."""
        return super().lasts * (1 if self.apart or self.reduction == "sum" else 2)

    def needs(self, given: WindowGiven | None = None) -> WindowNeeds:
        """Return the fold that the formula reads."""
        return super().needs(given).asking(beside=True)

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the numerators and denominators of both means, ``[2, I, C]``."""
        above = (1 - self.ssim_weight) * fold["difference", 0.0], self.ssim_weight * fold["ssim_error", 0.0]
        return Ratio(torch.stack(above), torch.stack([fold["pixel_weight", 0.0], fold["weight", 0.0]]))

    def at_once(self, given: WindowGiven) -> Tensor | None:
        """Return the loss where one pass finds value and gradient."""
        return self.found_at_once(given, self.ssim_weight, 1 - self.ssim_weight)
