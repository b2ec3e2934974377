"""Class weights from the data, by one word."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

import lossfold as lf
from lossfold.folds.arithmetic import equals
from lossfold.losses.pixels import PixelLoss
from lossfold.train.data.base import Samples
from lossfold.train.errors import TrainError

Balance = Literal["balanced", "sqrt"]
"""Weights that are inversely proportional to a class's share of the pixels, or to the square root of it."""

LOOKED_AT, LARGEST = 64, 50.0
"""Training samples that are looked at, evenly spaced, and the largest weight."""


def class_counts(samples: Samples, classes: int, ignore_index: int) -> Tensor:
    """Count each class's pixels in the training samples, as they are varied, `[C]` int64."""
    count = min(LOOKED_AT, len(samples))
    counts = torch.zeros(classes, dtype=torch.int64)
    for index in range(count):
        _, labels = samples[index * len(samples) // count]
        counts += torch.bincount(labels[~equals(labels, ignore_index)].long().flatten(), minlength=classes)
    return counts


def weights_of(counts: Sequence[int] | Tensor, how: Balance) -> tuple[float, ...]:
    """Weights of the classes, whose mean over the pixels is 1 before the largest are cut to `LARGEST`.

    A class without pixels has the weight of the rarest that has some.

    Raises:
        TrainError: no pixel counts.
    """
    numbers = [int(count) for count in counts]
    known = [count for count in numbers if count]
    if not known:
        raise TrainError("model.class_weights: no pixel of the training samples counts; all are ignored")
    power = 1.0 if how == "balanced" else 0.5
    raw = [(max(count, min(known)) / sum(known)) ** -power for count in numbers]
    mean = math.fsum(weight * count for weight, count in zip(raw, numbers, strict=True)) / sum(known)
    return tuple(round(min(LARGEST, weight / mean), 4) for weight in raw)


def weigh(criterion: lf.LossSet, weights: tuple[float, ...]) -> None:
    """Give the weights to the losses that are means over pixels and have none; those of regions, as Dice, weigh classes equally.

    Raises:
        TrainError: there is no such loss.
    """
    takers = [loss for loss in criterion.modules() if isinstance(loss, PixelLoss) and loss.class_weight is None]
    if not takers:
        raise TrainError(
            "model.class_weights: no term of the loss is a mean over pixels without class weights of its own; add CrossEntropyLoss "
            "or FocalLoss, or leave it out"
        )
    for loss in takers:
        loss.class_weight = weights
