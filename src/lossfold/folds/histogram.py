"""Histograms of errors: integers that add up to the same bits in any order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNIT = 2.0**24  # histograms hold weights and positions as integers of 1 / UNIT
OCTAVES, REST = 16, 112  # of 1 + a hinge error: each in as many bins, and one bin for each further one


@dataclass(frozen=True)
class Bins:
    """A histogram of the errors for each class, foreground and background apart.

    Errors are those of the probabilities, |t - p|, in ``count`` equal bins; or with ``hinge`` those of the scores,
    max(0, 1 - z (2t - 1)), in bins that are patterns of the float 1 + error: (count - 112) / 16 of equal width in each of 16
    octaves, and one for each of 112 more.
    """

    count: int
    per_image: bool
    hinge: bool = False


def histogram(foreground: Tensor, w: Tensor, bin_: Tensor, position: Tensor, bins: Bins) -> Tensor:
    """Return what is in the bins, ``[I, 4, C, bins]`` as a label fold's table, of ``[B, C, P]`` pixels and weights ``w``."""
    images, classes, _ = position.shape
    rows = images if bins.per_image else 1
    image = torch.arange(images, device=w.device)[:, None, None] * (rows > 1)
    slot = ((image * 2 + ~foreground) * classes + torch.arange(classes, device=w.device)[:, None]) * bins.count + bin_
    slot = slot.flatten()

    def collect(share: Tensor) -> Tensor:
        return share.new_zeros(rows * 2 * classes * bins.count).scatter_add(0, slot, share.expand(position.shape).flatten())

    def collect_fixed(share: Tensor) -> Tensor:  # integers add up to the same bits in any order
        return collect((share.detach().double() * UNIT).round().long()).double() / UNIT

    position = position * w
    carrier = collect(position.double())  # has the gradient, and NaN if there is one
    positions = collect_fixed(position.nan_to_num(0)) + (carrier - carrier.detach())
    shape = (rows, 2, classes, bins.count)
    return torch.stack([collect_fixed(w.detach()).reshape(shape), positions.reshape(shape)], 2).flatten(1, 2)
