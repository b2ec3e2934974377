"""The decorator that makes a loss of a function of single elements: people's own pixel losses under the library's rules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossfold.errors import LossError, naming, python_scalar, wrong
from lossfold.folds.arithmetic import total
from lossfold.folds.checks import plain, result_dtype
from lossfold.folds.fold import describe
from lossfold.folds.looks import refuse_negative
from lossfold.folds.pair.needs import check_pair, check_weights
from lossfold.losses.reduce import REDUCTIONS, Addends, Last, divide, finished, second_mean

CALL = (
    *(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Tensor") for name in ("pred", "target")),
    inspect.Parameter("weight", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation="Tensor | None"),
    inspect.Parameter("reduction", inspect.Parameter.KEYWORD_ONLY, default="mean", annotation="str"),
    inspect.Parameter("sample_wise", inspect.Parameter.KEYWORD_ONLY, default=False, annotation="bool"),
)  # of every such loss, before the function's own options


def masked_loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a loss of a function of single elements: Σ w·f(p, t) / Σ w.

    It is called as ``loss(pred, target, weight=None, *, reduction="mean", sample_wise=False, **options)`` and has the rules of
    :class:`L1Loss`: a weight of one channel counts for all, ``sample_wise`` takes the mean of the samples' own means (0 where
    nothing counts), and where nothing counts at all the loss is 0 with a zero gradient.

    Args:
        function: ``f(pred, target, **options)`` gives for each element of tensors ``[B, C, *S]`` a number that depends on that
            element alone. It is called with float32 tensors (float64 for float64 predictions), whatever came. Where the weight
            is 0 it sees the values of an element that counts, so that no infinity or NaN gets into the result or a gradient.

    Returns:
        The loss. It takes ``reduction`` "mean", "sum" or "none" (a weighted value for each element) and returns float32 (float64
        for float64 predictions).

    Raises:
        LossError: for something that is no function of two tensors; in a call for options, shapes or dtypes that are out of range,
            and for a function that does not give a value for each element.

    Gradient:
        The function's own, times w / Σ w; to the target, the weight and tensors among the options as well.

    Example:
        >>> @masked_loss
        ... def log_cosh_loss(pred, target, steepness=1.0):
        ...     return (steepness * (pred - target)).cosh().log() / steepness
        >>> pred, target = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
        >>> log_cosh_loss(pred, target, torch.ones(2, 1, 8, 8), steepness=2.0)
        tensor(0.6625)
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not callable(function):
        raise LossError("masked_loss", "function", "a function f(pred, target, **options)", repr(function)[:80])
    options = own_options(name, function)

    def addends(
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        *,
        reduction: str = "mean",
        sample_wise: bool = False,
        **given: Any,
    ) -> Tensor | Addends:
        reduction, sample_wise = python_scalar(reduction), python_scalar(sample_wise)
        if reduction not in REDUCTIONS:
            raise wrong("reduction", "one of " + ", ".join(map(repr, REDUCTIONS)), repr(reduction))
        if not isinstance(sample_wise, bool) or (sample_wise and reduction != "mean"):
            raise wrong("sample_wise", "False, or True with reduction='mean'", f"{sample_wise!r} with {reduction!r}")
        image, truth = check_pair(*plain((pred, target)))
        weight = plain(weight)
        if weight is not None:
            weight = check_weights("weight", weight, image)
            refuse_negative("weight", weight)
            weight = weight if weight.dim() == image.dim() else weight.unsqueeze(1)
        dtype = result_dtype(image)
        values = weighted(functools.partial(function, **given), image.to(dtype), truth.to(dtype), weight)
        return values if reduction == "none" else added(values, weight, reduction, sample_wise)

    @functools.wraps(function)
    def loss(*inputs: Any, **named: Any) -> Tensor:
        with naming(name):
            return finished(addends(*inputs, **named))

    loss.addends = addends  # type: ignore[attr-defined]
    loss.__signature__ = inspect.Signature([*CALL, *options], return_annotation="Tensor")  # type: ignore[attr-defined]
    return loss


weighted_loss = masked_loss


def own_options(name: str, function: Callable[..., Tensor]) -> list[inspect.Parameter]:
    """Return a function's options, as a loss takes them by keyword; refuse those whose names the loss needs."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        hint = f"wrap it: lambda pred, target: {name}(pred, target)"
        raise LossError("masked_loss", "function", "one with a signature", name, hint) from None
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(by_position) < 2 and not any(p.kind == p.VAR_POSITIONAL for p in parameters):
        raise LossError(
            "masked_loss", "function", "one of (pred, target, **options)", f"{name}({', '.join(p.name for p in parameters)})"
        )
    options = [p for p in parameters if p not in by_position[:2] and p.kind != p.VAR_POSITIONAL]
    for option in options:
        if option.name in [parameter.name for parameter in CALL]:
            raise LossError(
                "masked_loss", "function", f"without {option.name!r} among its options", name, "the loss has one itself"
            )
    return [p if p.kind == p.VAR_KEYWORD else p.replace(kind=p.KEYWORD_ONLY) for p in options]


def weighted(function: Callable[[Tensor, Tensor], Tensor], pred: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return each element's weighted value."""
    if weight is None:
        return checked_values(function(pred, target), pred)
    if weight.requires_grad or not pred.numel():  # a value counts for the weight's gradient also where the weight is 0
        return weight.to(pred.dtype) * checked_values(function(pred, target), pred)
    # The first selection keeps what does not count from the function, and whatever the function's slope is there from the
    # gradient; the second keeps the value itself from the sum.
    counted = (weight != 0).expand_as(pred)
    safe = counted.flatten().to(torch.uint8).argmax()
    pred, target = (torch.where(counted, one, one.detach().take(safe)) for one in (pred, target))
    values = checked_values(function(pred, target), pred)
    return torch.where(counted, weight.to(pred.dtype) * values, 0.0)


def checked_values(values: object, pred: Tensor) -> Tensor:
    """Refuse what is no number for each element."""
    if not isinstance(values, Tensor) or values.shape != pred.shape or not values.is_floating_point():
        hint = "it is to return the loss of each element, before any mean"
        raise wrong("result of the function", f"a float tensor of pred's shape {list(pred.shape)}", describe(values), hint)
    return values.to(pred.dtype)


def added(values: Tensor, weight: Tensor | None, reduction: str, sample_wise: bool) -> Addends:
    """Return what adds up of weighted values, in float64 (float32 on devices without it)."""
    sums = total(values.contiguous().flatten(1))
    if reduction == "sum":
        return Last(sums.sum(), None).addends(values.dtype)
    if weight is None:
        areas = torch.full_like(sums, values[:1].numel())
    else:
        areas = values.shape[1] / weight.shape[1] * total(weight.to(values.dtype).contiguous().flatten(1))
    if sample_wise:
        return second_mean(divide(sums, areas)).addends(values.dtype)
    return Last(sums.sum(), areas.sum()).addends(values.dtype)
