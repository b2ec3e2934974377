"""The rule by which engines are judged: against a float64 truth no worse than plain PyTorch at that dtype."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.contract.case import Case, Data, evaluate, random_cotangent, result_dtype, slope_of


def plainly(case: Case, data: Data, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient of plain PyTorch at the data's dtype."""
    leaf = data.leaf()
    result = case.plain(leaf)
    return result.detach(), slope_of(result, leaf.pred, cotangent)


def truth_of(case: Case, data: Data, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient of plain PyTorch in float64."""
    return plainly(case, data.double(), cotangent)


def at_random(case: Case, data: Data) -> tuple[Tensor, Tensor, Tensor]:
    """A random cotangent of the result's shape, and value and gradient of plain PyTorch in float64 with it."""
    leaf = data.double().leaf()
    result = case.plain(leaf)
    cotangent = random_cotangent(result.shape)
    return cotangent, result.detach(), slope_of(result, leaf.pred, cotangent)


def judge(
    case: Case,
    data: Data,
    *,
    saturated: bool = False,
    by_definition: bool = True,
    roundings: float = 0.0,
    engines: tuple[str | None, ...] | None = None,
) -> None:
    """At its dtype every engine is as near to the truth as plain PyTorch and as the definition.

    Args:
        case, data: the loss, and what it is given.
        saturated: every pixel is; see `rounding_of_p`.
        by_definition: False where the definition is lucky.
        roundings: by how many of a score of the data's size the value may be off, where plain PyTorch's may be exact by chance.
        engines: those that are judged, if not all; None for the fastest that serves.
    """
    data = case.settled(data)
    cotangent, truth, slope = at_random(case, data)
    naive, naive_slope = plainly(case, data, cotangent)
    defined = evaluate(case.build(engine="eager"), data, cotangent)
    reference, reference_slope = defined if by_definition else (naive, naive_slope)
    grain, slope_grain = case.grain, case.slope_grain(data, cotangent, saturated=saturated)
    grain += roundings * torch.finfo(result_dtype(data.pred.dtype)).eps * data.pred.abs().max().item()
    if data.pred.dtype == torch.float64:
        grain += case.truth_rounding * truth.abs().max().item()
        slope_grain += case.truth_rounding * slope.abs().max().item()
    for engine in case.engines if engines is None else engines:
        result, gradient = defined if engine == "eager" else evaluate(case.build(engine=engine), data, cotangent)
        assert result.dtype == result_dtype(data.pred.dtype) and gradient.dtype == data.pred.dtype
        no_worse(f"{engine}, value", result, truth, naive, reference, grain=grain, unit=case.unit)
        no_worse(f"{engine}, gradient", gradient, slope, naive_slope, reference_slope, grain=slope_grain)


def no_worse(
    what: str, actual: Tensor, truth: Tensor, naive: Tensor, reference: Tensor, *, grain: float = 0.0, unit: float = 0.0
) -> None:
    """Largest error at most twice plain PyTorch's and the definition's, plus rounding of the result.

    Values of scores round in units of 1: they are 1 minus a score, or the logarithm of a sum.
    """
    scale = max(truth.abs().max().item(), unit)
    steps = 64 if actual.dtype == torch.float64 else 4  # in float64 the truth is itself rounded, a thousand times
    rounding = steps * torch.finfo(actual.dtype).eps * scale + grain
    rounding += torch.finfo(actual.dtype).smallest_normal

    def error(tensor: Tensor) -> float:
        largest = (tensor.double() - truth).abs().max().item()
        return largest if math.isfinite(largest) else math.inf

    assert torch.isfinite(actual).all(), what
    errors = {"it": error(actual), "plain PyTorch": error(naive), "the definition": error(reference)}
    told = ", ".join(f"{name} {size / max(scale, 1e-300):.2e}" for name, size in errors.items())
    for size in (errors["plain PyTorch"], errors["the definition"]):
        assert errors["it"] <= 2 * size + rounding, f"{what}: errors {told}; rounding {rounding / max(scale, 1e-300):.2e}"
