"""From numerators and denominators to a number: the two means that all losses over folds have.

A formula gives numerators and denominators ``[..., I, X]``: I images, or 1 where the images' sums are added before; X classes or
channels, or 1 where the formula takes them together; in front, the means that the loss is a sum of. The first mean is
Σ_X above / Σ_X below. The second is that of the images' own losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


class Addends(NamedTuple):
    """What adds up over parts of a batch, those of ranks or micro-batches, and what the loss makes of the sums.

    Attributes:
        parts: tensors whose shapes are the same for every part.
        then: of their sums, the loss; or further addends, of a loss that has to know these sums first.
    """

    parts: tuple[Tensor, ...]
    then: Callable[..., Any]  # -> Tensor | Addends


def finished(value: Tensor | Addends) -> Tensor:
    """Return the loss of a batch that is in one part."""
    while isinstance(value, Addends):
        value = value.then(*value.parts)
    return value


class Last(NamedTuple):
    """The last ratio: a loss that is a sum of quotients, with numerators ``[...]`` and denominators that add up over parts.

    Without a denominator it is the sum of the numerators.
    """

    above: Tensor
    below: Tensor | int | None

    @property
    def value(self) -> Tensor:
        """The loss."""
        above, below = self
        if below is None:
            values = above
        elif not isinstance(below, Tensor):
            values = above / max(1, below)
        else:  # a number of images is counted
            values = divide(above, below) if below.is_floating_point() else above / below.clamp_min(1)
        return values if values.dim() == 0 else values.sum()

    def addends(self, dtype: torch.dtype) -> Addends:
        """Return what adds up, of a loss of this dtype."""
        below = self.below
        if isinstance(below, int):
            below = self.above.new_full((), below)
        parts = (self.above,) if below is None else (self.above, below)
        return Addends(parts, lambda above, below=None: Last(above, below).value.to(dtype))


def second_mean(values: Tensor, counted: Tensor | None = None) -> Last:
    """Return the mean of the images' own losses ``[I]``: of those that count (``per_image``), or of all (``sample_wise``)."""
    return Last(values.sum(), len(values) if counted is None else counted.sum())


def mean_of(values: Sequence[Tensor], weights: Sequence[float] = ()) -> Addends:
    """Return the sum of the means of some tensors, times weights (their mean, if there are none); the mean of nothing is 0."""
    factors = weights or [1 / len(values)] * len(values)
    above = torch.stack([factor * value.sum() for factor, value in zip(factors, values, strict=True)])
    below = torch.stack([above.new_full((), value.numel()) for value in values])
    return Last(above, below).addends(above.dtype)


class Ratio(NamedTuple):
    """Numerators and denominators ``[..., I, X]``."""

    above: Tensor
    below: Tensor

    def pooled(self) -> Last:
        """Return the mean over images and classes together."""
        return Last(total(self.above, (-2, -1)), total(self.below, (-2, -1)))

    def of_images(self) -> tuple[Tensor, Tensor]:
        """Return each image's own mean, ``[I]``, and whether anything counts in it."""
        below = total(self.below, (-1,))
        values, counts = divide(total(self.above, (-1,)), below), below.detach() != 0
        if values.dim() > 1:
            values, counts = values.flatten(0, -2).sum(0), counts.flatten(0, -2).any(0)
        return values, counts


def total(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Sum over dimensions; where each has one element, that is none."""
    if all(values.shape[dim] == 1 for dim in dims):
        return values.reshape(values.shape[: values.dim() - len(dims)])
    return values.sum(dims)


def divide(numerator: Tensor | float, denominator: Tensor) -> Tensor:
    """Divide; where nothing counts, that is where both are 0, the result is 0 with a zero gradient."""
    nothing = denominator == 0
    if denominator.requires_grad:  # a weight's gradient has to be 0 there, too
        return torch.where(nothing, 0.0, numerator / torch.where(nothing, 1.0, denominator))
    return numerator / (denominator + nothing)
