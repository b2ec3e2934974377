"""From numerators and denominators to a number: the two means that all losses over folds have.

A formula gives numerators and denominators ``[..., I, X]``: I images, or 1 where the images' sums are added before; X classes or
channels, or 1 where the formula takes them together; in front, the means that the loss is a sum of. The first mean is
Σ_X above / Σ_X below. The second is that of the images' own losses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


class Ratio(NamedTuple):
    """Numerators and denominators ``[..., I, X]``."""

    above: Tensor
    below: Tensor

    def pooled(self) -> Tensor:
        """Return the mean over images and classes together, a scalar."""
        values = divide(total(self.above, (-2, -1)), total(self.below, (-2, -1)))
        return values if values.dim() == 0 else values.sum()

    def of_images(self) -> tuple[Tensor, Tensor]:
        """Return each image's own mean, ``[I]``, and whether anything counts in it."""
        below = total(self.below, (-1,))
        values, counts = divide(total(self.above, (-1,)), below), below.detach() != 0
        if values.dim() > 1:
            values, counts = values.flatten(0, -2).sum(0), counts.flatten(0, -2).any(0)
        return values, counts


def second_mean(values: Tensor, counts: Tensor | None) -> Tensor:
    """Return the mean of the images' (or samples') own losses ``[I]``.

    Those in which nothing counts have the loss 0. With ``counts`` they are left out of the mean (``per_image``); without, they are
    in it as 0 (``sample_wise``, as MMagic has it).
    """
    if counts is None:
        return values.sum() / max(1, len(values))
    return values.sum() / counts.sum().clamp_min(1)


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
