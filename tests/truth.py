"""The rule by which engines are judged: against a float64 truth no worse than plain PyTorch at that dtype."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests import plain
from tests.cases import Case, Data, evaluate
from tests.steps import resized, settled


def truth_of(case: Case, data: Data, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient of plain PyTorch in float64."""
    weight = None if data.weight is None else data.weight.double()
    leaf = Data(data.scores.detach().double().requires_grad_(), data.labels, weight)
    truth = plain.evaluate(case.name, *leaf.call, case.options)
    seed = torch.ones_like(truth) if cotangent is None else cotangent
    return truth.detach(), torch.autograd.grad(truth, leaf.scores, seed)[0]


def assert_no_worse(case: Case, data: Data, *label_dtypes: torch.dtype, saturated: bool = False) -> None:
    """At its dtype, and for labels of every dtype, the loss is as near to the truth as plain PyTorch and as the definition."""
    data = settled(case, data)
    cotangent = torch.randn(truth_of(case, data)[0].shape, dtype=torch.float64)
    truth, slope = truth_of(case, data, cotangent)
    leaf = data.leaf()
    naive = plain.evaluate(case.name, *leaf.call, case.options)
    (naive_slope,) = torch.autograd.grad(naive, leaf.scores, cotangent.to(naive))
    reference, reference_slope = evaluate(case.changed(engine="eager").build(), data, cotangent)
    rounding = rounding_of_p(case, data, cotangent, saturated=saturated)
    for label_dtype in label_dtypes or (torch.int64, torch.int32, torch.uint8):
        if label_dtype == torch.uint8 and case.ignore_index < 0:
            continue
        result, gradient = evaluate(case.build(), data.to(data.scores.dtype, label_dtype), cotangent)
        assert result.dtype == (torch.float64 if data.scores.dtype == torch.float64 else torch.float32)
        assert gradient.dtype == data.scores.dtype
        no_worse(result, truth, naive.detach(), reference, grain=case.grain, unit=1.0)
        no_worse(gradient, slope, naive_slope, reference_slope, grain=rounding)


def no_worse(
    actual: Tensor, truth: Tensor, naive: Tensor, reference: Tensor, factor: float = 2.0, grain: float = 0.0, unit: float = 0.0
) -> None:
    """Largest error at most `factor` times plain PyTorch's and the definition's, plus rounding of the result.

    Values round in units of 1: they are 1 minus a score, or the logarithm of a sum.
    """
    scale = max(truth.abs().max().item(), unit)
    steps = 64 if actual.dtype == torch.float64 else 4  # in float64 the truth is itself rounded, a thousand times
    rounding = steps * torch.finfo(actual.dtype).eps * scale + grain
    rounding += torch.finfo(actual.dtype).smallest_normal

    def error(tensor: Tensor) -> float:
        largest = (tensor.double() - truth).abs().max().item()
        return largest if math.isfinite(largest) else math.inf

    assert torch.isfinite(actual).all()
    errors = {"": error(actual), "plain PyTorch": error(naive), "the definition": error(reference)}
    told = ", ".join(f"{name or 'it'} {size / max(scale, 1e-300):.2e}" for name, size in errors.items())
    for size in (errors["plain PyTorch"], errors["the definition"]):
        assert errors[""] <= factor * size + rounding, f"relative errors {told}; rounding {rounding / max(scale, 1e-300):.2e}"


def rounding_of_p(case: Case, data: Data, cotangent: Tensor | None = None, *, saturated: bool = False) -> float:
    """What rounding p in float32 moves the gradient by: that of z is p times the difference of p's and their mean.

    It matters where nearly nothing is left of the difference, at saturated pixels: in a Lovász loss, where that of a class
    without foreground hangs on the one largest p, and at label resolution. Largest errors of thousands of pixels can be
    compared by a factor; those of one pixel, and that one saturated, are luck.

    Args:
        saturated: every pixel is: then a rounding of each adds up in the node they share, where plain PyTorch's p is exact.
    """
    low = data.scores.shape[2:] != data.labels.shape[1:]
    if case.link != "softmax" or (case.name != "LovaszLoss" and not low):
        return 0.0
    scores = data.scores.detach().double().requires_grad_()
    large = resized(case, Data(scores, data.labels))
    p = large.detach().softmax(1).requires_grad_()
    weight = None if data.weight is None else data.weight.double()
    result = plain.evaluate(case.name, p, data.labels, weight, case.options | {"link": "identity"})
    (slope,) = torch.autograd.grad(result, p, torch.ones_like(result) if cotangent is None else cotangent)
    terms = (p * slope).detach().abs()
    eps = torch.finfo(torch.float64 if data.scores.dtype == torch.float64 else torch.float32).eps
    if not saturated:
        return 4 * eps * terms.max().item()
    (nodes,) = torch.autograd.grad(large, scores, terms)
    return eps * nodes.max().item()
