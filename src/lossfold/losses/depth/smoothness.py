"""Smoothness of depth and disparity, where the image is smooth."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.folds.checks import result_dtype
from lossfold.folds.pair.needs import check_beside
from lossfold.losses.base import Loss
from lossfold.losses.depth.given import maps, of_images, weights
from lossfold.losses.depth.invariant import per_image
from lossfold.losses.reduce import Addends, Last, divide
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class EdgeAwareSmoothnessLoss(Loss):
    """The steps of disparity between neighbours, less where the image has an edge: E |∂x d|·exp(−γ|∂x I|) + the same in y.

    |∂I| is the mean over the image's channels, E the mean over the pairs of neighbours in that direction.

    Args:
        edge_weight: γ; 0 makes it total variation.
        normalize: disparities over their image's mean, so that shrinking them does not pay.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range.

    Gradient:
        Exact for the prediction; 0 for a step of 0, and where nothing counts. None for the image.

    Example:
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
        >>> EdgeAwareSmoothnessLoss()(ramp, torch.zeros(1, 3, 8, 8))
        tensor(1.)

    Reference:
        Godard, Mac Aodha and Brostow, Unsupervised Monocular Depth Estimation with Left-Right Consistency, CVPR 2017;
        ``normalize``: Godard et al., Digging Into Self-Supervised Monocular Depth Estimation, ICCV 2019.
    """

    edge_weight: float = option(1.0, at_least=0)
    normalize: bool = option(False)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"edge_weight": 10.0, "normalize": True})

    def addends(self, pred: Tensor, image: Tensor, weight: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch: the sums of both directions, and their weights."""
        maps("pred", pred)
        images, _, *space = pred.shape
        channels = image.shape[1] if isinstance(image, Tensor) and image.dim() == 4 else 3
        check_beside("image", image, pred, ((images, channels, *space),), "pred")
        dtype = result_dtype(pred)
        w = weights(weight, pred)
        seen = w != 0
        d = torch.where(seen, pred.to(dtype), 0.0)
        image = torch.where(seen.any(1, keepdim=True), image.detach().to(dtype), 0.0)
        if self.normalize:
            mean = divide(of_images(w * d), of_images(w.expand_as(d)))
            d = d / (per_image(mean, d) + 1e-7)
        above, below = [], []
        for dim in (-1, -2):
            size = max(0, d.shape[dim] - 1)
            edge = image.diff(dim=dim).abs().mean(1, keepdim=True)
            both = torch.minimum(w.narrow(dim, 0, size), w.narrow(dim, d.shape[dim] - size, size))
            steps = d.diff(dim=dim).abs() * (-self.edge_weight * edge).exp()
            above.append(of_images(both * steps).sum())
            below.append(of_images(both.expand_as(steps)).sum())
        return Last(torch.stack(above), torch.stack(below)).addends(dtype)

    def forward(self, pred: Tensor, image: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: disparities (or flows) ``[B, C, H, W]``; float16, bfloat16, float32 or float64.
            image: what they are of, ``[B, any, H, W]`` in [0, 1].
            weight: ``[B, 1, H, W]``, ``[B, C, H, W]`` or ``[B, H, W]``, float >= 0 or bool; a step has its lesser end's.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, image, weight))
