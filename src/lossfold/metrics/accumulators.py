"""Metrics over many batches, tiles and ranks: what they keep adds up, so no split changes the result."""
# ruff: noqa: N803 - C is the number of classes

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, distributed, nn
from typing_extensions import Self

from lossfold.errors import LossError, python_scalar
from lossfold.folds.arithmetic import buffers_apart
from lossfold.metrics import counts
from lossfold.metrics.ratios import Correct, Overlap, Ratio


class Accumulator(nn.Module):
    """Sums that add: over updates, over accumulators (``a + b``) and over ranks (``sync``).

    Keep it outside of a module that DDP wraps: DDP overwrites every rank's buffers with those of rank 0.
    """

    def __init__(self, options: dict[str, Any], **sums: Tensor) -> None:
        super().__init__()
        self.options, self.synced = {name: python_scalar(value) for name, value in options.items()}, False
        for name, value in sums.items():
            self.register_buffer(name, value)

    def measure(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return what a batch adds to each buffer."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """Return the metric of all that was added."""
        raise NotImplementedError

    def update(self, preds: Tensor, labels: Tensor) -> None:
        """Add a batch ``[B, *S]``, or a tile of one (with ``per_image`` whole images)."""
        self.refuse_synced("update")
        sums = list(self.buffers())
        added = self.measure(preds, labels)
        self.refuse_elsewhere("preds", added[0])
        for total, value in zip(sums, added, strict=True):
            total.add_(value)

    forward = update

    def reset(self) -> None:
        """Forget all that was added."""
        self.synced = False
        for total in self.buffers():
            total.zero_()

    def merge(self, other: Accumulator) -> Self:
        """Add what another accumulator with the same options holds, and return this one."""
        if type(other) is not type(self) or other.options != self.options or other.synced != self.synced:
            hint = "one of the two was synced" if repr(other) == repr(self) else ""
            raise LossError(type(self).__name__, "other", f"an accumulator like {self!r}", repr(other), hint)
        for total, value in zip(self.buffers(), other.buffers(), strict=True):
            total.add_(value.to(total.device))
        return self

    def __add__(self, other: Accumulator) -> Self:
        return copy.deepcopy(self).merge(other)

    def sync(self, group: distributed.ProcessGroup | None = None) -> Self:
        """Add up all ranks' sums in place, and return this one; nothing happens without a process group.

        After that every rank holds the sums of all, so further updates are refused until ``reset()``.
        """
        self.refuse_synced("sync")
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size(group) > 1:
            for total in self.buffers():
                distributed.all_reduce(total, group=group)
            self.synced = True
        return self

    def as_torchmetrics(self, *, mean: bool = False, **options: Any) -> Any:
        """Return a ``torchmetrics.Metric`` like it, which Lightning logs, resets and adds up over ranks.

        Args:
            mean: whether its ``compute()`` is the mean over the classes that have a value, a scalar for ``self.log``.
            options: further options of ``torchmetrics.Metric``.

        Raises:
            LossError: without torchmetrics.
        """
        from lossfold.metrics.trackers import as_torchmetrics  # which knows this class

        return as_torchmetrics(self, mean=mean, **options)

    def refuse_elsewhere(self, name: str, given: Tensor) -> None:
        """Refuse what is on another device than the sums."""
        own = next(self.buffers()).device
        if given.device != own:
            raise LossError(
                type(self).__name__, name, f"on the accumulator's device {own}", f"{given.device}", "move it: .to(device)"
            )

    def refuse_synced(self, what: str) -> None:
        """Refuse what would count pixels once for each rank."""
        if self.synced:
            raise LossError(type(self).__name__, what, "called before sync()", "sums of all ranks", "reset() first, or sync a copy")

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        with buffers_apart(self, fn, *self._buffers):
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.options.items())})"


class Confusion(Accumulator):
    """The confusion matrix of many batches, as :func:`lossfold.metrics.confusion`; ``compute`` returns int64 ``[C, C]``."""

    def __init__(self, C: int, ignore: int | None = None) -> None:
        C, ignore = map(python_scalar, (C, ignore))  # noqa: N806
        counts.check_classes("Confusion", C, ignore)
        super().__init__({"C": C, "ignore": ignore}, table=torch.zeros(C, C, dtype=torch.int64))
        self.table: Tensor

    def measure(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return a batch's matrix."""
        return (counts.count("Confusion", preds, labels, self.options["C"], self.options["ignore"], False)[0],)

    def compute(self) -> Tensor:
        """Return the matrix."""
        return self.table.clone()


class Means(Accumulator):
    """The means of several metrics over images: the sum of each one's values, and how many images have one."""

    total: Tensor
    count: Tensor

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the means over all images, by name."""
        return dict(zip(self.options["metrics"], (self.total / self.count).unbind(), strict=True))


class RatioAccumulator(Accumulator):
    """A ratio of counts; with ``per_image`` the sum of the images' values, and how many have one."""

    numerator: Tensor
    denominator: Tensor

    def __init__(self, spec: Ratio, options: dict[str, Any]) -> None:
        hint = "the function of the same name returns each image's value"
        if not isinstance(spec.per_image, bool):
            raise LossError(spec.name, "per_image", "True or False", repr(spec.per_image), hint)
        kind = torch.float64 if spec.per_image else torch.int64
        sums = {"numerator": torch.zeros(spec.width, dtype=kind), "denominator": torch.zeros(spec.width, dtype=torch.int64)}
        super().__init__(options, **sums)
        self.spec = spec

    def measure(self, preds: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return what a batch adds."""
        return self.spec.gather(preds, labels)

    def compute(self) -> Tensor:
        """Return the metric of all that was added."""
        return self.spec.result(self.numerator, self.denominator)


class _Classes(RatioAccumulator):
    dice = False

    def __init__(
        self, C: int, empty: float | str = 1.0, ignore: int | None = None, per_image: bool = False, fraction: bool = False
    ) -> None:
        shared = {"empty": empty, "ignore": ignore, "per_image": per_image, "fraction": fraction}
        super().__init__(Overlap(name=type(self).__name__, dice=self.dice, classes=C, **shared), {"C": C, **shared})  # type: ignore[arg-type]


class _Foreground(RatioAccumulator):
    dice = False

    def __init__(self, empty: float | str = 1.0, ignore: int | None = None, per_image: bool = True, fraction: bool = False) -> None:
        shared = {"empty": empty, "ignore": ignore, "per_image": per_image, "fraction": fraction}
        super().__init__(Overlap(name=type(self).__name__, dice=self.dice, binary=True, **shared), shared)  # type: ignore[arg-type]


class IoU(_Classes):
    """IoU of each class over many batches; options and result as for :func:`lossfold.metrics.iou`.

    Example:
        >>> metric = IoU(C=3, ignore=255)
        >>> metric.update(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long())
        >>> metric.compute().tolist()
        [100.0, 100.0, 100.0]
    """


class Dice(_Classes):
    """Dice of each class over many batches; options and result as for :func:`lossfold.metrics.dice`."""

    dice = True


class BinaryIoU(_Foreground):
    """IoU of the foreground over many batches; options and result as for :func:`lossfold.metrics.iou_binary`."""


class BinaryDice(_Foreground):
    """Dice of the foreground over many batches; options and result as for :func:`lossfold.metrics.dice_binary`."""

    dice = True


class Accuracy(RatioAccumulator):
    """Accuracy over many batches; options and result as for :func:`lossfold.metrics.accuracy`."""

    def __init__(
        self, C: int, ignore: int | None = None, per_image: bool = False, average: str = "pixels", fraction: bool = False
    ) -> None:
        shared = {"ignore": ignore, "per_image": per_image, "average": average, "fraction": fraction}
        super().__init__(Correct(name="Accuracy", classes=C, **shared), {"C": C, **shared})  # type: ignore[arg-type]
