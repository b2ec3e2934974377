"""Histograms of errors: integers that add up to the same bits in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.folds.arithmetic import total_dtype

UNIT = 2.0**24  # histograms hold weights and positions as integers of 1 / UNIT
WHOLE, OF_UNIT = 28, 120  # powers of two: of the sum of weights in a histogram's units, and of these units at most
OCTAVES, REST = 16, 112  # of 1 + a hinge error: each in as many bins, and one bin for each further one


@dataclass(frozen=True)
class Bins:
    """A histogram of the errors for each class, foreground and background apart.

    Errors are those of the probabilities, |t - p|, in ``count`` equal bins; or with ``hinge`` those of the scores,
    max(0, 1 - z (2t - 1)), in bins that are patterns of the float 1 + error: (count - 112) / 16 of equal width in each of 16
    octaves, and one for each of 112 more.

    Args:
        sort: whether the errors themselves are collected instead, to be sorted; None where these are so few that this is cheaper.
    """

    count: int
    per_image: bool
    hinge: bool = False
    sort: bool | None = False

    def sorts(self, images: int, pixels: int) -> bool:
        """Whether the errors of this many images and pixels of each are to be sorted."""
        return 2 * pixels * (1 if self.per_image else images) < self.count if self.sort is None else self.sort


class Errors(NamedTuple):
    """The errors of each class, to be sorted: what is in a histogram whose bins are as many as they.

    Attributes:
        foreground: ``[I, C, P]`` bool.
        error: ``[I, C, P]``.
        w: their weights, ``[I, 1 or C, P]``.
    """

    foreground: Tensor
    error: Tensor
    w: Tensor

    def together(self) -> Errors:
        """Return those of all images together."""
        return self if len(self.error) == 1 else Errors(*(x.movedim(0, 1).flatten(1)[None] for x in self))

    def only(self, gate: Tensor) -> Errors:
        """Return those of the images that a gate ``[B]`` lets through."""
        return self._replace(w=torch.where(gate[:, None, None], self.w, 0.0))


def in_units(weight: Tensor | None, bins: Bins | None, launches: bool = False) -> tuple[Tensor | None, Tensor | None]:
    """Return weights in units that a histogram resolves, and these units ``[1 or B, 1, 1]``; None where there are none.

    A histogram holds integers. A power of two brings the sum of the weights (of each image, where it has a histogram of its own) to
    about 2^28: so multiples of 2^-24 are exact up to 2^53, and no weights are too small or too large as a whole.

    Args:
        weight, bins: the weights, and the histogram that they go to.
        launches: whether each of some ten small steps would be a launch.
    """
    if weight is None or bins is None or weight.dtype == torch.bool:
        return weight, None
    if launches and type(weight) is Tensor and weight.numel() and not torch.compiler.is_compiling():
        from lossfold.folds.gpu import units

        return units.in_units(weight, bins.per_image)
    dtype = total_dtype(weight)
    rows = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach()[:, None]
    total = rows.sum(1, dtype=dtype) if bins.per_image else rows.sum(dtype=dtype)[None]
    power = total / total.frexp().mantissa  # exactly 2^exponent
    unit = (power * 2.0**-WHOLE).nan_to_num(1.0, 1.0, 1.0).clamp(2.0**-OF_UNIT, 2.0**OF_UNIT)
    shape = (-1, *[1] * (weight.dim() - 1))
    return weight.to(dtype if weight.dtype == dtype else torch.float32) / unit.reshape(shape).to(total), unit[:, None, None]


def histogram(foreground: Tensor, w: Tensor, bin_: Tensor, position: Tensor, bins: Bins) -> Tensor:
    """Return what is in the bins, ``[I, 4, C, bins]`` as a label fold's table, of ``[B, C, P]`` pixels and weights ``w``."""
    images, classes, _ = position.shape
    rows = images if bins.per_image else 1
    image = torch.arange(images, device=w.device)[:, None, None] * (rows > 1)
    slot = ((image * 2 + ~foreground) * classes + torch.arange(classes, device=w.device)[:, None]) * bins.count + bin_
    slot = slot.flatten()

    def collect(share: Tensor) -> Tensor:
        return share.new_zeros(rows * 2 * classes * bins.count).scatter_add(0, slot, share.expand(position.shape).flatten())

    dtype = total_dtype(w)

    def collect_fixed(share: Tensor) -> Tensor:  # integers add up to the same bits in any order
        return collect((share.detach().to(dtype) * UNIT).round().long()).to(dtype) / UNIT

    position = position * w
    carrier = collect(position.to(dtype))  # has the gradient, and NaN if there is one
    positions = collect_fixed(position.nan_to_num(0)) + (carrier - carrier.detach())
    shape = (rows, 2, classes, bins.count)
    return torch.stack([collect_fixed(w.detach()).reshape(shape), positions.reshape(shape)], 2).flatten(1, 2)
