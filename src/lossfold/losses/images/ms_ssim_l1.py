"""The mixture of multi-scale structural similarity and absolute errors that networks for image restoration are trained with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import wrong
from lossfold.folds.checks import result_dtype
from lossfold.folds.looks import refuse_negative
from lossfold.folds.pair.needs import check_pair, check_weights
from lossfold.folds.window.definition import errors, shielded, weighted
from lossfold.folds.window.eager import blur
from lossfold.folds.window.spec import PADDINGS, WindowSpec
from lossfold.losses.base import Loss
from lossfold.losses.images.masked import added
from lossfold.losses.reduce import REDUCTIONS, Addends
from lossfold.options import configured, option
from lossfold.registry import LOSSES

REACH = 6.0  # standard deviations, beyond which a Gaussian's weights are below rounding


@LOSSES.register
@configured
class MSSSIML1Loss(Loss):
    """The mixture of Zhao et al. at each pixel, α·(1 − l_M·Π_j c_j) + (1 − α)·(G_M ∗ |p − t|) / data_range.

    l and c_j are SSIM's luminance and its contrast and structure under Gaussian windows of several standard deviations, all at full
    resolution; G_M is the widest, whose luminance counts. Each channel by itself.

    Args:
        alpha: the weight of structural similarity.
        sigmas: the windows' standard deviations, from the finest to the widest.
        window_size: the largest side of a window, odd; it cuts the widest off at two standard deviations, as the authors do.
        k1, k2: SSIM's constants beside means and beside variances.
        data_range: the difference of the largest and the smallest possible value.
        padding: "zeros" or "reflect" around the image.
        reduction: "mean", "sum", or "none": a weighted value for each pixel.
        sample_wise: every sample has a mean of its own, and the loss is their mean; an empty sample is 0.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range.

    Gradient:
        Exact, to any order; 0 where the images are equal around a pixel, and where nothing counts.

    Example:
        >>> MSSSIML1Loss()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
        tensor(0.)

    Reference:
        Zhao, Gallo, Frosio and Kautz, Loss Functions for Image Restoration With Neural Networks, IEEE Trans. Computational Imaging
        2017.
    """

    alpha: float = option(0.84, between=(0, 1))
    sigmas: Sequence[float] = option((0.5, 1.0, 2.0, 4.0, 8.0), count=(1, 16), more_than=0, at_most=1e3)
    window_size: int = option(33, between=(1, 255), odd=True)
    k1: float = option(0.01, between=(1e-6, 1e12))
    k2: float = option(0.03, between=(1e-6, 1e12))
    data_range: float = option(1.0, between=(1e-6, 1e12))
    padding: str = option("zeros", words=("zeros", "reflect"))
    reduction: str = option("mean", words=REDUCTIONS)
    sample_wise: bool = option(False)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"sigmas": (0.5, 1.5), "window_size": 5, "sample_wise": True},)

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        self.require("sample_wise", not self.sample_wise or self.reduction == "mean", "False unless reduction='mean'")

    def values(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return each pixel's loss, ``[B, C, H, W]``, not weighted."""
        dtype = result_dtype(pred)
        pred, target = pred.to(dtype), target.to(dtype)
        away, alike = (pred - target).abs() / self.data_range, torch.ones_like(pred)
        for place, sigma in enumerate(self.sigmas):
            window, c1, c2 = self.spec(sigma).constants
            u, v = errors(self.padded(pred, window), self.padded(target, window), window, c1, c2, blur)
            alike = alike * (1 - v)
            if place == len(self.sigmas) - 1:
                alike = alike * (1 - u)
                away = blur(self.padded(away, window), window)
        return self.alpha * (1 - alike) + (1 - self.alpha) * away

    def spec(self, sigma: float) -> WindowSpec:
        """Return the window of a standard deviation, as large as its weights are above rounding."""
        size = min(self.window_size, 2 * math.ceil(REACH * sigma) + 1)
        return WindowSpec(size, sigma, float(self.k1), float(self.k2), float(self.data_range), self.padding)

    def padded(self, image: Tensor, window: Sequence[float]) -> Tensor:
        """Return an image with a border, so that a window has a place around each pixel."""
        return functional.pad(image, (len(window) // 2,) * 4, PADDINGS[self.padding])

    def addends(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch."""
        pred, target = check_pair(pred, target)
        taps = max(len(self.spec(sigma).window) for sigma in self.sigmas)
        least = taps // 2 + 1 if self.padding == "reflect" else 1
        if pred.dim() != 4 or min(pred.shape[2:]) < least:
            hint = "the batch dimension is required: pred[None]" if pred.dim() == 3 else ""
            raise wrong("pred", f"[B, C, H, W] with sides of at least {least}", f"a tensor {list(pred.shape)}", hint)
        if weight is not None:
            weight = check_weights("weight", weight, pred)
            refuse_negative("weight", weight)
            weight = weight if weight.dim() == 4 else weight.unsqueeze(1)
            pred, target = shielded(pred, target, weight, taps, outside=True)
        values = weighted(self.values(pred, target), weight)
        if self.reduction == "none":
            return Addends((values,), lambda found: found)
        return added(values, weight, self.reduction, self.sample_wise)

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: images ``[B, C, H, W]``; float16, bfloat16, float32 or float64.
            target: of the same shape.
            weight: ``[B, 1, H, W]``, ``[B, C, H, W]`` or ``[B, H, W]``, float >= 0 or bool: of the windows around each pixel.

        Returns:
            A scalar, float32 (float64 for float64 predictions); with ``reduction="none"`` a weighted value for each pixel.
        """
        return self.weigh(self.evaluate(pred, target, weight))
