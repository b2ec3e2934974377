"""How scores are brought to another size and gradients back, axis by axis, without atomics; hosts, for it imports Triton."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.folds.gpu import axes
from lossfold.folds.gpu.launch import WIDE, launch, options


class Line(NamedTuple):
    """Where places stand among nodes: x at (a x + b) / d; see :mod:`lossfold.folds.gpu.axes`."""

    a: int
    b: int
    d: int

    @property
    def most(self) -> int:
        """Return the most places of a cell."""
        return math.ceil(self.d / self.a)

    def long(self, places: int, nodes: int) -> bool:
        """Whether 32 bits do not hold what is computed of it, some lanes beyond the last place and the last node."""
        return max(self.a, self.d) * (4 * max(places, nodes) + 8 * WIDE) + abs(self.b) >= 2**31


def line(places: int, nodes: int, align_corners: bool) -> Line:
    """Return how places stand among nodes, in the smallest numbers."""
    a, b, d = 2 * nodes, nodes - places, 2 * places
    if align_corners and nodes > 1:
        a, b, d = nodes - 1, 0, max(places - 1, 1)
    common = math.gcd(a, b, d)
    return Line(a // common, b // common, d // common)


def full(scores: Tensor, space: torch.Size, align_corners: bool) -> Tensor:
    """Return ``[B, C, *space]``: scores of this size as they are, others in float32, contiguous."""
    if scores.shape[2:] == space:
        return scores
    found = scores.contiguous()
    for axis, places in enumerate(space, 2):
        if found.shape[axis] != places:
            found = _along(axes.spread, found, axis, places, line(places, found.shape[axis], align_corners))
    return found


def back(gradient: Tensor, scores: Tensor, align_corners: bool) -> Tensor:
    """Return the gradient of scores, given that of what :func:`full` made of them."""
    if gradient.shape == scores.shape:
        return gradient.to(scores.dtype)
    for axis in range(scores.dim() - 1, 1, -1):
        places, nodes = gradient.shape[axis], scores.shape[axis]
        if nodes != places:
            gradient = _along(axes.gather, gradient, axis, nodes, line(places, nodes, align_corners))
    return torch.empty_like(scores).copy_(gradient)


def _along(kernel: object, given: Tensor, axis: int, size: int, to: Line) -> Tensor:
    """Return float32 with another size along an axis."""
    shape = given.shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    result = torch.empty((*shape[:axis], size, *shape[axis + 1 :]), dtype=torch.float32, device=given.device)
    back = kernel is axes.gather
    nodes, places = (size, shape[axis]) if back else (shape[axis], size)
    last = inner == 1
    tiles = math.ceil((size if last else inner) / WIDE)
    numbers = (tiles, nodes, places, inner, *to, *((2 * to.most,) if back else ()))
    grid = (tiles * outer * (1 if last else size),)
    launch(kernel, grid, given, result, *numbers, LAST=last, LONG=to.long(places, nodes), BLOCK=WIDE, **options(4))
    return result
