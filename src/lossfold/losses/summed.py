"""Losses that take a pass's map further in plain PyTorch: one number for each pixel, where no sum over pixels would do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.checks import result_dtype
from lossfold.folds.label.definition import sums_by_label
from lossfold.folds.label.needs import refusing_labels
from lossfold.folds.scores import Given
from lossfold.losses.reduce import Addends, Ratio
from lossfold.losses.scores import ScoreLoss


class SummedLoss(ScoreLoss):
    """A loss of labels that reads a map ``[B, *S]`` of them and sums it up itself, within the pixels of each class."""

    @property
    def folds(self) -> bool:
        """It is no formula over a fold."""
        return False

    def counted_pixels(self, given: Given) -> tuple[Tensor, Tensor]:
        """Return labels, 0 where nothing counts, and weights ``[B, *S]``; refuse labels that are none."""
        scores, labels, weight = given.tensors
        classes, ignored = scores.shape[1], self.ignored[0]
        labels = labels.long()  # a uint8 would compare equal to an ignore_index below 0
        counted = labels != ignored
        with refusing_labels(classes, labels, ignored):
            torch._assert_async(
                (~counted | ((labels >= 0) & (labels < classes))).all(),
                f"lossfold: a label is out of range [0, {classes}) and is not ignore_index={ignored}",
            )
        dtype = result_dtype(scores)
        w = counted.to(dtype) if weight is None else torch.where(counted, weight.to(dtype), 0.0)
        return torch.where(counted, labels, torch.zeros_like(labels)).long(), w

    def by_class(self, values: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return the sums of a map within the pixels of each class, ``[I, C]``: of each image, or of all together."""
        share, y = (x.flatten(1)[:, None] if x.dim() > 1 else x[:, None, None] for x in (values, labels))
        sums = sums_by_label(share, y, classes)
        return sums if self.by_image else sums.sum(0, keepdim=True)

    def sums_of(self, given: Given) -> tuple[Tensor, ...]:
        """Return what adds up over parts of a batch, ``[I, C]`` each."""
        raise NotImplementedError

    def ratio_of(self, *sums: Tensor) -> Ratio:
        """Return numerators and denominators of these sums."""
        raise NotImplementedError

    def direct(self, given: Given) -> Tensor:
        """Return the loss of checked arguments."""
        return self.settled(self.ratio_of(*self.sums_of(given)), result_dtype(given.scores))

    def added_directly(self, given: Given) -> Addends:
        """Return what adds up over parts of a batch."""
        sums, dtype = self.sums_of(given), result_dtype(given.scores)
        if self.by_image:
            return self.last(self.ratio_of(*sums)).addends(dtype)
        return Addends(sums, lambda *added: self.settled(self.ratio_of(*added), dtype))

    def numbers_for(self, name: str, scores: Tensor) -> Tensor | None:
        """Return an option that holds a number for each class, in the dtype of totals."""
        return self.per_class(name, scores.new_empty(0, dtype=total_dtype(scores)))

    def sums(self, kind: str) -> tuple[Any, ...]:
        """It reads no sums."""
        return ()
