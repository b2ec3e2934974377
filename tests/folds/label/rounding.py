"""What rounding a probability does to the gradient of a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.contract.case import Data
from tests.folds.label import plain
from tests.folds.label.steps import resized

if TYPE_CHECKING:
    from tests.folds.label.cases import LabelCase


def rounding_of_p(case: LabelCase, data: Data, cotangent: Tensor | None = None, *, saturated: bool = False) -> float:
    """What rounding p in float32 moves the gradient by: that of z is p times the difference of p's and their mean.

    It matters where nearly nothing is left of the difference, at saturated pixels: in a Lovász loss, where that of a class
    without foreground hangs on the one largest p, where a map weighs each p, and at label resolution.
    Largest errors of thousands of pixels can be
    compared by a factor; those of one pixel, and that one saturated, are luck.

    Args:
        case, data, cotangent: the loss, what it is given, and what its result is contracted with.
        saturated: every pixel is: then a rounding of each adds up in the node they share, where plain PyTorch's p is exact.
    """
    low = data.pred.shape[2:] != data.truth.shape[1:]
    if case.link != "softmax" or (case.name != "LovaszLoss" and case.pixelwise and not low):
        return 0.0
    scores = data.pred.detach().double().requires_grad_()
    large = resized(case, data.with_pred(scores))
    p = large.detach().softmax(1).requires_grad_()
    weight = None if data.weight is None else data.weight.double()
    result = plain.evaluate(case.name, p, data.truth, weight, case.options | {"link": "identity"})
    (slope,) = torch.autograd.grad(result, p, torch.ones_like(result) if cotangent is None else cotangent)
    terms = (p * slope).detach().abs()
    eps = torch.finfo(torch.float64 if data.pred.dtype == torch.float64 else torch.float32).eps
    if not saturated:
        return 4 * eps * terms.max().item()
    (nodes,) = torch.autograd.grad(large, scores, terms)
    return eps * nodes.max().item()
