"""Losses that are called as the heads of MMSegmentation and MMDetection call theirs."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossfold.errors import naming, wrong
from lossfold.losses.base import Loss, Summable
from lossfold.losses.reduce import REDUCTIONS
from lossfold.registry import snake_case

EPS = torch.finfo(torch.float32).eps  # beside avg_factor, there


class Call(NamedTuple):
    """What a head calls a loss with, and what it then goes by."""

    pred: Tensor
    target: Tensor
    weight: Tensor | None
    avg_factor: float | Tensor | None
    reduction: str
    ignore_index: int

    def divided(self, total: Tensor, elements: int) -> Tensor:
        """Return a sum as it is, or over ``avg_factor``, or over a number of elements."""
        if self.reduction == "sum":
            return total
        return total / elements if self.avg_factor is None else total / (self.avg_factor + EPS)


class HeadLoss(Summable):
    """A loss that is called as ``loss(pred, target, weight=, avg_factor=, reduction_override=, ignore_index=)``.

    Args:
        name: of the other library's class.
        options: that were given for it, for the representation.
        loss_name: the key in a head's dict of losses.
        loss_weight: a factor on the result.
        reduction: "mean", "sum" or "none".
        ignore_index: where a call does not say it.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        loss_name: str,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        self.name, self.options, self.loss_name = name, options, loss_name
        self.loss_weight, self.reduction, self.ignore_index = loss_weight, reduction, ignore_index
        if reduction not in REDUCTIONS:
            raise wrong("reduction", f"one of {', '.join(REDUCTIONS)}", repr(reduction))
        self.losses: dict[Any, Any] = {}  # of ours, by what calls have said

    def extra_repr(self) -> str:
        """Return the options."""
        return ", ".join(f"{key}={value!r}" for key, value in self.options.items())

    def _get_name(self) -> str:
        return self.name

    def __rmul__(self, factor: float) -> HeadLoss:
        scaled = copy.deepcopy(self)
        scaled.loss_weight = self.loss_weight * factor
        return scaled

    def ours(self, kind: type[Loss], **options: Any) -> Any:
        """Return a loss of ours, kept for the next call."""
        key = (kind, *sorted((name, repr(value)) for name, value in options.items()))
        if key not in self.losses:
            self.losses[key] = kind(**options)
        return self.losses[key]

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = None,
    ) -> Tensor:
        """Return the loss times its weight."""
        reduction = reduction_override or self.reduction
        ignore = self.ignore_index if ignore_index is None else ignore_index
        with naming(self.name):
            if reduction not in REDUCTIONS:
                raise wrong("reduction_override", f"one of {', '.join(REDUCTIONS)}", repr(reduction))
            if avg_factor is not None and reduction == "sum":
                raise wrong("avg_factor", "left out with reduction='sum'", repr(avg_factor))
            weight = weight if weight is None else weight.to(pred.dtype)  # MMDetection's are integers
            return self.loss_weight * self.value(Call(pred, target, weight, avg_factor, reduction, ignore))

    def value(self, call: Call) -> Tensor:
        """Return the loss before its weight."""
        raise NotImplementedError


class Called(HeadLoss):
    """A loss with lossfold's meaning, called as heads call: what they ignore is set, and ``avg_factor`` is ``normalizer``."""

    def __init__(self, *, inner: nn.Module, **shared: Any) -> None:
        super().__init__(**shared)
        self.inner = inner

    def value(self, call: Call) -> Tensor:
        """Return the loss, the total of a set's."""
        key = (call.ignore_index, call.reduction)
        if key not in self.losses:
            self.losses[key] = changed(self.inner, call.ignore_index, None if call.reduction == self.reduction else call.reduction)
        named = {"weight": call.weight, "normalizer": call.avg_factor}
        result = self.losses[key](call.pred, call.target, **{name: value for name, value in named.items() if value is not None})
        return getattr(result, "total", result)  # type: ignore[no-any-return]


def changed(loss: nn.Module, ignore_index: int, reduction: str | None) -> nn.Module:
    """Return a loss with another ignored label and, unless None, another reduction; of a set, each of its losses."""
    found = copy.deepcopy(loss)
    for one in [found] if hasattr(found, "ignore_index") else found.modules():
        if hasattr(one, "ignore_index"):
            one.ignore_index = ignore_index  # type: ignore[assignment]
    if reduction is not None:
        found.reduction = reduction  # type: ignore[assignment]
    return found


def called_by_heads(loss: nn.Module, name: str) -> nn.Module:
    """Return a loss of scores under a head's call; others as they are."""
    if not isinstance(loss, Summable) or not any(hasattr(one, "ignore_index") for one in loss.modules()):
        return loss
    loss_name = getattr(loss, "loss_name", None) or f"loss_{snake_case(name).removesuffix('_loss')}"
    own = {"reduction": getattr(loss, "reduction", "mean"), "ignore_index": getattr(loss, "ignore_index", -100)}
    return Called(inner=loss, name=name, options={}, loss_name=loss_name, **own)
