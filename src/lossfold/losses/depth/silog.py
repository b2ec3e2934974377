"""Losses of depth that know no scale, by its logarithm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.losses.adversarial.slopes import root
from lossfold.losses.base import Loss
from lossfold.losses.depth.given import measured, of_images
from lossfold.losses.reduce import Addends, divide, second_mean
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class SILogLoss(Loss):
    """The scale-invariant error of log depth, √(E d² − λ·(E d)²), d = log p − log t, E the weighted mean over all pixels.

    A target that is 0, negative, infinite or NaN was not measured and does not count.

    Args:
        variance_focus: λ, from 0 (the error itself) to 1 (only what a factor on the depth does not mend). BTS has 0.85, Eigen et
            al. and Depth Anything V2 0.5.
        root: False leaves the root out, as Eigen et al. do.
        link: "identity" takes ``pred`` as depth, "log" as its logarithm.
        per_image: the mean of the images' own losses, of those in which something counts.
        eps: depths below it count as it.
        loss_weight: a factor on the result (10 in BTS).
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range.

    Gradient:
        Exact; 0 where the loss is 0, for depths below ``eps``, and where nothing counts. None for the target.

    Example:
        >>> depth = torch.rand(1, 1, 8, 8) + 1
        >>> SILogLoss(variance_focus=1.0, root=False)(2 * depth, depth) < 1e-6
        tensor(True)

    Reference:
        Eigen, Puhrsch and Fergus, Depth Map Prediction from a Single Image using a Multi-Scale Deep Network, NIPS 2014; the root:
        Lee et al., From Big to Small (BTS), 2019.
    """

    variance_focus: float = option(0.85, between=(0, 1))
    root: bool = option(True)
    link: str = option("identity", words=("identity", "log"))
    per_image: bool = option(False)
    eps: float = option(1e-6, more_than=0)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"variance_focus": 0.5, "root": False, "per_image": True})

    def addends(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch: the sums of w, w·d and w·d²; per image, the losses and their number."""
        p, t, w = measured(pred, target, weight, positive=True)
        away = (p if self.link == "log" else p.clamp_min(self.eps).log()) - t.log()
        away = torch.where(w != 0, away, 0.0)
        sums = torch.stack([of_images(w.expand_as(away)), of_images(w * away), of_images(w * away.square())])
        dtype = p.dtype
        if self.per_image:
            return second_mean(self.formula(sums), sums[0].detach() != 0).addends(dtype)
        return Addends((sums.sum(1),), lambda found: self.formula(found).to(dtype))

    def formula(self, sums: Tensor) -> Tensor:
        """Return the loss of sums ``[3, ...]``; its variance rounds in float64, and is never below 0."""
        mean, square = divide(sums[1], sums[0]), divide(sums[2], sums[0])
        value = (square - self.variance_focus * mean.square()).clamp_min(0)
        return root(value) if self.root else value

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: depths ``[B, C, H, W]`` (their logarithms with ``link="log"``); float16, bfloat16, float32 or float64.
            target: measured depths of the same shape; 0, infinite or NaN where there are none.
            weight: ``[B, 1, H, W]``, ``[B, C, H, W]`` or ``[B, H, W]`` float weights >= 0 or a boolean mask.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, target, weight))
