"""The mean over classes that losses of areas have in common."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lossfold.losses.classes.areas import Areas
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import times


class Averaged(Protocol):
    """What a mean over classes goes by."""

    absent: str
    include_background: bool

    def per_class(self, name: str, like: Tensor) -> Tensor | None:
        """Return an option that holds a number for each class."""


def included(loss: Averaged, like: Tensor) -> Tensor | None:
    """Return the class weights ``[C]``, 0 for a background that is not included; None if all are 1."""
    v = loss.per_class("class_weight", like)
    if loss.include_background:
        return v
    foreground = torch.arange(like.shape[-1], device=like.device) > 0
    return foreground.to(like.dtype) if v is None else v * foreground


def over_classes(loss: Averaged, area: Areas, cost: Tensor) -> Ratio:
    """Return the classes' costs ``[I, C]`` and weights; ``absent`` says whether a class without pixels has these."""
    v = included(loss, area.true)
    present = area.true != 0
    costs = present if loss.absent != "count" else area.counted != 0
    counts = present if loss.absent == "skip" else area.counted != 0
    weights = counts.to(area.true.dtype) if v is None else torch.where(counts, v, 0.0)
    costs = costs if v is None else costs & (weights != 0)
    return Ratio(torch.where(costs, times(cost, v), 0.0), weights)
