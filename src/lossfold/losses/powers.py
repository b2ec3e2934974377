"""Powers of losses whose slope has an end: under 1 they are infinitely steep at 0, and make what rounding left there any size."""

from __future__ import annotations

import torch
from torch import Tensor

GRAIN = 1e-7
"""What float32 tells from 1 of a probability, and where Wong's own code of the exponential logarithmic loss ends."""


def power(x: Tensor, exponent: float) -> Tensor:
    """Return x^γ of numbers above 0: by logarithm, as PyTorch's power takes another function for the last elements of a row."""
    return (exponent * x.log()).exp()


def power_from_grain(x: Tensor, exponent: float) -> Tensor:
    """Return max(x, 1e-7)^γ."""
    return power(x.clamp_min(GRAIN), exponent)


def power_to_zero(x: Tensor, exponent: float) -> Tensor:
    """Return x^γ, and for γ < 1 the straight line from 0 to its value at 1e-7 below that; 0 below 0, where scores exceed 1."""
    x = x.clamp_min(0)
    if exponent >= 1:
        return x**exponent
    return torch.where(x < GRAIN, GRAIN ** (exponent - 1) * x, power_from_grain(x, exponent))
