"""Losses of optical flow and stereo, of one prediction or of a sequence that is refined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.checks import result_dtype
from lossfold.folds.pair.needs import check_pair
from lossfold.losses.adversarial.slopes import root
from lossfold.losses.base import Loss
from lossfold.losses.depth.given import maps, of_images, weights
from lossfold.losses.reduce import Addends, Last
from lossfold.options import configured, option
from lossfold.registry import LOSSES

Flows = Tensor | Sequence[Tensor]


@LOSSES.register
@configured
class EPELoss(Loss):
    """The mean length of a flow's error, the end-point error; of a sequence of N predictions Σ_i gamma^(N−1−i)·E ‖p_i − t‖.

    A pixel whose target is infinite or NaN, or as long as ``max_flow``, does not count.

    Args:
        norm: "l2" for lengths, "l1" for the sum of absolute components (RAFT, which then divides by two components and by all
            pixels, those that do not count as well).
        gamma: how much less each prediction of a sequence counts than the next one.
        max_flow: targets of this length and above are taken for errors; None keeps all. RAFT has 400.
        exponent, eps: (‖p − t‖ + eps)^exponent in the place of the length: PWC-Net's robust form has 0.4 and 0.01 with "l1".
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range, and for an empty sequence.

    Gradient:
        Exact for the predictions; 0 where a prediction is right, and where nothing counts. None for the target.

    Example:
        >>> target = torch.zeros(1, 2, 8, 8)
        >>> EPELoss()([target + torch.tensor([3.0, 4.0])[:, None, None], target], target)  # 0.8 · 5 + 0
        tensor(4.)

    Reference:
        Teed and Deng, RAFT, ECCV 2020 (sequences); Sun et al., PWC-Net, CVPR 2018 (exponent).
    """

    norm: str = option("l2", words=("l2", "l1"))
    gamma: float = option(0.8, more_than=0, at_most=1)
    max_flow: float | None = option(None, of=float, more_than=0)
    exponent: float = option(1.0, more_than=0, at_most=2)
    eps: float = option(0.0, at_least=0)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"norm": "l1", "max_flow": 1.0, "exponent": 0.4, "eps": 0.01})

    def addends(self, pred: Flows, target: Tensor, weight: Tensor | None = None) -> Addends:
        """Return what adds up over parts of a batch."""
        flows: list[Any] = list(pred) if isinstance(pred, (list, tuple)) else [pred]
        if not flows:
            raise wrong("pred", "a flow [B, C, H, W], or a list of them", "an empty list")
        for flow in flows:
            check_pair(maps("pred", flow), target)
        dtype = result_dtype(flows[0])
        target, w = target.detach().to(dtype), weights(weight, flows[0])
        if w.shape[1] > 1:
            raise wrong("weight", "[B, 1, H, W] or [B, H, W]: the components of a flow count together", str(list(w.shape)))
        there = target.isfinite().all(1, keepdim=True)
        if self.max_flow is not None:
            there = there & (target.square().sum(1, keepdim=True) < self.max_flow**2)
        w = torch.where(there, w, 0.0)
        seen = w != 0
        target = torch.where(seen, target, 0.0)
        sums = []
        for place, flow in enumerate(flows):
            length = self.length(torch.where(seen, flow.to(dtype), 0.0) - target)
            sums.append(self.gamma ** (len(flows) - 1 - place) * of_images(w * length).sum())
        return Last(torch.stack(sums).sum(), of_images(w).sum()).addends(dtype)

    def length(self, error: Tensor) -> Tensor:
        """Return what the error of each pixel costs, ``[B, 1, H, W]``."""
        length = error.abs().sum(1, keepdim=True) if self.norm == "l1" else root(error.square().sum(1, keepdim=True))
        if self.exponent == 1:
            return length + self.eps if self.eps else length
        length = length + self.eps
        zero = length == 0  # where a power below 1 has no slope
        return torch.where(zero, 0.0, torch.where(zero, 1.0, length) ** self.exponent)

    def forward(self, pred: Flows, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            pred: a flow ``[B, 2, H, W]`` (a disparity ``[B, 1, H, W]``), or a list of them, the last the best; float16, bfloat16,
                float32 or float64.
            target: of the same shape; infinite or NaN where nothing was measured.
            weight: ``[B, 1, H, W]`` or ``[B, H, W]`` float weights >= 0 or a boolean mask, as of what is valid.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, target, weight))
