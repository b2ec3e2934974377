"""Losses with MMSegmentation's and MMDetection's meaning, called as their heads call: the sums are ours, the denominators theirs.

A mean there divides by ``avg_factor``, or by the number of all elements, whether they count or not; weights are not in it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.errors import naming, wrong
from lossfold.folds.fold import Fold
from lossfold.losses.base import Loss, Summable
from lossfold.losses.classes.cross_entropy import CrossEntropyLoss
from lossfold.losses.classes.ohem import HARD_WEIGHT, OhemCrossEntropyLoss
from lossfold.losses.classes.overlap import DiceLoss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.losses.reduce import REDUCTIONS, Ratio
from lossfold.options import configured
from lossfold.registry import snake_case

EPS = torch.finfo(torch.float32).eps  # beside avg_factor, there


class HeadLoss(Summable):
    """A loss that is called as ``loss(pred, target, weight=, avg_factor=, reduction_override=, ignore_index=)``.

    Args:
        options: of the other library's class, as it was given them: for the representation.
        name: of that class.
        loss_name: the key in a head's dict of losses.
        loss_weight: a factor on the result.
        reduction: "mean", "sum" or "none".
        ignore_index: where a call does not say it.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        loss_name: str,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        ignore: int = -100,
    ) -> None:
        super().__init__()
        self.name, self.options, self.loss_name = name, options, loss_name
        self.loss_weight, self.reduction, self.ignore_index = loss_weight, reduction, ignore
        if reduction not in REDUCTIONS:
            raise wrong("reduction", f"one of {', '.join(REDUCTIONS)}", repr(reduction))
        self.losses: dict[Any, Any] = {}  # those in use, by what a call says

    def extra_repr(self) -> str:
        """Return the options."""
        return ", ".join(f"{key}={value!r}" for key, value in self.options.items())

    def _get_name(self) -> str:
        return self.name

    def __rmul__(self, factor: float) -> HeadLoss:
        scaled = copy.deepcopy(self)
        scaled.loss_weight = self.loss_weight * factor
        return scaled

    def ours(self, kind: type[Loss], **options: Any) -> Any:
        """Return a loss of ours, kept for the next call."""
        key = (kind, *sorted((name, repr(value)) for name, value in options.items()))
        if key not in self.losses:
            self.losses[key] = kind(**options)
        return self.losses[key]

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = None,
    ) -> Tensor:
        """Return the loss times its weight."""
        reduction = reduction_override or self.reduction
        with naming(self.name):
            if reduction not in REDUCTIONS:
                raise wrong("reduction_override", f"one of {', '.join(REDUCTIONS)}", repr(reduction))
            if avg_factor is not None and reduction == "sum":
                raise wrong("avg_factor", "left out with reduction='sum'", repr(avg_factor))
            ignore = self.ignore_index if ignore_index is None else ignore_index
            weight = weight if weight is None else weight.to(pred.dtype)  # MMDetection's are integers
            return self.loss_weight * self.value(pred, target, weight, avg_factor, reduction, ignore)

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the loss before its weight."""
        raise NotImplementedError


def divided(total: Tensor, elements: int, avg_factor: float | Tensor | None, reduction: str) -> Tensor:
    """Return a sum as it is, or over ``avg_factor``, or over a number of elements."""
    if reduction == "sum":
        return total
    return total / elements if avg_factor is None else total / (avg_factor + EPS)


class ChosenClass(HeadLoss):
    """Cross entropy of one class for each pixel.

    ``weighted_mean`` says whether class weights are in the mean's denominator (MMSegmentation) or not (MMDetection).
    """

    def __init__(self, *, class_weight: Sequence[float] | None, avg_non_ignore: bool, weighted_mean: bool, **shared: Any) -> None:
        super().__init__(**shared)
        self.class_weight, self.avg_non_ignore, self.weighted_mean = class_weight, avg_non_ignore, weighted_mean

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the cross entropy."""
        shape = target.shape
        if pred.dim() == 2:
            pred, target = pred[:, :, None], target[:, None]
            weight = weight if weight is None else weight[:, None]
        options = {"ignore_index": ignore, "class_weight": self.class_weight}
        if reduction == "none":
            return self.ours(CrossEntropyLoss, reduction="none", **options)(pred, target, weight).reshape(shape)  # type: ignore[no-any-return]
        loss = self.ours(CrossEntropyLoss, reduction="sum", **options)
        total = loss(pred, target, weight)
        if avg_factor is None and reduction == "mean" and self.class_weight is not None and self.weighted_mean:
            v = loss.per_class("class_weight", total)
            avg_factor = torch.where(target == ignore, 0.0, v[target.clamp(0, len(v) - 1).long()]).sum()
        if avg_factor is None and reduction == "mean" and self.avg_non_ignore:
            avg_factor = (target != ignore).sum()
        return divided(total, target.numel(), avg_factor, reduction)


class EachChannel(HeadLoss):
    """Losses of each channel by itself: ``make`` is the binary cross entropy or the focal loss with its options."""

    def __init__(
        self, *, kind: type[Loss], given: dict[str, Any], avg_non_ignore: bool = False, background: bool = False, **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.kind, self.given, self.avg_non_ignore, self.background = kind, given, avg_non_ignore, background

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the loss of elements of the scores' shape; labels are one channel of ones among zeros."""
        if self.given.get("pos_weight") is not None and pred.dim() != 2:
            raise wrong(
                "class_weight",
                "left out but for scores [N, C]: it multiplies along the last dimension",
                f"scores {tuple(pred.shape)}",
            )
        if pred.dim() == target.dim() + 1 and pred.shape[1] == 1 and not self.background:
            pred, target = pred.squeeze(1), target
        if pred.dim() == target.dim():
            counted = (target >= 0) & (target != ignore)
            target = torch.where(counted, target, torch.zeros_like(target))
        else:
            counted = ((target >= 0) & (target != ignore)).unsqueeze(1).expand(pred.shape)
            target = one_hot(target, pred.shape[1])
            weight = weight if weight is None else weight.unsqueeze(1).expand(pred.shape)
        shape, dense = pred.shape, as_dense(pred)
        kept = (
            counted.to(pred.dtype)
            if weight is None
            else counted * weight.reshape(weight.shape + (1,) * (pred.dim() - weight.dim()))
        )
        kept = kept.expand(shape).to(pred.dtype).reshape(dense)
        loss = self.ours(self.kind, reduction="none" if reduction == "none" else "sum", **self.given)
        result = loss(pred.reshape(dense), target.to(pred.dtype).reshape(dense), kept)
        if reduction == "none":
            return result.reshape(shape)  # type: ignore[no-any-return]
        if avg_factor is None and self.avg_non_ignore:
            avg_factor = counted.sum() if reduction == "mean" else None
        return divided(result, pred.numel(), avg_factor, reduction)


class MaskDice(HeadLoss):
    """Dice of each row of the batch, all channels together; ignored labels are pixels without a class, which count."""

    def __init__(self, *, link: str, naive: bool, eps: float, without: int | None = None, **shared: Any) -> None:
        super().__init__(**shared)
        self.without = without
        self.form = {"smooth": eps} if naive else {"smooth": 0.0, "eps": 2 * eps, "squared": True}
        self.link = link

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the mean of the rows' losses, or their sum over ``avg_factor``."""
        if pred.shape != target.shape:
            target = one_hot(target, pred.shape[1])
        if pred.dim() == 2:
            pred, target = pred[:, None], target[:, None]
        link = "identity" if self.link == "softmax" and pred.shape[1] == 1 else self.link
        shared = {"link": link, "average": "micro", "per_image": True, "soft_overlap": "product", "reduction": "none", **self.form}
        if self.without is not None and 0 <= self.without < pred.shape[1]:
            shared["class_weight"] = [float(c != self.without) for c in range(pred.shape[1])]
        rows = self.ours(DiceLoss, **shared)(pred, target.to(pred.dtype))
        rows = rows if weight is None else rows * weight
        return rows if reduction == "none" else divided(rows.sum(), len(rows), avg_factor, reduction)


@configured
class HardPixels(OhemCrossEntropyLoss):
    """Cross entropy over the hard pixels, whose mean divides by their number: class weights are not in it."""

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return Σ v times the sums over the hard pixels, and their number."""
        return Ratio(self.numerator(fold), fold[HARD_WEIGHT])


class Whole(HeadLoss):
    """A loss of ours as it is, under a head's call; ``with_ignore`` makes it for an ignored label."""

    def __init__(self, *, with_ignore: Callable[[int, str], Loss], **shared: Any) -> None:
        super().__init__(**shared)
        self.with_ignore = with_ignore

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the loss."""
        if avg_factor is not None:
            raise wrong("avg_factor", "left out: this loss has a denominator of its own", repr(avg_factor))
        key = (ignore, reduction)
        if key not in self.losses:
            self.losses[key] = self.with_ignore(ignore, reduction)
        loss = self.losses[key]
        return loss(pred, target) if weight is None else loss(pred, target, weight)  # type: ignore[no-any-return]


class Boundary(HeadLoss):
    """PIDNet's boundary loss: positives weigh the share of negatives, negatives that of positives; the mean is over all pixels."""

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the balanced binary cross entropy."""
        target = target.reshape(pred.shape)
        positive, negative = target == 1, target == 0
        counts = torch.stack([positive.sum(), negative.sum()])
        share = counts / counts.sum()
        balance = torch.where(positive, share[1], torch.where(negative, share[0], 0.0)).to(pred.dtype)
        total = self.ours(BinaryCrossEntropyLoss, reduction="sum")(pred, positive.to(pred.dtype), balance)
        return divided(total, pred.numel(), None, "mean")


class Called(HeadLoss):
    """A loss with lossfold's meaning, called as heads call: what they ignore is set, and ``avg_factor`` is ``normalizer``."""

    def __init__(self, *, inner: nn.Module, **shared: Any) -> None:
        super().__init__(**shared)
        self.inner = inner

    def extra_repr(self) -> str:
        """Return nothing: the loss itself is shown."""
        return ""

    def value(self, pred: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Any, reduction: str, ignore: int) -> Tensor:
        """Return the loss, the total of a set's."""
        key = (ignore, reduction)
        if key not in self.losses:
            self.losses[key] = changed(self.inner, ignore, reduction if reduction != self.reduction else None)
        named = {"weight": weight, "normalizer": avg_factor}
        result = self.losses[key](pred, target, **{name: value for name, value in named.items() if value is not None})
        return getattr(result, "total", result)  # type: ignore[no-any-return]


def changed(loss: nn.Module, ignore: int, reduction: str | None) -> nn.Module:
    """Return a loss with another ignored label and, unless None, another reduction; of a set, each of its losses."""
    found = copy.deepcopy(loss)
    scored = [found] if hasattr(found, "ignore_index") else [one for one in found.modules() if hasattr(one, "ignore_index")]
    for one in scored:
        one.ignore_index = ignore  # type: ignore[assignment]
    if reduction is not None:
        found.reduction = reduction  # type: ignore[assignment]
    return found


def called_by_heads(loss: nn.Module, name: str) -> nn.Module:
    """Return a loss of scores under a head's call; others as they are."""
    if not isinstance(loss, Summable) or not any(hasattr(one, "ignore_index") for one in loss.modules()):
        return loss
    loss_name = getattr(loss, "loss_name", None) or f"loss_{snake_case(name).removesuffix('_loss')}"
    ignore = getattr(loss, "ignore_index", -100)
    return Called(
        inner=loss, name=name, options={}, loss_name=loss_name, reduction=getattr(loss, "reduction", "mean"), ignore=ignore
    )


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels ``[B, *S]`` as booleans ``[B, C, *S]``; what is no class is False everywhere."""
    return labels.unsqueeze(1) == torch.arange(classes, device=labels.device).view(-1, *[1] * (labels.dim() - 1))


def as_dense(scores: Tensor) -> tuple[int, ...]:
    """Return the shape ``[B, C, *S]`` that elements of any shape are seen in."""
    shape = tuple(scores.shape)
    return (1, 1, *shape) if len(shape) < 2 else (*shape, 1) if len(shape) == 2 else shape
