"""What losses of depth and flow are given: maps, and targets of which not every pixel was measured."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.arithmetic import total
from lossfold.folds.checks import result_dtype
from lossfold.folds.fold import describe
from lossfold.folds.looks import refuse_negative
from lossfold.folds.pair.needs import check_pair, check_pred, check_weights


class Measured(NamedTuple):
    """Maps ``[B, C, H, W]`` in the dtype that is computed in, 1 where nothing counts, and weights ``[B, 1 or C, H, W]``."""

    pred: Tensor
    target: Tensor
    weight: Tensor


def maps(argument: str, tensor: object) -> Tensor:
    """Refuse what are no maps ``[B, C, H, W]`` of floats."""
    tensor = check_pred(tensor, argument)
    if tensor.dim() != 4:
        hint = f"the channel is required: {argument}[:, None]" if tensor.dim() == 3 else ""
        raise wrong(argument, "[B, C, H, W]", describe(tensor), hint)
    return tensor


def weights(weight: Tensor | None, pred: Tensor) -> Tensor:
    """Return a call's weights as floats ``[B, 1 or C, H, W]``, ones where there are none."""
    dtype = result_dtype(pred)
    if weight is None:
        return torch.ones_like(pred[:, :1], dtype=dtype)
    weight = check_weights("weight", weight, pred)
    refuse_negative("weight", weight)
    return (weight if weight.dim() == 4 else weight.unsqueeze(1)).to(dtype)


def measured(pred: Tensor, target: Tensor, weight: Tensor | None, positive: bool) -> Measured:
    """Return checked maps, of which a pixel counts with its weight if its target was measured.

    Args:
        pred: what a network says.
        target: what was measured; what is not finite was not.
        weight: how much each pixel counts.
        positive: whether a target of 0 and below was not measured either.
    """
    check_pair(maps("pred", pred), target)
    dtype = result_dtype(pred)
    counts = weights(weight, pred)
    target = target.detach().to(dtype)
    there = target.isfinite() & (target > 0) if positive else target.isfinite()
    counts = torch.where(there, counts, torch.zeros_like(counts))
    seen = counts != 0
    return Measured(torch.where(seen, pred.to(dtype), 1.0), torch.where(seen, target, 1.0), counts)


def of_images(values: Tensor) -> Tensor:
    """Return each image's sum, ``[B]``, in float64 (float32 on devices without it)."""
    return total(values.contiguous().flatten(1))
