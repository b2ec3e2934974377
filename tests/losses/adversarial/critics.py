"""Discriminators whose gradients are known, and a small network whose gradients are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import lossfold as lf

SHAPE = (3, 2, 4, 5)
Call = Callable[[Any, Tensor, "Tensor | None"], Tensor]
"""A penalty of (discriminator, images, mask)."""


def penalties(norm_mode: str = "pixel", **options: Any) -> dict[str, tuple[Call, float]]:
    """Each penalty as a function of one batch of images, and what it wants the norm to be.

    The gradient penalty's two batches are the same here, so that the place where it looks is known whatever it draws.
    """
    two, one, other = (
        kind(norm_mode=norm_mode, **options) for kind in (lf.GradientPenaltyLoss, lf.R1GradientPenalty, lf.R2GradientPenalty)
    )
    return {
        "GradientPenaltyLoss": (lambda d, x, mask=None: two(d, x, x, mask), 1.0),
        "R1GradientPenalty": (lambda d, x, mask=None: one(d, x, mask), 0.0),
        "R2GradientPenalty": (lambda d, x, mask=None: other(d, x, mask), 0.0),
    }


NAMES = tuple(penalties())


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape or SHAPE, generator=generator, dtype=torch.float64)


def holes(*shape: int, seed: int = 5) -> Tensor:
    """A mask [B, 1, *S] whose last image counts nothing."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(shape or (3, 1, 4, 5), generator=generator) < 0.6).double()
    mask[-1] = 0
    return mask


class Linear(nn.Module):
    """D(x) = w·x: its gradient is w."""

    def __init__(self, *shape: int, seed: int = 1) -> None:
        super().__init__()
        self.w = nn.Parameter(images(*(shape or SHAPE[1:]), seed=seed))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.w.to(x.dtype)).flatten(1).sum(1, keepdim=True)


class Quadratic(nn.Module):
    """D(x) = ½ xᵀAx: its gradient is (A + Aᵀ)x / 2."""

    def __init__(self, size: int, seed: int = 2) -> None:
        super().__init__()
        self.a = nn.Parameter(images(size, size, seed=seed) / size**0.5)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return 0.5 * torch.einsum("bi,ij,bj->b", flat, self.a.to(x.dtype), flat)

    def slope(self, x: Tensor) -> Tensor:
        symmetric = (self.a + self.a.T) / 2
        return (x.flatten(1) @ symmetric).view_as(x)


class Patches(nn.Module):
    """A small convolutional discriminator of patches, smooth."""

    def __init__(self, channels: int = 2, width: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.second = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, 1, 3, 2)
        for parameter in self.parameters():
            parameter.data = 0.7 * torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


class Dead(nn.Module):
    """D(x) = 0·w·x: connected, with a gradient of 0 everywhere."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(shape or SHAPE[1:], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.w.to(x.dtype)).flatten(1).sum(1)
