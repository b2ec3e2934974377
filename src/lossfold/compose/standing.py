"""A whole that stands where a part stood: the one thing that sums over ranks and over parts do to gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Standing(torch.autograd.Function):
    """The whole's value; the part, of which it is a sum, takes the whole's gradient times a factor."""

    @staticmethod
    def forward(part: Tensor, whole: Tensor, factor: float) -> Tensor:
        """Return the whole."""
        return whole.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        """Keep the factor."""
        ctx.factor = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the part's gradient; nothing is sent."""
        return grad if ctx.factor == 1 else grad * ctx.factor, None, None


def standing(part: Tensor, whole: Tensor, factor: float = 1.0) -> Tensor:
    """Return a whole in the place of a part, both of one shape and dtype."""
    if not part.requires_grad:
        return whole
    found: Tensor = Standing.apply(part, whole, factor)
    return found
