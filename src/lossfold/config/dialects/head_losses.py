"""MMSegmentation's and MMDetection's losses on our folds: the sums are ours, the denominators theirs.

A mean there divides by ``avg_factor``, or by the number of all elements, whether they count or not; weights are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.config.dialects.heads import Call, HeadLoss
from lossfold.errors import wrong
from lossfold.folds.arithmetic import equals
from lossfold.folds.fold import Sum
from lossfold.losses.base import Loss
from lossfold.losses.classes.cross_entropy import CrossEntropyLoss
from lossfold.losses.classes.ohem import HARD_WEIGHT, OhemCrossEntropyLoss
from lossfold.losses.classes.overlap import DiceLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.losses.scores import Factor
from lossfold.options import configured


class ChosenClass(HeadLoss):
    """Cross entropy of one class for each pixel.

    ``weighted_mean`` says whether class weights are in the mean's denominator (MMSegmentation) or not (MMDetection).
    """

    def __init__(self, *, class_weight: Sequence[float] | None, avg_non_ignore: bool, weighted_mean: bool, **shared: Any) -> None:
        super().__init__(**shared)
        self.class_weight, self.avg_non_ignore, self.weighted_mean = class_weight, avg_non_ignore, weighted_mean

    def value(self, call: Call) -> Tensor:
        """Return the cross entropy."""
        shape, ignore = call.target.shape, call.ignore_index
        if call.pred.dim() == 2:
            weight = call.weight if call.weight is None else call.weight[:, None]
            call = call._replace(pred=call.pred[:, :, None], target=call.target[:, None], weight=weight)
        reduction = "none" if call.reduction == "none" else "sum"
        loss = self.ours(CrossEntropyLoss, reduction=reduction, ignore_index=ignore, class_weight=self.class_weight)
        total: Tensor = loss(call.pred, call.target, call.weight)
        if reduction == "none":
            return total.reshape(shape)
        if call.avg_factor is None and self.class_weight is not None and self.weighted_mean:
            v = loss.per_class("class_weight", total)
            counted = v[call.target.clamp(0, len(v) - 1).long()]
            call = call._replace(avg_factor=torch.where(equals(call.target, ignore), 0.0, counted).sum())
        elif call.avg_factor is None and self.avg_non_ignore:
            call = call._replace(avg_factor=(~equals(call.target, ignore)).sum())
        return call.divided(total, call.target.numel())


class EachChannel(HeadLoss):
    """Losses of each channel by itself: ``kind`` is the binary cross entropy or the focal loss, ``given`` its options.

    ``background`` says that a single channel is a class, too, of which label 0 is the foreground (MMDetection).
    """

    def __init__(
        self, *, kind: type[Loss], given: dict[str, Any], avg_non_ignore: bool = False, background: bool = False, **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.kind, self.given, self.avg_non_ignore, self.background = kind, given, avg_non_ignore, background

    def value(self, call: Call) -> Tensor:
        """Return the loss of elements of the scores' shape; labels are one channel of ones among zeros."""
        pred, target, weight = call[:3]
        if self.given.get("pos_weight") is not None and pred.dim() != 2:
            along = "left out but for scores [N, C]: it multiplies along the last dimension"
            raise wrong("class_weight", along, f"scores {list(pred.shape)}")
        counted = (target >= 0) & (target != call.ignore_index)
        if pred.dim() == target.dim() + 1 and pred.shape[1] == 1 and not self.background:
            pred = pred.squeeze(1)
        if pred.dim() == target.dim():
            target = torch.where(counted, target, torch.zeros_like(target))
            target = target if target.dtype == torch.bool else target.to(pred.dtype)
        else:
            target, counted = one_hot(target, pred.shape[1]), counted.unsqueeze(1).expand(pred.shape)
            weight = weight if weight is None else weight.unsqueeze(1)
        kept = counted if weight is None else counted * weight.reshape(*weight.shape, *[1] * (pred.dim() - weight.dim()))
        loss = self.ours(self.kind, reduction="none" if call.reduction == "none" else "sum", **self.given)
        total: Tensor = loss(*(one.expand(pred.shape).reshape(as_dense(pred)) for one in (pred, target, kept)))
        if call.reduction == "none":
            return total.reshape(pred.shape)
        if call.avg_factor is None and self.avg_non_ignore:
            call = call._replace(avg_factor=counted.sum())
        return call.divided(total, pred.numel())


class MaskDice(HeadLoss):
    """Dice of each row of the batch, all channels together; ignored labels are pixels without a class, which count."""

    def __init__(self, *, link: str, naive: bool, eps: float, without: int | None = None, **shared: Any) -> None:
        super().__init__(**shared)
        self.link, self.without = link, without
        self.form = {"smooth": eps} if naive else {"smooth": 0.0, "eps": 2 * eps, "squared": True}

    def value(self, call: Call) -> Tensor:
        """Return the mean of the rows' losses, or their sum over ``avg_factor``."""
        pred, target = call.pred, call.target
        target = one_hot(target, pred.shape[1]) if pred.shape != target.shape else target.to(pred.dtype)
        if pred.dim() == 2:
            pred, target = pred[:, None], target[:, None]
        link = "identity" if self.link == "softmax" and pred.shape[1] == 1 else self.link
        options = {"link": link, "average": "micro", "per_image": True, "soft_overlap": "product", "reduction": "none", **self.form}
        if self.without is not None and 0 <= self.without < pred.shape[1]:
            options["class_weight"] = [float(c != self.without) for c in range(pred.shape[1])]
        rows: Tensor = self.ours(DiceLoss, **options)(pred, target)
        if call.weight is not None and call.weight.shape != rows.shape:
            raise wrong("weight", f"[{len(rows)}], one for each row of the batch", f"{list(call.weight.shape)}")
        rows = rows if call.weight is None else rows * call.weight
        return rows if call.reduction == "none" else call.divided(rows.sum(), len(rows))


@configured
class HardPixels(OhemCrossEntropyLoss):
    """Cross entropy over the hard pixels, whose mean divides by their number: class weights are not in it."""

    def denominators(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return 1 for each hard pixel."""
        return {HARD_WEIGHT: 1.0}


class Whole(HeadLoss):
    """A loss of ours as it is, for an ignored label; pixel weights change nothing there."""

    def __init__(self, *, for_label: Callable[[int], Loss], **shared: Any) -> None:
        super().__init__(**shared)
        self.for_label = for_label

    def value(self, call: Call) -> Tensor:
        """Return the loss."""
        if call.avg_factor is not None:
            raise wrong("avg_factor", "left out: this loss has a denominator of its own", repr(call.avg_factor))
        if call.ignore_index not in self.losses:
            self.losses[call.ignore_index] = self.for_label(call.ignore_index)
        return self.losses[call.ignore_index](call.pred, call.target)  # type: ignore[no-any-return]


class Boundary(HeadLoss):
    """PIDNet's boundary loss: positives weigh the share of negatives, negatives that of positives; the mean is over all pixels."""

    def value(self, call: Call) -> Tensor:
        """Return the balanced binary cross entropy."""
        target = call.target.reshape(call.pred.shape)
        positive, negative = target == 1, target == 0
        counts = torch.stack([positive.sum(), negative.sum()])
        share = counts / counts.sum().clamp_min(1)
        balance = torch.where(positive, share[1], torch.where(negative, share[0], 0.0)).to(call.pred.dtype)
        return self.ours(BinaryCrossEntropyLoss, reduction="sum")(call.pred, positive, balance) / target.numel()  # type: ignore[no-any-return]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels ``[B, *S]`` as booleans ``[B, C, *S]``; what is no class is False everywhere."""
    return labels.unsqueeze(1) == torch.arange(classes, device=labels.device).view(-1, *[1] * (labels.dim() - 1))


def as_dense(scores: Tensor) -> tuple[int, ...]:
    """Return the shape ``[B, C, *S]`` that elements of any shape are seen in."""
    shape = tuple(scores.shape)
    return (1, 1, *shape) if len(shape) < 2 else (*shape, 1) if len(shape) == 2 else shape
