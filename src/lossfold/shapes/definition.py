"""Distance transforms in plain PyTorch, on every device: no loop over images or classes, no wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.engines.transforms import inside_transform
from lossfold.folds.arithmetic import widest_on

MOST = 3  # dimensions of space


def squares_to(sources: Tensor, spacing: list[float] | Tensor) -> Tensor:
    """Return the squared distance from each pixel to the nearest source, infinite without one.

    Args:
        sources: bool ``[N, *S]``.
        spacing: from pixel to pixel along each axis, ``[len(S)]`` of all, or ``[N, len(S)]``.

    Each axis in turn: the smallest of f(q) + (spacing (x - q))^2 over its places q, for each difference x - q at once.
    """
    wide = widest_on(sources.device)
    squares = torch.where(sources, torch.zeros((), dtype=wide, device=sources.device), torch.inf)
    for axis in range(1, sources.ndim):
        length = sources.shape[axis]
        apart: float | Tensor
        if isinstance(spacing, list):
            apart = spacing[axis - 1] ** 2
        else:
            apart = spacing[:, axis - 1].to(squares).square().view(-1, *[1] * (sources.ndim - 1))
        found = squares.clone()
        for step in range(1, length):
            reach, cost = length - step, apart * step**2
            for to, origin in ((step, 0), (0, step)):
                here = found.narrow(axis, to, reach)
                other = squares.narrow(axis, origin, reach) + cost
                if inside_transform():  # which have no rule for out=
                    here.copy_(torch.minimum(here, other))
                else:
                    torch.minimum(here, other, out=here)
        squares = found
    return squares


def distance(
    given: Tensor, classes: int, ignore_index: int, spacing: list[float], signed: bool, inner: float, outer: float, squared: bool
) -> Tensor:
    """Compute what the operator does: see :mod:`lossfold.shapes.operators`."""
    axes = given.ndim - 1
    steps: list[float] | Tensor = spacing[:axes] or [1.0] * axes
    if spacing != spacing[:axes] * len(given):  # numbers of samples have to be brought to where these are
        each = torch.tensor(spacing, dtype=torch.float64).view(len(given), -1).to(given.device, widest_on(given.device))
        steps = each.repeat_interleave(max(classes, 1), 0)
    codes = torch.arange(max(classes, 1), device=given.device).view(1, -1, *[1] * (given.ndim - 1))
    one = given[:, None].long() if classes else given[:, None]  # a uint8 would compare equal to an ignore_index below 0
    counts = one != ignore_index if classes else torch.ones_like(one)
    wanted = (one == codes) & counts if classes else one
    shape = wanted.shape

    def to(sources: Tensor) -> Tensor:
        return squares_to(sources.flatten(0, 1), steps).view(shape)

    inside = to(~wanted & counts)
    if squared or not signed:
        result = torch.where(wanted, inside, 0)
        result = result if squared else result.sqrt().float()
    else:
        far = torch.where(wanted, inside, to(wanted)).sqrt()
        result = torch.where(wanted, inner - far, far - outer)
        result = torch.where(far.isinf() | ~counts, 0, result).float()
    return result if classes else result[:, 0]
